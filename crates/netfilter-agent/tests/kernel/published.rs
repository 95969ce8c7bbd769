//! Published ports, where traffic arrives: by real translation as Docker puts it, and by a process in place of docker-proxy.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    time::Duration,
};

use steppe_api::v1::{DoorMode, DoorName, Expose, Protocol};

use crate::{
    agent::Agent,
    control::{Control, block_on, until, workload},
    keep::{ALLOWED, NOBODY, doors, in_each_mode, port_text, published, published_at},
    net::{Container, DEADLINE, Host, Namespace, receive},
    server::{Connection, Server, ask},
};

const PORT: u16 = 24_011;
const HERE: &str = "192.0.2.1:24011";

/// `web` is published at [`PORT`]; `other` is another container. `peer` is 192.0.2.2, which a peer of the doors' is, and
/// 198.51.100.2, which none is.
struct Stage {
    host: Host,
    agent: Agent,
    peer: Namespace,
    web: Container,
    other: Container,
    server: Server,
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let peer = host.neighbour();
    peer.ip("addr add 198.51.100.2/32 dev lo");
    host.net.ip("route add 198.51.100.2/32 via 192.0.2.2");
    let agent = Agent::start(&host, &[]);
    let web = host.container(2);
    let other = host.container_on("br1", Ipv4Addr::new(172, 31, 0, 2));
    let server = Server::new(&web.net, web.ip, b'w');
    Stage { host, agent, peer, web, other, server }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        let mut resources = Vec::new();
        for container in [&self.web, &self.other] {
            control.port_of(container).await;
            resources.push(workload(&self.host, container));
        }
        resources.push(published(Protocol::Tcp, PORT, &self.web, Expose::Proxies));
        assert_eq!(control.snapshot(resources).await, []);
        control
    }

    /// As Docker does.
    fn translate(&self) {
        let to = format!("-p tcp --dport {PORT} -j DNAT --to-destination {}", self.server.address);
        let rules = [
            format!("-t nat -A PREROUTING -m addrtype --dst-type LOCAL ! -i br0 {to}"),
            format!("-t nat -A OUTPUT -m addrtype --dst-type LOCAL ! -d 127.0.0.0/8 {to}"),
        ];
        for rule in rules {
            self.host.net.command("iptables", &rule);
        }
    }
}

fn from(net: &Namespace, source: &str, to: &str) -> bool {
    // The route says which address is the sender's.
    net.ip(&format!("route replace 192.0.2.1/32 dev eth0 src {source}"));
    is_answered(net.dial_for_a_moment(to))
}

fn is_answered<T>(result: std::io::Result<T>) -> bool {
    match result {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "a refusal is an answer");
            false
        }
    }
}

#[test]
fn a_published_port_is_for_peers_and_for_those_local_processes_that_may() {
    let stage = stage();
    stage.translate();
    block_on(async {
        let mut control = stage.control().await;
        let by = |uid| is_answered(stage.host.net.dial_as(uid, HERE));
        let published = DoorName::Published;
        in_each_mode(&mut control, published, || is_answered(stage.other.net.dial_for_a_moment(HERE))).await;
        in_each_mode(&mut control, published, || from(&stage.peer, "198.51.100.2", HERE)).await;
        in_each_mode(&mut control, published, || by(NOBODY)).await;
        let of = control.refused_of(published).await;
        assert_eq!(of.len(), 1);
        assert_eq!((&*of[0].0, of[0].1), ("24011/tcp", control.refused(published).await));

        control.keep(published, DoorMode::Enforce).await;
        let before = control.refused(published).await;
        assert!(from(&stage.peer, "192.0.2.2", HERE) && by(0) && by(ALLOWED));
        // The container itself is no published port.
        assert_eq!(ask(&stage.host.net, &stage.server.address.to_string()).unwrap(), b'w');
        assert_eq!(control.refused(published).await, before);
    });
}

#[test]
fn who_else_may_dial_it_is_its_services_business() {
    let stage = stage();
    stage.translate();
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        for (expose, container, stranger) in [
            (Expose::Public, true, true),
            (Expose::Cluster, true, false),
            (Expose::Host, true, false),
            (Expose::Proxies, false, false),
        ] {
            assert_eq!(control.upsert(vec![published(Protocol::Tcp, PORT, &stage.web, expose)]).await, []);
            assert_eq!(is_answered(stage.other.net.dial_for_a_moment(HERE)), container, "{expose:?}");
            assert_eq!(is_answered(stage.host.net.dial_as(NOBODY, HERE)), container, "{expose:?}");
            assert_eq!(from(&stage.peer, "198.51.100.2", HERE), stranger, "{expose:?}");
            assert!(from(&stage.peer, "192.0.2.2", HERE), "{expose:?}");
        }
    });
}

