//! The kernel takes over from the proxy, and hands back.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use steppe_api::v1::{self, Protocol};

use crate::{
    agent::Agent,
    control::{
        Control, VIP, block_on, grant, service_port_with, takeover, until, virtual_ip, workload, workload_id,
    },
    net::{Container, DEADLINE, Host, LISTENER, Namespace},
    server::{Connection, Server, ask},
};

const WEB: &str = "247.1.2.3:80";
/// Connections that were reset: deleting their entries takes a while.
const RESET: usize = 3_000;
/// Those of their ports that are used again meanwhile.
const AGAIN: usize = 300;

/// A host with a granted container, a known stranger, a proxy `P` and an endpoint `E` on another bridge.
struct Stage {
    host: Host,
    agent: Agent,
    granted: Container,
    stranger: Container,
    proxy: Server,
    endpoint: Server,
    container: Container,
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let agent = Agent::start(&host, &[]);
    let (granted, stranger) = (host.container(2), host.container(3));
    let container = host.container_on("br1", [172, 31, 0, 2].into());
    let proxy = Server::new(&host.net, LISTENER, b'P');
    let endpoint = Server::new(&container.net, container.ip, b'E');
    Stage { host, agent, granted, stranger, proxy, endpoint, container }
}

impl Stage {
    fn web(&self) -> v1::Resource {
        service_port_with(Protocol::Tcp, 80, Some(self.proxy.port()), &[(self.endpoint.address, 1)])
    }

    fn resources(&self) -> Vec<v1::Resource> {
        let mut resources =
            [&self.granted, &self.stranger].map(|container| workload(&self.host, container)).to_vec();
        resources.extend([virtual_ip(), self.web(), grant(&self.granted, Protocol::Tcp, 80)]);
        resources
    }

    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.granted).await;
        control.port_of(&self.stranger).await;
        assert_eq!(control.snapshot(self.resources()).await, []);
        control
    }
}

#[test]
fn new_connections_turn_and_open_ones_stay() {
    let stage = stage();
    let (granted, stranger) = (&stage.granted.net, &stage.stranger.net);
    block_on(async {
        let mut control = stage.control().await;
        let mut by_proxy = Connection::open(granted, WEB).unwrap();
        assert_eq!((by_proxy.server, control.status().await.takeover), (b'P', false));
        assert_eq!(stranger.dial_in_vain(WEB), ErrorKind::ConnectionRefused);

        assert_eq!(control.upsert(vec![takeover()]).await, []);
        let mut by_kernel = Connection::open(granted, WEB).unwrap();
        assert_eq!((by_kernel.server, control.status().await.takeover), (b'E', true));
        assert_eq!(stranger.dial_in_vain(WEB), ErrorKind::ConnectionRefused, "grants hold");
        assert_eq!(granted.dial_in_vain("247.1.2.3:81"), ErrorKind::ConnectionRefused, "another port");
        by_proxy.exchange().unwrap();

        assert_eq!(control.remove("takeover").await, []);
        assert_eq!(ask(granted, WEB).unwrap(), b'P');
        by_kernel.exchange().unwrap();
        by_proxy.exchange().unwrap();

        // A revoked grant cuts what the kernel leads to an endpoint as it cuts what it leads to the proxy.
        assert_eq!(control.remove(&format!("{} > {VIP}:80/tcp", workload_id(&stage.granted))).await, []);
        assert_eq!(by_kernel.exchange().unwrap_err().kind(), ErrorKind::ConnectionReset);
        stage.agent.wait_for("connections of revoked grants cut flows=3");
        assert_eq!(granted.dial_in_vain(WEB), ErrorKind::ConnectionRefused);
    });
}

/// Ends the diallers also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nobody_notices_the_turn() {
    let stage = stage();
    let (ended, answered, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let dial = |net: &Namespace, count: &AtomicUsize, check: fn(io::Result<u8>)| {
        while !ended.load(Ordering::Relaxed) {
            check(ask(net, WEB));
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let _end = End(&ended);
        block_on(async {
            let mut control = stage.control().await;
            scope.spawn(|| {
                dial(&stage.granted.net, &answered, |answer| {
                    assert!(matches!(answer, Ok(b'P' | b'E')), "{answer:?}");
                })
            });
            scope.spawn(|| {
                dial(&stage.stranger.net, &refused, |answer| {
                    assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused);
                });
            });
            let both_dialled = || {
                let read = || [&answered, &refused].map(|count| count.load(Ordering::Relaxed));
                let before = read();
                until("both have dialled", move || async move {
                    read().iter().zip(before).all(|(now, before)| *now >= before + 10)
                })
            };
            for _ in 0..20 {
                both_dialled().await;
                assert_eq!(control.upsert(vec![takeover()]).await, []);
                both_dialled().await;
                assert_eq!(control.remove("takeover").await, []);
            }
        });
    });
}

