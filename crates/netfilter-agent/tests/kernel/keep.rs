//! What control tells of doors, networks and published ports.

use steppe_api::v1::{self, DoorMode, DoorName, Expose, resource::Kind};

use crate::{
    control::{Control, workload, workload_id},
    net::{Container, Host},
};

/// A uid that no door is open for, and one that all are.
pub const NOBODY: u32 = 65_533;
pub const ALLOWED: u32 = 65_532;

/// These doors, the others off; the peers are all of 192.0.2.0/24 and 2001:db8::/64, their ports 20000 to 32000.
pub fn doors(modes: &[(DoorName, DoorMode)]) -> v1::Resource {
    let door = |(name, mode): &(DoorName, DoorMode)| v1::Door { name: (*name).into(), mode: (*mode).into() };
    let content = v1::Doors {
        doors: modes.iter().map(door).collect(),
        peers: vec!["192.0.2.0/24".into(), "2001:db8::/64".into()],
        local_uids: vec![ALLOWED],
        first_published_port: 20_000,
        last_published_port: 32_000,
    };
    v1::Resource { id: "doors".into(), kind: Some(Kind::Doors(content)) }
}

/// `br0` is the network of alice.
pub fn network() -> v1::Resource {
    network_of("alice", "br0", 30)
}

/// A network with 172.SECOND.0.0/24.
pub fn network_of(user: &str, bridge: &str, second: u8) -> v1::Resource {
    let content = v1::Network {
        user: user.into(),
        bridge: bridge.into(),
        subnet: format!("172.{second}.0.0/24"),
        gateway: format!("172.{second}.0.1"),
    };
    v1::Resource { id: format!("network {user}"), kind: Some(Kind::Network(content)) }
}

pub fn guarded(host: &Host, container: &Container) -> v1::Resource {
    let mut resource = workload(host, container);
    if let Some(Kind::Workload(workload)) = &mut resource.kind {
        workload.guarded = true;
    }
    resource
}

/// Of this container, whose name is `web[0]`.
pub fn published(protocol: v1::Protocol, port: u16, container: &Container, expose: Expose) -> v1::Resource {
    let content = v1::PublishedPort {
        protocol: protocol.into(),
        port: port.into(),
        workload: workload_id(container),
        expose: expose.into(),
        name: "web[0]".into(),
        user: "alice".into(),
        addresses: Vec::new(),
    };
    v1::Resource {
        id: format!("published {}", port_text(protocol, port)),
        kind: Some(Kind::PublishedPort(content)),
    }
}

/// The same at some addresses alone.
pub fn published_at(addresses: &[&str], resource: v1::Resource) -> v1::Resource {
    let Some(Kind::PublishedPort(port)) = resource.kind else { panic!("{resource:?}") };
    let addresses = addresses.iter().map(ToString::to_string).collect();
    v1::Resource { kind: Some(Kind::PublishedPort(v1::PublishedPort { addresses, ..port })), ..resource }
}

pub fn port_text(protocol: v1::Protocol, port: u16) -> String {
    let protocol = if protocol == v1::Protocol::Tcp { "tcp" } else { "udp" };
    format!("{port}/{protocol}")
}

impl Control {
    pub async fn list_doors(&mut self) -> v1::ListDoorsResponse {
        self.client.list_doors(v1::ListDoorsRequest {}).await.unwrap().into_inner()
    }

    /// What a door refused, or would have refused.
    pub async fn refused(&mut self, name: DoorName) -> u64 {
        let doors = self.list_doors().await.doors;
        doors.iter().find(|door| door.name() == name).unwrap().refused_total
    }

    /// The same by whom it was or what was tried: the ids of workloads, ports or the names of networks.
    pub async fn refused_of(&mut self, name: DoorName) -> Vec<(String, u64)> {
        let counts = self.list_doors().await.counts.into_iter().filter(|count| count.door() == name);
        let who = |count: &v1::DoorCount| match name {
            DoorName::Networks => count.name.clone(),
            DoorName::Published => count.port.clone(),
            _ => count.workload.clone(),
        };
        counts.map(|count| (who(&count), count.packets_total)).collect()
    }

    /// Turns one door, the others off.
    pub async fn keep(&mut self, name: DoorName, mode: DoorMode) {
        assert_eq!(self.upsert(vec![doors(&[(name, mode)])]).await, []);
    }
}

/// Tries what is refused, or is not, as the door is kept.
pub async fn in_each_mode(control: &mut Control, name: DoorName, mut passes: impl FnMut() -> bool) {
    for (mode, expected) in [(DoorMode::Enforce, false), (DoorMode::Audit, true), (DoorMode::Off, true)] {
        control.keep(name, mode).await;
        let before = control.refused(name).await;
        assert_eq!(passes(), expected, "{mode:?}");
        let counted = control.refused(name).await > before;
        assert_eq!(counted, mode != DoorMode::Off, "{mode:?} counts");
    }
}
