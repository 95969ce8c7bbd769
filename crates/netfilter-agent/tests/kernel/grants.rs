//! Who reaches what, by traffic.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpListener,
    time::{Duration, Instant},
};

use steppe_api::v1::{self, Protocol};

use crate::{
    agent::Agent,
    control::{Control, VIP, block_on, grant, service_port, until, virtual_ip, workload, workload_id},
    net::{Container, DEADLINE, Host, LISTENER},
};

/// A host with an agent, a granted container, a known stranger, and a listener.
struct Stage {
    host: Host,
    agent: Agent,
    granted: Container,
    stranger: Container,
    listener: TcpListener,
}

fn stage() -> Stage {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let (granted, stranger) = (host.container(2), host.container(3));
    let listener = host.net.listen(LISTENER);
    Stage { host, agent, granted, stranger, listener }
}

impl Stage {
    async fn control(&self, ports: &[u16]) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.granted).await;
        control.port_of(&self.stranger).await;
        let listener = self.listener.local_addr().unwrap().port();
        let mut resources = vec![virtual_ip()];
        resources.extend([&self.granted, &self.stranger].map(|container| workload(&self.host, container)));
        for port in ports {
            resources.push(service_port(Protocol::Tcp, *port, listener));
            resources.push(grant(&self.granted, Protocol::Tcp, *port));
        }
        assert_eq!(control.snapshot(resources).await, []);
        control
    }
}

#[test]
fn a_grant_lets_through_and_all_else_is_refused() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control(&[80]).await;
        let mut client = stage.granted.net.dial("247.1.2.3:80").unwrap();
        let (mut server, peer) = stage.listener.accept().unwrap();
        assert_eq!(peer.ip(), stage.granted.ip, "the client's address is kept");
        client.write_all(b"hello").unwrap();
        let mut buffer = [0; 5];
        server.read_exact(&mut buffer).unwrap();
        server.write_all(&buffer).unwrap();
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"hello");

        let refused = ErrorKind::ConnectionRefused;
        let began = Instant::now();
        assert_eq!(stage.stranger.net.dial_in_vain("247.1.2.3:80"), refused, "no grant");
        assert_eq!(stage.granted.net.dial_in_vain("247.1.2.3:81"), refused, "another port");
        assert_eq!(stage.granted.net.dial_in_vain("247.9.9.9:80"), refused, "another service");
        assert!(began.elapsed() < Duration::from_millis(200), "a refusal is an answer, not a silence");
        let listener = stage.listener.local_addr().unwrap().to_string();
        assert_eq!(stage.granted.net.dial_in_vain(&listener), refused, "past the virtual IP");
        assert_eq!(stage.stranger.net.dial_in_vain(&listener), refused, "past the virtual IP");
        assert_eq!(stage.host.net.dial_in_vain(&listener), refused, "a local process");
        assert_eq!(
            stage.host.net.dial_in_vain("247.1.2.3:80"),
            ErrorKind::HostUnreachable,
            "a local process"
        );

        let grants = control.grants().await;
        assert_eq!(grants.len(), 1);
        assert!(grants[0].packets_total >= 3, "{grants:?}");
        for (container, expected) in [(&stage.granted, 1), (&stage.stranger, 0)] {
            let request = v1::ListGrantsRequest { workload: workload_id(container) };
            let of_one = control.client.list_grants(request).await.unwrap().into_inner().grants;
            assert_eq!(of_one, grants[..expected], "the same, asked for by workload");
        }
        assert_eq!(control.vips().await[0].refused_total, 2, "the stranger and the other port");
        let text = stage.host.net.nft("list table inet steppe");
        assert!(text.contains("172.30.0.2 . 247.1.2.3 . tcp . 80 counter packets"), "{text}");
        let to =
            format!("247.1.2.3 . tcp . 80 : {LISTENER} . {}", stage.listener.local_addr().unwrap().port());
        assert!(text.contains(&to), "{text}");
    });
}

#[test]
fn who_is_not_known_gets_no_answer() {
    let stage = stage();
    let unknown = stage.host.container(9);
    block_on(async {
        let mut control = stage.control(&[80]).await;
        assert_dropped(&mut control, &unknown).await;
        // An address that was granted, from another port.
        unknown.net.ip(&format!("addr add {}/32 dev eth0", stage.granted.ip));
        unknown.net.ip(&format!("route replace default via 172.30.0.1 src {}", stage.granted.ip));
        assert_dropped(&mut control, &unknown).await;
        // And with the hardware address that belongs to it.
        unknown.net.ip(&format!("link set eth0 address {}", stage.granted.mac));
        assert_dropped(&mut control, &unknown).await;
    });
}

/// Dials until a packet was dropped: a first try may end before the container knows its gateway's hardware address.
async fn assert_dropped(control: &mut Control, from: &Container) {
    let before = control.status().await.unknown_dropped_total;
    let end = Instant::now() + DEADLINE;
    while control.status().await.unknown_dropped_total == before {
        assert!(Instant::now() < end, "its packets don't arrive");
        assert_eq!(from.net.dial_in_vain("247.1.2.3:80"), ErrorKind::TimedOut);
    }
}