#[test]
fn without_endpoints_a_service_stays_with_the_proxy() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        let alone = service_port_with(Protocol::Tcp, 80, Some(stage.proxy.port()), &[]);
        assert_eq!(control.upsert(vec![alone, takeover()]).await, []);
        assert_eq!(ask(&stage.granted.net, WEB).unwrap(), b'P');
        assert_eq!(control.upsert(vec![stage.web()]).await, []);
        assert_eq!(ask(&stage.granted.net, WEB).unwrap(), b'E');
    });
}

#[test]
fn who_was_not_answered_is_led_elsewhere() {
    let stage = stage();
    block_on(async {
        let mut control = stage.control().await;
        // A listener that answers one client, which it does not take, and drops the others' first packets: as a process does
        // that hangs, or that is killed just then.
        let deaf = stage.host.net.listen(LISTENER);
        rustix::net::listen(&deaf, 0).unwrap();
        let port = deaf.local_addr().unwrap().port();
        let to_deaf = service_port_with(Protocol::Tcp, 80, Some(port), &[(stage.endpoint.address, 1)]);
        assert_eq!(control.upsert(vec![to_deaf]).await, []);
        let _first = stage.granted.net.dial(WEB).unwrap();
        let before = control.grants().await[0].packets_total;
        let granted = stage.granted;
        let began = Instant::now();
        let dialling = tokio::task::spawn_blocking(move || ask(&granted.net, WEB));
        let client = control.client.clone();
        until("its first packet passed the grant", || {
            let mut client = client.clone();
            async move {
                let grants = client.list_grants(v1::ListGrantsRequest::default()).await.unwrap();
                grants.into_inner().grants[0].packets_total > before
            }
        })
        .await;
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        assert_eq!(dialling.await.unwrap().unwrap(), b'E');
        stage.agent.wait_for("did not answer released flows=1");
        println!("answered elsewhere after {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(3), "at its first retransmission");
    });
}

/// From this port, or any.
fn dial_from(port: u16) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddrV4::new([0, 0, 0, 0].into(), port)).unwrap();
    connect(&socket, &WEB.parse::<SocketAddr>().unwrap()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// One that its client resets; gives its port.
fn reset_one() -> u16 {
    let stream = dial_from(0);
    assert_eq!(read_name(&stream).unwrap(), b'P');
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    stream.local_addr().unwrap().port()
}

fn read_name(mut stream: &TcpStream) -> io::Result<u8> {
    let mut name = [0];
    stream.read_exact(&mut name).map(|()| name[0])
}

#[test]
fn who_begins_anew_while_old_connections_are_released_goes_on() {
    let stage = stage();
    let granted = &stage.granted.net;
    block_on(async {
        let mut control = stage.control().await;
        // It takes connections at once, and says its name once it is told to: until then the kernel alone knows where they lead.
        let silent = stage.container.net.listen(stage.container.ip);
        rustix::net::listen(&silent, AGAIN as i32).unwrap();
        let endpoint = silent.local_addr().unwrap();
        let web = service_port_with(Protocol::Tcp, 80, Some(stage.proxy.port()), &[(endpoint, 1)]);
        assert_eq!(control.upsert(vec![web]).await, []);
        let mut ports: Vec<_> = granted.run(|| (0..RESET).map(|_| reset_one()).collect());
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        let mut streams = Vec::new();
        for port in ports.into_iter().step_by(RESET / AGAIN) {
            streams.push(granted.run(|| dial_from(port)));
            // So that not all are there before the first look.
            assert!(control.status().await.takeover);
        }
        stage.agent.wait_for("did not answer released");
        let _accepted: Vec<_> = streams
            .iter()
            .map(|_| {
                let (mut accepted, _) = silent.accept().unwrap();
                accepted.write_all(b"E").unwrap();
                accepted
            })
            .collect();
        for stream in &streams {
            assert_eq!(read_name(stream).unwrap(), b'E');
        }
    });
}
