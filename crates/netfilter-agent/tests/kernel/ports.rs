//! Rights are bound to bridge ports.

use std::{io::ErrorKind, time::Duration};

use steppe_api::v1::{self, Protocol, port_event::Event};
use tokio_stream::StreamExt as _;

use crate::{
    agent::Agent,
    control::{Control, block_on, grant, service_port, until, virtual_ip, workload},
    net::{DEADLINE, Host, LISTENER},
};

#[test]
fn a_replacement_with_the_same_addresses_has_none_of_the_old_ones_rights() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let old = host.container(2);
    let listener = host.net.listen(LISTENER);
    let port = listener.local_addr().unwrap().port();
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&old).await;
        let resources = vec![
            workload(&host, &old),
            virtual_ip(),
            service_port(Protocol::Tcp, 80, port),
            grant(&old, Protocol::Tcp, 80),
        ];
        assert_eq!(control.snapshot(resources).await, []);
        old.net.dial("247.1.2.3:80").unwrap();
    });
    // control is away from here on.
    host.remove_port(&old);
    let new = host.container(2);
    assert_eq!((&new.ip, &new.mac), (&old.ip, &old.mac));
    assert_eq!(new.net.dial_in_vain("247.1.2.3:80"), ErrorKind::TimedOut);
    let text = host.net.nft("list ruleset");
    assert!(!text.contains("172.30.0.2"), "{text}");
    block_on(async {
        let mut control = Control::connect(&agent).await;
        assert_eq!(control.inventory.len(), 2, "the service alone: {:?}", control.inventory);
        assert!(control.grants().await.is_empty() && control.workloads().await.is_empty());
        // And the newcomer gets its own.
        control.port_of(&new).await;
        let resources = vec![
            workload(&host, &new),
            virtual_ip(),
            service_port(Protocol::Tcp, 80, port),
            grant(&new, Protocol::Tcp, 80),
        ];
        assert_eq!(control.snapshot(resources).await, []);
        new.net.dial("247.1.2.3:80").unwrap();
    });
}

#[test]
fn a_port_that_leaves_its_bridge_or_is_renamed_loses_its_rights() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let (left, renamed, kept) = (host.container(2), host.container(3), host.container(4));
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let mut resources = Vec::new();
        for container in [&left, &renamed, &kept] {
            control.port_of(container).await;
            resources.push(workload(&host, container));
            resources.push(grant(container, Protocol::Tcp, 80));
        }
        assert_eq!(control.snapshot(resources).await, []);
        host.net.ip(&format!("link set {} nomaster", left.port));
        host.net.ip(&format!("link set {} down", renamed.port));
        host.net.ip(&format!("link set {} name other0", renamed.port));
        let client = control.client.clone();
        until("one workload is left", || {
            let mut client = client.clone();
            async move {
                let request = v1::ListNetfilterWorkloadsRequest {};
                client.list_workloads(request).await.unwrap().into_inner().workloads.len() == 1
            }
        })
        .await;
        assert_eq!(control.workloads().await[0].port_name, kept.port);
        assert_eq!(control.grants().await.len(), 1);
    });
}

#[test]
fn ports_are_told_as_they_come_and_go() {
    let host = Host::new();
    let first = host.container(2);
    let agent = Agent::start(&host, &[]);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        let watch = control.client.watch_ports(v1::WatchPortsRequest {}).await.unwrap();
        let mut events = watch.into_inner().map(|event| event.unwrap().event.unwrap());
        let Some(Event::Present(port)) = events.next().await else { panic!("the first port") };
        assert_eq!(port.ifindex, host.ifindex(&first.port));
        assert_eq!((port.bridge.as_str(), &port.mac), ("br0", &first.mac));
        assert_eq!(port.ips, [first.ip.to_string()]);
        assert!(matches!(events.next().await, Some(Event::Listed(_))));
        // gVisor takes the address away when it starts.
        first.net.ip("addr flush dev eth0");
        host.net.ip(&format!("link set {} down", first.port));
        host.net.ip(&format!("link set {} up", first.port));
        let second = host.container(3);
        let complete = async {
            loop {
                let Some(Event::Present(port)) = events.next().await else { panic!("a port") };
                assert_ne!(port.ifindex, host.ifindex(&first.port), "nothing changed: {port:?}");
                if port.mac == second.mac && port.ips == [second.ip.to_string()] {
                    break port.ifindex;
                }
            }
        };
        let ifindex = tokio::time::timeout(DEADLINE, complete).await.unwrap();
        host.remove_port(&second);
        assert_eq!(events.next().await, Some(Event::Gone(ifindex)));
    });
}

#[test]
fn an_address_that_comes_after_the_link_is_seen() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let container = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&container).await;
        // As CNI's plugins do: a link that is up and has no address yet.
        let late = host.container(3);
        late.net.ip("addr flush dev eth0");
        late.net.ip("link set eth0 address 02:42:ac:1e:00:77");
        late.net.ip(&format!("addr add {}/24 dev eth0", late.ip));
        tokio::time::timeout(Duration::from_secs(4), control.port_of(&late)).await.unwrap();
    });
}

#[test]
fn a_container_that_takes_anothers_addresses_is_told_as_what_it_was() {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let first = host.container(2);
    block_on(async {
        let mut control = Control::connect(&agent).await;
        control.port_of(&first).await;
        assert_eq!(control.snapshot(vec![workload(&host, &first)]).await, []);
    });
    // CAP_NET_ADMIN in its own namespace is enough for this.
    let take_anothers_addresses = || {
        first.net.ip("link set eth0 down");
        first.net.ip("link set eth0 address 02:42:ac:1e:00:63");
        first.net.ip("addr flush dev eth0");
        first.net.ip("addr add 172.30.0.99/24 dev eth0");
        first.net.ip("link set eth0 up");
    };
    let told = |agent: &Agent, last| {
        // Events come in order: when a later container is told, all before it is.
        let later = host.container(last);
        block_on(async {
            let mut control = Control::connect(agent).await;
            control.port_of(&later).await;
            control.port_of(&first).await
        })
    };
    take_anothers_addresses();
    assert_eq!(told(&agent, 3).mac, first.mac);
    let agent = Agent::start_in(&host, &[], agent.kill());
    assert_eq!(told(&agent, 4).mac, first.mac);
}