/// With `docker-proxy`, which is a process of root's that listens at every address.
#[test]
fn every_address_of_the_host_is_a_door() {
    let stage = stage();
    stage.host.net.ip("addr add 2001:db8::1/64 dev up0 nodad");
    stage.peer.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    stage.peer.ip("addr add 2001:db8:ffff::2/64 dev eth0 nodad");
    stage.host.net.ip("route add 2001:db8:ffff::/64 dev up0");
    let _proxy = stage.host.net.run(|| TcpListener::bind(("::", PORT)).unwrap());
    let everywhere =
        ["127.0.0.1:24011", "192.0.2.1:24011", "172.30.0.1:24011", "[::1]:24011", "[2001:db8::1]:24011"];
    block_on(async {
        let mut control = stage.control().await;
        for address in everywhere {
            in_each_mode(&mut control, DoorName::Published, || {
                is_answered(stage.host.net.dial_as(NOBODY, address))
            })
            .await;
        }
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        for address in everywhere {
            assert!(is_answered(stage.host.net.dial_as(ALLOWED, address)), "{address}");
        }
        // By IPv6 docker-proxy answers a peer, and nobody else.
        let by = |source: &str| {
            stage.peer.ip(&format!("-6 route replace 2001:db8::1/128 dev eth0 src {source}"));
            is_answered(stage.peer.dial_for_a_moment("[2001:db8::1]:24011"))
        };
        assert!(by("2001:db8::2") && !by("2001:db8:ffff::2"));
    });
}

/// Somebody else's server has the same port at another address, which is none of Steppe's business.
#[test]
fn a_port_is_a_door_at_the_addresses_that_it_is_published_at_alone() {
    let stage = stage();
    let _server = stage.host.net.run(|| TcpListener::bind(("0.0.0.0", 24_012)).unwrap());
    let answers = |at: &str| {
        [
            is_answered(stage.other.net.dial_for_a_moment(at)),
            is_answered(stage.host.net.dial_as(NOBODY, at)),
            is_answered(stage.peer.dial_for_a_moment(at)),
        ]
    };
    let [here, by_bridge, by_loopback] = ["192.0.2.1:24012", "172.31.0.1:24012", "127.0.0.1:24012"];
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        let everywhere = published(Protocol::Tcp, 24_012, &stage.web, Expose::Proxies);
        let at = |addresses: &[&str]| published_at(addresses, everywhere.clone());
        for loopback in [&["127.0.0.1"][..], &["127.0.0.1", "127.0.0.2"]] {
            assert_eq!(control.upsert(vec![at(loopback)]).await, []);
            assert_eq!(answers(here), [true; 3], "{loopback:?}");
            assert!(!is_answered(stage.host.net.dial_as(NOBODY, by_loopback)));
        }
        assert_eq!(control.upsert(vec![at(&["192.0.2.1"])]).await, []);
        // A peer is let in, but not to a local process in the container's place.
        assert_eq!(answers(here), [false; 3]);
        assert!(is_answered(stage.host.net.dial_as(NOBODY, by_loopback)));
        assert!(is_answered(stage.other.net.dial_for_a_moment(by_bridge)));

        // Gone, it is closed there and nowhere else.
        assert_eq!(control.remove("published 24012/tcp").await, []);
        let mut closed = control.list_doors().await.closed;
        closed.sort();
        assert_eq!(closed, ["127.0.0.1", "127.0.0.2", "192.0.2.1"].map(|at| format!("{at}:24012/tcp")));
        assert_eq!(answers(here), [false, true, false], "for those outside alone");
        assert!(is_answered(stage.other.net.dial_for_a_moment(by_bridge)));
    });
}

#[test]
fn a_local_process_does_not_pass_for_the_container() {
    let stage = stage();
    let _impostor = stage.host.net.run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    block_on(async {
        let mut control = stage.control().await;
        in_each_mode(&mut control, DoorName::Published, || from(&stage.peer, "192.0.2.2", HERE)).await;
        // From the container's own bridge Docker does not translate: that is docker-proxy.
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        let sibling = stage.host.container(3);
        control.port_of(&sibling).await;
        let exposed = published(Protocol::Tcp, PORT, &stage.web, Expose::Host);
        assert_eq!(control.upsert(vec![workload(&stage.host, &sibling), exposed]).await, []);
        assert!(is_answered(sibling.net.dial_for_a_moment("172.30.0.1:24011")));
        let public = published(Protocol::Tcp, PORT, &stage.web, Expose::Public);
        assert_eq!(control.upsert(vec![public]).await, []);
        assert!(!from(&stage.peer, "198.51.100.2", HERE) && !from(&stage.peer, "192.0.2.2", HERE));
    });
}

