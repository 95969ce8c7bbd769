//! The address of dns: from a workload's own bridge port and from root, and from nowhere else.

use std::{
    io::{self, ErrorKind},
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use steppe_api::v1::{DoorMode, DoorName};

use crate::{
    agent::Agent,
    control::{Control, block_on, until, workload},
    keep::{NOBODY, in_each_mode},
    net::{Container, DEADLINE, Host, Namespace, receive},
};

const DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 53);

/// Answers like dns, until it is dropped: by UDP what it was asked, by TCP by taking the connection.
struct Dns {
    _tcp: TcpListener,
    ended: Arc<AtomicBool>,
    answering: Option<JoinHandle<()>>,
}

impl Dns {
    fn start(net: &Namespace, address: Ipv4Addr) -> io::Result<Self> {
        let (udp, tcp) = net.run(|| {
            Ok::<_, io::Error>((UdpSocket::bind((address, 53))?, TcpListener::bind((address, 53))?))
        })?;
        udp.set_read_timeout(Some(Duration::from_millis(20)))?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = ended.clone();
        let answering = thread::spawn(move || {
            let mut question = [0; 1];
            while !end.load(Ordering::Relaxed) {
                if let Ok((_, from)) = udp.recv_from(&mut question) {
                    let _ = udp.send_to(&question, from);
                }
            }
        });
        Ok(Self { _tcp: tcp, ended, answering: Some(answering) })
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = self.answering.take().map(JoinHandle::join);
    }
}

struct Stage {
    host: Host,
    agent: Agent,
    known: Container,
}

fn stage() -> Stage {
    let host = Host::new();
    let agent = Agent::start(&host, &[]);
    let known = host.container(2);
    Stage { host, agent, known }
}

impl Stage {
    async fn control(&self) -> Control {
        let mut control = Control::connect(&self.agent).await;
        control.port_of(&self.known).await;
        assert_eq!(control.snapshot(vec![workload(&self.host, &self.known)]).await, []);
        control
    }
}

/// Asks by UDP, once.
fn asks(net: &Namespace, patience: Duration) -> io::Result<()> {
    let socket = net.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
    socket.set_read_timeout(Some(patience)).unwrap();
    net.run(|| socket.connect((DNS, 53)))?;
    socket.send(b"?")?;
    receive(&socket).map(|_| ())
}

const MOMENT: Duration = Duration::from_millis(300);

#[test]
fn a_workload_is_answered_by_udp_and_tcp_at_port_53_alone() {
    let stage = stage();
    let _dns = Dns::start(&stage.host.net, DNS).unwrap();
    let other = stage.host.net.listen(DNS);
    block_on(async {
        let mut control = stage.control().await;
        control.keep(DoorName::Dns, DoorMode::Enforce).await;
        asks(&stage.known.net, DEADLINE).unwrap();
        stage.known.net.dial("169.254.77.53:53").unwrap();
        assert_eq!(control.refused(DoorName::Dns).await, 0);
        let address = other.local_addr().unwrap().to_string();
        in_each_mode(&mut control, DoorName::Dns, || stage.known.net.dial_for_a_moment(&address).is_ok())
            .await;
    });
}

#[test]
fn who_is_not_known_or_sends_by_anothers_address_gets_no_answer() {
    let stage = stage();
    let _dns = Dns::start(&stage.host.net, DNS).unwrap();
    let unknown = stage.host.container(9);
    block_on(async {
        let mut control = stage.control().await;
        // It has to know its gateway first, or a packet waits.
        control.keep(DoorName::Dns, DoorMode::Off).await;
        until("it may ask while the door is off", || async { asks(&unknown.net, MOMENT).is_ok() }).await;
        in_each_mode(&mut control, DoorName::Dns, || match asks(&unknown.net, MOMENT) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "silence");
                false
            }
        })
        .await;
        unknown.net.ip(&format!("addr add {}/32 dev eth0", stage.known.ip));
        unknown.net.ip(&format!("route replace default via 172.30.0.1 src {}", stage.known.ip));
        control.keep(DoorName::Dns, DoorMode::Enforce).await;
        let before = control.refused(DoorName::Dns).await;
        assert_eq!(asks(&unknown.net, MOMENT).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(control.refused(DoorName::Dns).await, before + 1);
    });
}

