//! From one user's network nothing passes to any other bridge, nor from anywhere into it.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    time::Duration,
};

use steppe_api::v1::{DoorMode, DoorName, Protocol};

use crate::{
    agent::Agent,
    control::{Control, block_on, grant, service_port_with, virtual_ip},
    frames::{IPV4, Wire, ethernet, mac, udp},
    keep::{ALLOWED, NOBODY, doors, guarded, in_each_mode, network, network_of},
    net::{Container, Host, Namespace, receive},
    server::{Connection, Server, ask},
};

/// `a` and `b` are on alice's network, `far` on another bridge.
struct Stage {
    host: Host,
    agent: Agent,
    outside: Namespace,
    a: Container,
    b: Container,
    far: Container,
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let outside = host.neighbour();
    for subnet in ["172.30.0.0/24", "172.31.0.0/24"] {
        outside.ip(&format!("route add {subnet} via 192.0.2.1"));
    }
    let agent = Agent::start(&host, &[]);
    let [a, b] = [2, 3].map(|last| host.container(last));
    let far = host.container_on("br1", Ipv4Addr::new(172, 31, 0, 2));
    Stage { host, agent, outside, a, b, far }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        let mut resources = vec![network()];
        for container in [&self.a, &self.b, &self.far] {
            control.port_of(container).await;
            resources.push(guarded(&self.host, container));
        }
        assert_eq!(control.snapshot(resources).await, []);
        control
    }
}

fn passes(net: &Namespace, to: &Server) -> bool {
    match net.dial_for_a_moment(&to.address.to_string()) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "dropped in silence");
            false
        }
    }
}

#[test]
fn bridges_are_kept_apart() {
    let stage = stage();
    let (on_a, on_far) =
        (Server::new(&stage.a.net, stage.a.ip, b'a'), Server::new(&stage.far.net, stage.far.ip, b'f'));
    let out_there = Server::new(&stage.outside, [192, 0, 2, 2].into(), b'o');
    block_on(async {
        let mut control = stage.control().await;
        in_each_mode(&mut control, DoorName::Networks, || passes(&stage.a.net, &on_far)).await;
        in_each_mode(&mut control, DoorName::Networks, || passes(&stage.far.net, &on_a)).await;
        in_each_mode(&mut control, DoorName::Networks, || passes(&stage.outside, &on_a)).await;
        let of = control.refused_of(DoorName::Networks).await;
        assert!(of.len() == 1 && of[0].0 == "br0" && of[0].1 >= 6, "{of:?}");

        control.keep(DoorName::Networks, DoorMode::Enforce).await;
        let before = control.refused(DoorName::Networks).await;
        // Siblings, the rest of the world, and bridges that are no network's.
        assert_eq!(ask(&stage.b.net, &on_a.address.to_string()).unwrap(), b'a');
        assert_eq!(ask(&stage.a.net, &out_there.address.to_string()).unwrap(), b'o');
        assert_eq!(ask(&stage.outside, &on_far.address.to_string()).unwrap(), b'f');
        assert_eq!(control.refused(DoorName::Networks).await, before);
        // Two networks.
        assert_eq!(control.upsert(vec![network_of("bob", "br1", 31)]).await, []);
        assert!(!passes(&stage.a.net, &on_far) && !passes(&stage.far.net, &on_a));
    });
}

#[test]
fn a_bridge_leads_to_the_rest_of_the_world_and_workloads_on_it_are_kept_apart() {
    let stage = stage();
    stage.host.net.ip("link set up0 master br1");
    stage.outside.ip("addr add 172.31.0.9/24 dev eth0");
    stage.outside.ip("route replace 172.30.0.0/24 via 172.31.0.1");
    let on_far = Server::new(&stage.far.net, stage.far.ip, b'f');
    let out_there = Server::new(&stage.outside, [172, 31, 0, 9].into(), b'o');
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Networks, DoorMode::Enforce).await;
        assert_eq!(ask(&stage.a.net, &out_there.address.to_string()).unwrap(), b'o');
        assert_eq!(control.refused(DoorName::Networks).await, 0);
        assert!(!passes(&stage.a.net, &on_far));
    });
}