#[test]
fn the_port_of_a_container_that_is_gone_stays_closed_until_it_is_published_again() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Published, DoorMode::Enforce).await;
    });
    // control is away from here on.
    stage.host.remove_port(&stage.web);
    let _successor = stage.host.net.run(|| TcpListener::bind(("0.0.0.0", PORT)).unwrap());
    block_on(async {
        let mut control = Control::connect(&stage.agent).await;
        let enforced = doors(&[(DoorName::Published, DoorMode::Enforce)]);
        assert_eq!(control.snapshot(vec![workload(&stage.host, &stage.other), enforced]).await, []);
        until("the container's port is gone", || async {
            stage.host.net.nft("list set inet steppe published").find("24011").is_none()
        })
        .await;
        let listed = control.list_doors().await;
        assert_eq!((listed.published.len(), listed.closed), (0, vec![port_text(Protocol::Tcp, PORT)]));
        in_each_mode(&mut control, DoorName::Published, || from(&stage.peer, "192.0.2.2", HERE)).await;
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        assert!(!is_answered(stage.other.net.dial_for_a_moment(HERE)));
        assert!(is_answered(stage.host.net.dial_as(NOBODY, HERE)), "for those outside alone");
        let again = published(Protocol::Tcp, PORT, &stage.other, Expose::Public);
        assert_eq!(control.upsert(vec![again]).await, []);
        assert_eq!(control.list_doors().await.closed, Vec::<String>::new());
        assert!(is_answered(stage.other.net.dial_for_a_moment(HERE)));
        assert_eq!(control.remove("published 24011/tcp").await, []);
        assert!(!is_answered(stage.other.net.dial_for_a_moment(HERE)));
    });
}

#[test]
fn what_a_container_dialled_itself_and_what_is_open_goes_on() {
    let stage = stage();
    stage.translate();
    let (peer_server, away) = (
        Server::new(&stage.peer, [192, 0, 2, 2].into(), b'p'),
        Server::new(&stage.peer, [192, 0, 2, 2].into(), b'q'),
    );
    stage.host.net.command(
        "iptables",
        &format!(
            "-t nat -A POSTROUTING -p tcp -d 192.0.2.2 --dport {} -j MASQUERADE --to-ports {PORT}",
            away.port()
        ),
    );
    stage.host.net.command("iptables", "-t nat -A POSTROUTING -s 172.30.0.0/24 -o up0 -j MASQUERADE");
    block_on(async {
        let mut control = stage.control().await;
        let mut open = Connection::open(&stage.other.net, HERE).unwrap();
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        open.exchange().unwrap();
        assert!(!is_answered(stage.other.net.dial_for_a_moment(HERE)), "a new one");
        // Masqueraded by the port that is published: its answers come to that.
        for server in [&peer_server, &away] {
            let mut dialled = Connection::open(&stage.web.net, &server.address.to_string()).unwrap();
            dialled.exchange().unwrap();
        }
        // Another host's port of the same number.
        let elsewhere = stage.peer.run(|| TcpListener::bind(("192.0.2.2", PORT)).unwrap());
        stage.web.net.dial("192.0.2.2:24011").unwrap();
        assert!(elsewhere.accept().is_ok());
    });
}

#[test]
fn udp_is_published_too() {
    let stage = stage();
    let server = stage.host.net.run(|| UdpSocket::bind(("0.0.0.0", PORT)).unwrap());
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let asks = |net: &Namespace| {
        let socket = net.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        net.run(|| socket.connect(HERE)).unwrap();
        socket.send(b"?").unwrap();
        receive(&socket)
    };
    block_on(async {
        let mut control = stage.control().await;
        let udp = published(Protocol::Udp, PORT, &stage.web, Expose::Proxies);
        assert_eq!(control.upsert(vec![udp]).await, []);
        control.keep(DoorName::Published, DoorMode::Enforce).await;
        let refused = asks(&stage.other.net).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(113), "ICMP admin-prohibited is EHOSTUNREACH");
        assert_eq!(control.refused_of(DoorName::Published).await, [("24011/udp".into(), 1)]);
        // A flow outlives its socket: whoever has the port next is not whom it was.
        let socket = stage.host.net.run(|| UdpSocket::bind("192.0.2.1:0").unwrap());
        let own = socket.local_addr().unwrap();
        socket.send_to(b"?", HERE).unwrap();
        let (_, from) = receive(&server).unwrap();
        server.send_to(b"!", from).unwrap();
        receive(&socket).unwrap();
        drop(socket);
        let sent = stage.host.net.as_user(NOBODY, || UdpSocket::bind(own).unwrap().send_to(b"?", HERE));
        assert_eq!(control.refused(DoorName::Published).await, 2, "{sent:?}");
        control.keep(DoorName::Published, DoorMode::Audit).await;
        let _ = asks(&stage.other.net).unwrap_err();
        receive(&server).unwrap();
    });
}