#[test]
fn a_grant_without_a_port_is_for_every_tcp_port_but_those_granted_more_exactly() {
    let stage = stage();
    let exact = stage.host.net.listen(LISTENER);
    block_on(async {
        let mut control = stage.control(&[0]).await;
        let port = exact.local_addr().unwrap().port();
        let more = vec![service_port(Protocol::Tcp, 81, port), grant(&stage.granted, Protocol::Tcp, 81)];
        assert_eq!(control.upsert(more).await, []);
        for address in ["247.1.2.3:80", "247.1.2.3:6379"] {
            let client = stage.granted.net.dial(address).unwrap();
            assert_eq!(stage.listener.accept().unwrap().1, client.local_addr().unwrap());
        }
        let client = stage.granted.net.dial("247.1.2.3:81").unwrap();
        assert_eq!(exact.accept().unwrap().1, client.local_addr().unwrap());
        assert_eq!(stage.stranger.net.dial_in_vain("247.1.2.3:80"), ErrorKind::ConnectionRefused);
        let text = stage.host.net.nft("list set inet steppe grants_any");
        assert!(text.contains("172.30.0.2 . 247.1.2.3 counter packets"), "{text}");
    });
}

#[test]
fn udp_is_granted_by_port() {
    let stage = stage();
    let server = stage.host.net.udp(LISTENER);
    block_on(async {
        let mut control = stage.control(&[]).await;
        let port = server.local_addr().unwrap().port();
        let more = vec![service_port(Protocol::Udp, 53, port), grant(&stage.granted, Protocol::Udp, 53)];
        assert_eq!(control.upsert(more).await, []);
        let client = stage.granted.net.udp(stage.granted.ip);
        client.connect((VIP, 53)).unwrap();
        client.send(b"question").unwrap();
        let mut buffer = [0; 8];
        let (_, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(b"answered", peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 8);
        client.connect((VIP, 54)).unwrap();
        client.send(b"question").unwrap();
        let refused = client.recv(&mut buffer).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(113), "ICMP admin-prohibited is EHOSTUNREACH");
    });
}

#[test]
fn revoking_cuts_open_connections() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control(&[80, 81]).await;
        let mut cut = stage.granted.net.dial("247.1.2.3:80").unwrap();
        let mut kept = stage.granted.net.dial("247.1.2.3:81").unwrap();
        cut.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut servers = [stage.listener.accept().unwrap().0, stage.listener.accept().unwrap().0];
        let id = format!("{} > {VIP}:80/tcp", workload_id(&stage.granted));
        assert_eq!(control.remove(&id).await, []);
        // At once, with no help from conntrack.
        cut.write_all(b"x").unwrap();
        assert_eq!(cut.read_exact(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(stage.granted.net.dial_in_vain("247.1.2.3:80"), ErrorKind::ConnectionRefused);
        kept.write_all(b"y").unwrap();
        let mut byte = [0];
        servers[1].read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"y");
        stage.agent.wait_for("connections of revoked grants cut flows=1");
    });
}

#[test]
fn a_service_without_its_listener_is_refused() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control(&[80]).await;
        assert_eq!(control.remove(&format!("{VIP}:80/tcp")).await, []);
        assert_eq!(stage.granted.net.dial_in_vain("247.1.2.3:80"), ErrorKind::ConnectionRefused);
        let listener = stage.listener.local_addr().unwrap().port();
        assert_eq!(control.upsert(vec![service_port(Protocol::Tcp, 80, listener)]).await, []);
        stage.granted.net.dial("247.1.2.3:80").unwrap();
        // And another listener takes its place in one step.
        let other = stage.host.net.listen(LISTENER);
        let port = other.local_addr().unwrap().port();
        assert_eq!(control.upsert(vec![service_port(Protocol::Tcp, 80, port)]).await, []);
        let client = stage.granted.net.dial("247.1.2.3:80").unwrap();
        assert_eq!(other.accept().unwrap().1, client.local_addr().unwrap());
    });
}

#[test]
fn while_nobody_listens_a_client_waits_for_the_listener() {
    let stage = stage();
    block_on(async {
        let control = stage.control(&[80]).await;
        let address = stage.listener.local_addr().unwrap();
        let Stage { host, granted, listener, .. } = stage;
        // A process that another test is starting holds a copy of every socket until it runs: shut it, don't just drop it.
        rustix::net::shutdown(&listener, rustix::net::Shutdown::Both).unwrap();
        drop(listener);
        let dialling = tokio::task::spawn_blocking(move || granted.net.dial("247.1.2.3:80"));
        let client = control.client.clone();
        until("its first packet passed the grant", || {
            let mut client = client.clone();
            async move {
                let grants = client.list_grants(v1::ListGrantsRequest::default()).await.unwrap();
                grants.into_inner().grants[0].packets_total > 0
            }
        })
        .await;
        // For the same reason the address may be taken for a moment still.
        let end = Instant::now() + DEADLINE;
        let again = loop {
            match host.net.run(|| TcpListener::bind(address)) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {}
                bound => break bound.unwrap(),
            }
        };
        // Silence, not a refusal: its next packet was answered.
        let client = dialling.await.unwrap().unwrap();
        assert_eq!(again.accept().unwrap().1, client.local_addr().unwrap());
    });
}