#[test]
fn siblings_reach_each_other_with_bridged_packets_in_the_hooks() {
    let stage = stage();
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    stage.host.net.run(|| std::fs::write(switch, "1").unwrap_or_else(|e| panic!("{switch}: {e}")));
    let server = Server::new(&stage.a.net, stage.a.ip, b'a');
    block_on(async {
        let mut control = stage.control().await;
        let all = DoorName::Networks;
        let shut = [DoorName::Spoofing, all, DoorName::Published, DoorName::Leaving, DoorName::Dns];
        let shut = shut.map(|name| (name, DoorMode::Enforce));
        assert_eq!(control.upsert(vec![doors(&shut)]).await, []);
        assert_eq!(ask(&stage.b.net, &server.address.to_string()).unwrap(), b'a');
        assert_eq!(control.refused(all).await, 0);
    });
}

#[test]
fn what_is_open_goes_on_and_a_grant_leads_across() {
    let stage = stage();
    let server = Server::new(&stage.far.net, stage.far.ip, b'f');
    block_on(async {
        let mut control = stage.control().await;
        let mut open = Connection::open(&stage.a.net, &server.address.to_string()).unwrap();
        control.keep(DoorName::Networks, DoorMode::Enforce).await;
        open.exchange().unwrap();
        assert!(!passes(&stage.a.net, &server), "a new one");
        let more = vec![
            virtual_ip(),
            service_port_with(Protocol::Tcp, 80, None, &[(server.address, 1)]),
            grant(&stage.a, Protocol::Tcp, 80),
        ];
        assert_eq!(control.upsert(more).await, []);
        let mut granted = Connection::open(&stage.a.net, "247.1.2.3:80").unwrap();
        assert_eq!(granted.server, b'f');
        granted.exchange().unwrap();
    });
}

#[test]
fn local_processes_reach_members_by_their_uid() {
    let stage = stage();
    let server = Server::new(&stage.a.net, stage.a.ip, b'a');
    let address = server.address.to_string();
    block_on(async {
        let mut control = stage.control().await;
        let by = |uid| match stage.host.net.dial_as(uid, &address) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                false
            }
        };
        in_each_mode(&mut control, DoorName::Networks, || by(NOBODY)).await;
        control.keep(DoorName::Networks, DoorMode::Enforce).await;
        let before = control.refused(DoorName::Networks).await;
        assert!(by(0) && by(ALLOWED));
        assert_eq!(control.refused(DoorName::Networks).await, before);
    });
}

#[test]
fn who_is_not_known_puts_no_word_in_where_others_talk() {
    let stage = stage();
    let unknown = stage.host.container(9);
    let here = stage.host.net.udp(Ipv4Addr::new(192, 0, 2, 1));
    let port = here.local_addr().unwrap().port();
    here.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // Of frames, the port that they come from.
    let there = stage.outside.run(|| UdpSocket::bind(("192.0.2.2", 9)).unwrap());
    let wire = Wire::new(&unknown.net, "eth0");
    let word = udp(Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 1), port, "x");
    let word = ethernet(mac(&unknown.mac), mac(&stage.host.mac("br0")), IPV4, &word);
    block_on(async {
        let mut control = stage.control().await;
        there.send_to(b"?", ("192.0.2.1", port)).unwrap();
        receive(&here).unwrap();
        here.send_to(b"!", ("192.0.2.2", 9)).unwrap();
        receive(&there).unwrap();
        in_each_mode(&mut control, DoorName::Networks, || {
            wire.send(&word);
            receive(&here).is_ok()
        })
        .await;
    });
}

#[test]
fn a_network_that_is_removed_keeps_nothing() {
    let stage = stage();
    let server = Server::new(&stage.far.net, stage.far.ip, b'f');
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Networks, DoorMode::Enforce).await;
        let listed = control.client.list_networks(steppe_api::v1::ListNetfilterNetworksRequest {}).await;
        assert_eq!(listed.unwrap().into_inner().networks.len(), 1);
        assert!(!passes(&stage.a.net, &server));
        assert_eq!(control.remove("network alice").await, []);
        assert!(passes(&stage.a.net, &server));
    });
}
