//! A resolver of the test's own.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use hickory_proto::{
    op::{Message, MessageType, OpCode},
    rr::{RData, Record, rdata},
};

use crate::net::{DEADLINE, Namespace};

/// A question that a resolver was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) message: Message,
    pub(crate) from: SocketAddr,
    pub(crate) tcp: bool,
}

/// Answers with what `answer` makes of a question; `None` is silence.
pub(crate) struct Upstream {
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

type Answer = dyn Fn(&Asked, &dyn Fn(&Message)) + Send + Sync;

impl Upstream {
    /// `answer` gets what was asked, and sends what it likes.
    pub(crate) fn start(
        net: &Namespace,
        ip: Ipv4Addr,
        answer: impl Fn(&Asked, &dyn Fn(&Message)) + Send + Sync + 'static,
    ) -> Self {
        let (udp, tcp) =
            net.run(|| (bound(|| UdpSocket::bind((ip, 53))), bound(|| TcpListener::bind((ip, 53)))));
        // So that it is looked whether to stop.
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let answer: Arc<Answer> = Arc::new(answer);
        let over_udp = {
            let (asked, stop, answer) = (asked.clone(), stop.clone(), answer.clone());
            move || serve_udp(&udp, &asked, &stop, &*answer)
        };
        tcp.set_nonblocking(true).unwrap();
        let over_tcp = {
            let (asked, stop) = (asked.clone(), stop.clone());
            move || serve_tcp(&tcp, &asked, &stop, &*answer)
        };
        Self { asked, stop, tasks: vec![thread::spawn(over_udp), thread::spawn(over_tcp)] }
    }

    /// One that has an address for every name.
    pub(crate) fn echo(net: &Namespace, ip: Ipv4Addr, address: Ipv4Addr, ttl: u32) -> Self {
        Self::start(net, ip, move |asked, send| send(&addressed(&asked.message, &[address], ttl)))
    }

    /// One that never says anything.
    pub(crate) fn dead(net: &Namespace, ip: Ipv4Addr) -> Self {
        Self::start(net, ip, |_, _| {})
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The names that it was asked for, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.asked().iter().map(|asked| asked.message.queries[0].name().to_string()).collect()
    }
}

/// A socket, once the address is free: one that was there before us lives on in a process that another test has just forked, until
/// that executes its program.
fn bound<T>(bind: impl Fn() -> io::Result<T>) -> T {
    let start = Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == ErrorKind::AddrInUse && start.elapsed() < DEADLINE => {
                thread::yield_now();
            }
            bound => return bound.unwrap(),
        }
    }
}

fn serve_udp(udp: &UdpSocket, log: &Mutex<Vec<Asked>>, stop: &AtomicBool, answer: &Answer) {
    let mut buffer = vec![0; 65_535];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, from)) = udp.recv_from(&mut buffer) else { continue };
        let asked = Asked { message: Message::from_vec(&buffer[..length]).unwrap(), from, tcp: false };
        log.lock().unwrap().push(asked.clone());
        answer(&asked, &|message| {
            udp.send_to(&message.to_vec().unwrap(), from).unwrap();
        });
    }
}

fn serve_tcp(tcp: &TcpListener, log: &Mutex<Vec<Asked>>, stop: &AtomicBool, answer: &Answer) {
    while !stop.load(Ordering::Relaxed) {
        let (mut stream, from) = match tcp.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::park_timeout(Duration::from_millis(5));
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        stream.set_nonblocking(false).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut bytes).unwrap();
        let asked = Asked { message: Message::from_vec(&bytes).unwrap(), from, tcp: true };
        log.lock().unwrap().push(asked.clone());
        answer(&asked, &|message| {
            let bytes = message.to_vec().unwrap();
            let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
            (&stream).write_all(&framed).unwrap();
        });
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.drain(..).for_each(|task| task.join().unwrap());
    }
}

/// An answer without records.
pub(crate) fn bare(question: &Message) -> Message {
    let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.add_query(question.queries[0].clone());
    answer
}

/// An answer of some addresses.
pub(crate) fn addressed(question: &Message, addresses: &[Ipv4Addr], ttl: u32) -> Message {
    let mut answer = bare(question);
    for &address in addresses {
        let name = question.queries[0].name().clone();
        answer.add_answer(Record::from_rdata(name, ttl, RData::A(rdata::A(address))));
    }
    answer
}
