//! UDP: a client goes on and on, and is led where its port leads.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use steppe_api::v1::Protocol;

use crate::{
    agent::Agent,
    control::{Control, block_on, grant, service_port_with, takeover, virtual_ip, workload},
    net::{Container, DEADLINE, Host, LISTENER, Namespace},
};

/// A host with a client, and two servers on another bridge.
struct Stage {
    host: Host,
    agent: Agent,
    client: Container,
    servers: [Container; 2],
}

fn stage() -> Stage {
    let host = Host::new();
    host.second_bridge();
    host.forward();
    let agent = Agent::start(&host, &[]);
    let client = host.container(2);
    let servers = [2, 3].map(|last| host.container_on("br1", Ipv4Addr::new(172, 31, 0, last)));
    Stage { host, agent, client, servers }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.client).await;
        let granted = grant(&self.client, Protocol::Udp, 53);
        let resources = vec![workload(&self.host, &self.client), virtual_ip(), granted];
        assert_eq!(control.snapshot(resources).await, []);
        control
    }
}

/// Answers each datagram with its name, until it is dropped.
struct Named {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Named {
    fn new(net: &Namespace, ip: Ipv4Addr, name: u8) -> Self {
        let socket = net.udp(ip);
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        let (address, stop) = (socket.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((_, from)) = socket.recv_from(&mut [0; 8]) {
                    let _ = socket.send_to(&[name], from);
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

/// A datagram that was not answered for so long is sent again.
const AGAIN: Duration = Duration::from_millis(100);

/// A client that goes on and on from one port.
struct Sender(UdpSocket);

impl Sender {
    fn new(client: &Container) -> Self {
        let socket = client.net.udp(client.ip);
        socket.connect("247.1.2.3:53").unwrap();
        socket.set_read_timeout(Some(AGAIN)).unwrap();
        Self(socket)
    }

    fn asks(&self) -> io::Result<u8> {
        let mut name = [0];
        self.0.send(b"?").and_then(|_| self.0.recv(&mut name)).map(|_| name[0])
    }

    /// Goes on until this one answers.
    fn until_answered_by(&self, expected: u8) {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if self.asks().is_ok_and(|name| name == expected) {
                return;
            }
        }
        panic!("`{}` should have answered by now", char::from(expected));
    }

    /// The next answers are this one's.
    fn stays_with(&self, expected: u8) {
        for _ in 0..5 {
            self.until_answered();
            assert_eq!(char::from(self.asks().unwrap()), char::from(expected));
        }
    }

    /// Reads what may still be on its way.
    fn until_answered(&self) {
        let _ = self.asks();
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 8]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

#[test]
fn who_keeps_sending_udp_is_led_where_the_port_leads_now() {
    let stage = stage();
    let proxy = Named::new(&stage.host.net, LISTENER, b'P');
    let server = |n: usize, name| Named::new(&stage.servers[n].net, stage.servers[n].ip, name);
    let (a, b) = (server(0, b'a'), server(1, b'b'));
    let port =
        |listener, endpoint: &Named| service_port_with(Protocol::Udp, 53, listener, &[(endpoint.address, 1)]);
    let listener = Some(proxy.address.port());
    block_on(async {
        let mut control = stage.control().await;
        assert_eq!(control.upsert(vec![port(None, &a)]).await, []);
        let first = Sender::new(&stage.client);
        first.until_answered_by(b'a');
        // Its endpoint is gone from the service, and alive.
        assert_eq!(control.upsert(vec![port(None, &b)]).await, []);
        first.until_answered_by(b'b');
        first.stays_with(b'b');
        // Who is with an endpoint stays with it when there is a proxy.
        assert_eq!(control.upsert(vec![port(listener, &b)]).await, []);
        let second = Sender::new(&stage.client);
        second.until_answered_by(b'P');
        first.stays_with(b'b');
        // The kernel takes over who was answered by the proxy, which lives, and hands back nobody who is with an endpoint.
        assert_eq!(control.upsert(vec![takeover()]).await, []);
        second.until_answered_by(b'b');
        assert_eq!(control.remove("takeover").await, []);
        second.stays_with(b'b');
        Sender::new(&stage.client).until_answered_by(b'P');
        // When that endpoint goes, they are the proxy's.
        assert_eq!(control.upsert(vec![port(listener, &a)]).await, []);
        first.until_answered_by(b'P');
        second.until_answered_by(b'P');
        // And with the port everything ends.
        assert_eq!(control.remove("247.1.2.3:53/udp").await, []);
        let refused = |error: &io::Error| error.kind() != ErrorKind::WouldBlock;
        let began = Instant::now();
        while !first.asks().is_err_and(|error| refused(&error)) && began.elapsed() < DEADLINE {}
        assert!(refused(&first.asks().unwrap_err()));
    });
}

#[test]
fn who_sends_udp_to_a_proxy_that_is_gone_hears_nothing_instead_of_a_refusal() {
    let stage = stage();
    let proxy = Named::new(&stage.host.net, LISTENER, b'P');
    block_on(async {
        let mut control = stage.control().await;
        let port = service_port_with(Protocol::Udp, 53, Some(proxy.address.port()), &[]);
        assert_eq!(control.upsert(vec![port]).await, []);
        let client = Sender::new(&stage.client);
        client.until_answered_by(b'P');
        drop(proxy);
        for _ in 0..3 {
            let error = client.asks().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
        }
    });
}