#[test]
fn other_hosts_and_local_processes_other_than_root_are_refused() {
    let stage = stage();
    let outside = stage.host.neighbour();
    outside.ip("route add 169.254.77.53/32 via 192.0.2.1");
    let _dns = Dns::start(&stage.host.net, DNS).unwrap();
    let address = "169.254.77.53:53";
    block_on(async {
        let mut control = stage.control().await;
        in_each_mode(&mut control, DoorName::Dns, || outside.dial_for_a_moment(address).is_ok()).await;
        in_each_mode(&mut control, DoorName::Dns, || stage.host.net.dial_as(NOBODY, address).is_ok()).await;
        control.keep(DoorName::Dns, DoorMode::Enforce).await;
        let refused = ErrorKind::ConnectionRefused;
        assert_eq!(outside.dial_in_vain(address), refused);
        assert_eq!(stage.host.net.dial_as(NOBODY, address).unwrap_err().kind(), refused);
        stage.host.net.dial(address).unwrap();
        asks(&stage.host.net, DEADLINE).unwrap();
    });
}

#[test]
fn while_nobody_listens_a_question_is_not_refused() {
    let stage = stage();
    // Another resolver of the host's, at every address.
    let other = Dns::start(&stage.host.net, Ipv4Addr::UNSPECIFIED).unwrap();
    block_on(async {
        let _control = stage.control().await;
        let ask = || asks(&stage.known.net, MOMENT).unwrap_err().kind();
        assert_eq!(ask(), ErrorKind::WouldBlock, "silence, and not the other's answer");
        assert_eq!(stage.known.net.dial_in_vain("169.254.77.53:53"), ErrorKind::TimedOut);
        drop(other);
        assert_eq!(ask(), ErrorKind::WouldBlock, "nobody at all");
        // A process that another test is starting holds a copy of every socket until it runs.
        let end = Instant::now() + DEADLINE;
        let _dns = loop {
            match Dns::start(&stage.host.net, DNS) {
                Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < end => {}
                started => break started.unwrap(),
            }
        };
        asks(&stage.known.net, DEADLINE).unwrap();
    });
}

/// Packets at once, and in a second.
const AT_ONCE: u64 = 512;
const A_SECOND: u64 = 10_000;

#[test]
fn the_flood_of_one_leaves_room_for_the_others_questions() {
    let stage = stage();
    let other = stage.host.container(3);
    let server = stage.host.net.run(|| UdpSocket::bind((DNS, 53)).unwrap());
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let from = |net: &Namespace| {
        let socket = net.run(|| UdpSocket::bind(("0.0.0.0", 0)).unwrap());
        net.run(|| socket.connect((DNS, 53))).unwrap();
        socket
    };
    let (flood, asks) = (from(&stage.known.net), from(&other.net));
    block_on(async {
        let mut control = stage.control().await;
        control.port_of(&other).await;
        assert_eq!(control.upsert(vec![workload(&stage.host, &other)]).await, []);
        // As it is from the start: what is bound to a port passes the door, and not the limit.
        control.keep(DoorName::Spoofing, DoorMode::Enforce).await;
        // The first waits for the gateway's hardware address.
        for socket in [&flood, &asks] {
            socket.send(b"?").unwrap();
            assert_eq!(receive(&server).unwrap().1.ip(), socket.local_addr().unwrap().ip());
        }
        // All that is sent has room.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&server, 64 << 20).unwrap();
        let began = Instant::now();
        let (sent, mut heard) = (20_000, 0);
        for _ in 0..sent {
            flood.send(b"!").unwrap();
        }
        asks.send(b"?").unwrap();
        while receive(&server).unwrap().0 == b'!' {
            heard += 1;
        }
        let allowed = AT_ONCE + (began.elapsed().as_secs_f64() * A_SECOND as f64) as u64;
        println!("{heard} of {sent} heard, {allowed} allowed");
        assert!(heard <= allowed, "{heard} of {sent}, {allowed} allowed");
    });
}
