//! How the kernel spreads connections over endpoints.

use std::{collections::BTreeMap, fs, net::Ipv4Addr};

use steppe_api::v1::{self, Protocol};

use crate::{
    agent::Agent,
    control::{Control, block_on, grant, service_port_with, takeover, virtual_ip, workload},
    net::{Container, Host, LISTENER},
    server::{Server, ask},
};

/// A host with a client, and servers `a`, `b` and `c` on another bridge.
struct Stage {
    host: Host,
    agent: Agent,
    client: Container,
    servers: Vec<(Server, Container)>,
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let agent = Agent::start(&host, &[]);
    let client = host.container(2);
    let server = |(last, name)| {
        let container = host.container_on("br1", Ipv4Addr::new(172, 31, 0, last));
        (Server::new(&container.net, container.ip, name), container)
    };
    let servers = (2..).zip(*b"abc").map(server).collect();
    Stage { host, agent, client, servers }
}

impl Stage {
    async fn control(&self, ports: Vec<v1::Resource>, grants: &[u16]) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.client).await;
        let mut resources = vec![workload(&self.host, &self.client), virtual_ip()];
        resources.extend(ports);
        resources.extend(grants.iter().map(|port| grant(&self.client, Protocol::Tcp, *port)));
        assert_eq!(control.snapshot(resources).await, []);
        control
    }

    fn port(&self, port: u16, listener: Option<u16>, weights: &[u32]) -> v1::Resource {
        let addresses = self.servers.iter().map(|(server, _)| server.address);
        let endpoints: Vec<_> = addresses.zip(weights.iter().copied()).collect();
        service_port_with(Protocol::Tcp, port, listener, &endpoints)
    }

    fn ask(&self, port: u16) -> u8 {
        ask(&self.client.net, &format!("247.1.2.3:{port}")).unwrap()
    }

    /// How many of so many connections each server gets.
    fn spread(&self, ports: &[u16], connections: usize) -> BTreeMap<(u16, u8), usize> {
        let mut spread = BTreeMap::new();
        for port in ports.iter().cycle().take(connections) {
            *spread.entry((*port, self.ask(*port))).or_default() += 1;
        }
        spread
    }
}

/// Five standard deviations: one test run in a million is beyond.
fn assert_near(count: Option<&usize>, of: usize, chance: f64) {
    let expected = of as f64 * chance;
    let deviation = (of as f64 * chance * (1.0 - chance)).sqrt();
    let count = *count.unwrap_or(&0) as f64;
    assert!((count - expected).abs() < 5.0 * deviation, "{count} instead of {expected}");
}

#[test]
fn connections_are_spread_evenly_also_over_services_dialled_in_turn() {
    let stage = stage();
    block_on(async {
        let ports = [80, 81].map(|port| stage.port(port, None, &[1, 1, 1]));
        let _control = stage.control(ports.to_vec(), &[80, 81]).await;
        let spread = stage.spread(&[80, 81], 1_200);
        for port in [80, 81] {
            for name in *b"abc" {
                assert_near(spread.get(&(port, name)), 600, 1.0 / 3.0);
            }
        }
    });
}

#[test]
fn weights_and_changes_of_them_count() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control(vec![stage.port(80, None, &[1, 4])], &[80]).await;
        let spread = stage.spread(&[80], 500);
        assert_near(spread.get(&(80, b'a')), 500, 0.2);
        assert_near(spread.get(&(80, b'b')), 500, 0.8);
        assert_eq!(control.upsert(vec![stage.port(80, None, &[100, 50, 50])]).await, []);
        let spread = stage.spread(&[80], 500);
        assert_near(spread.get(&(80, b'a')), 500, 0.5);
        assert_near(spread.get(&(80, b'c')), 500, 0.25);
        assert_eq!(control.upsert(vec![stage.port(80, None, &[1])]).await, []);
        assert_eq!(stage.spread(&[80], 20), [((80, b'a'), 20)].into());
        let rules = stage.host.net.nft("list table inet steppe");
        for chain in ["chain lb-5 {", "chain lb-4 {", "chain lb-1 {"] {
            assert!(rules.contains(chain), "{rules}");
        }
        for element in ["tcp . 80 : 0:1 ", "0:5 : goto lb-5"] {
            assert!(rules.contains(element), "{rules}");
        }
    });
}

/// On the way to a slot the priority holds a number. Routing sets it anew, unless it is told not to.
#[test]
fn a_packet_leaves_without_a_priority() {
    let stage = stage();
    let net = &stage.host.net;
    net.run(|| fs::write("/proc/sys/net/ipv4/ip_forward_update_priority", "0").unwrap());
    net.nft("add table ip watch");
    net.nft("add chain ip watch passing { type filter hook forward priority 0; }");
    net.nft("add rule ip watch passing tcp flags syn meta priority none counter");
    net.nft("add rule ip watch passing meta priority != none drop");
    block_on(async {
        let _control = stage.control(vec![stage.port(80, None, &[1, 1, 1])], &[80]).await;
        stage.spread(&[80], 20);
        let counted = net.nft("list chain ip watch passing");
        assert!(!counted.contains("packets 0 "), "{counted}");
    });
}

#[test]
fn a_grant_of_every_port_takes_the_kernel_path_too() {
    let stage = stage();
    let proxy = Server::new(&stage.host.net, LISTENER, b'P');
    let (a, b) = (stage.servers[0].0.address, stage.servers[1].0.address);
    let to = |port, listener, endpoint| service_port_with(Protocol::Tcp, port, listener, &[(endpoint, 1)]);
    block_on(async {
        // Port 90 is known, and leads elsewhere than the others.
        let ports = vec![to(90, None, b), to(0, None, a)];
        let mut control = stage.control(ports, &[0]).await;
        assert_eq!((stage.ask(90), stage.ask(1234)), (b'b', b'a'));
        let with_proxy = [to(90, Some(proxy.port()), b), to(0, Some(proxy.port()), a)];
        assert_eq!(control.upsert(with_proxy.to_vec()).await, []);
        assert_eq!((stage.ask(90), stage.ask(1234)), (b'P', b'P'));
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        assert_eq!((stage.ask(90), stage.ask(1234)), (b'b', b'a'));
        // Nothing to lead to: the proxy has it still.
        let alone = service_port_with(Protocol::Tcp, 0, Some(proxy.port()), &[]);
        assert_eq!(control.upsert(vec![alone]).await, []);
        assert_eq!((stage.ask(90), stage.ask(1234)), (b'b', b'P'));
    });
}

#[test]
fn udp_takes_the_kernel_path_too() {
    let stage = stage();
    let server = stage.servers[0].1.net.udp(stage.servers[0].1.ip);
    let proxy = stage.host.net.udp(LISTENER);
    block_on(async {
        let mut control = stage.control(vec![], &[]).await;
        let (listener, endpoint) = (proxy.local_addr().unwrap().port(), server.local_addr().unwrap());
        let port = service_port_with(Protocol::Udp, 53, Some(listener), &[(endpoint, 1)]);
        let more = vec![port, grant(&stage.client, Protocol::Udp, 53), takeover()];
        assert_eq!(control.upsert(more).await, []);
        let client = stage.client.net.udp(stage.client.ip);
        client.connect("247.1.2.3:53").unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 8];
        let (_, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answered", peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 8);
    });
}
