//! Those who ask. Answers are read by another implementation of the format.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
};

use hickory_proto::{
    op::{Edns, Message, Query},
    rr::{Name, RecordType},
};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::net::{DEADLINE, DNS, Namespace, SILENCE};

/// Where dns is.
pub(crate) fn at() -> SocketAddr {
    (DNS, 53).into()
}

/// A question.
pub(crate) fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.id = fastrand::u16(..);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

/// The same, with EDNS.
pub(crate) fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

/// Asks over UDP and gives what came, checked to be the answer to what was asked.
pub(crate) fn ask_message(net: &Namespace, from: Ipv4Addr, message: &Message) -> Message {
    heard(&sent(net, from, message), message)
}

/// Asks over UDP.
pub(crate) fn sent(net: &Namespace, from: Ipv4Addr, message: &Message) -> UdpSocket {
    let socket = net.udp(from);
    socket.connect(at()).unwrap();
    socket.send(&message.to_vec().unwrap()).unwrap();
    socket
}

/// What came; a machine that is stopped for a moment interrupts who waits with a deadline (signal(7)).
pub(crate) fn received(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.recv(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// What came, checked.
pub(crate) fn heard(socket: &UdpSocket, message: &Message) -> Message {
    let mut buffer = vec![0; 65_535];
    let length = received(socket, &mut buffer).expect("an answer");
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    check(message, &answer);
    answer
}

fn check(message: &Message, answer: &Message) {
    assert_eq!(answer.metadata.id, message.metadata.id);
    // The case is kept as well.
    let name = |message: &Message| message.queries[0].name().to_string();
    assert_eq!((name(answer), &answer.queries), (name(message), &message.queries));
}

/// What somebody is told: the response code and the data of the answers.
pub(crate) fn ask(net: &Namespace, from: Ipv4Addr, name: &str, kind: RecordType) -> String {
    told(&ask_message(net, from, &question(name, kind)))
}

pub(crate) fn told(answer: &Message) -> String {
    let mut text = format!("{:?}", answer.metadata.response_code);
    answer.answers.iter().for_each(|record| text.push_str(&format!(" {}", record.data)));
    text
}

/// Sends bytes and gives what comes, if anything does.
pub(crate) fn send_raw(net: &Namespace, from: Ipv4Addr, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket = net.udp(from);
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.connect(at()).unwrap();
    socket.send(bytes).unwrap();
    let mut buffer = vec![0; 65_535];
    received(&socket, &mut buffer).ok().map(|length| buffer[..length].to_vec())
}

/// A connection.
pub(crate) struct Tcp(pub(crate) TcpStream);

impl Tcp {
    pub(crate) fn dial(net: &Namespace, from: Ipv4Addr) -> Self {
        Self::try_dial(net, from).unwrap()
    }

    pub(crate) fn try_dial(net: &Namespace, from: Ipv4Addr) -> io::Result<Self> {
        let socket = net.run(|| socket(AddressFamily::INET, SocketType::STREAM, None))?;
        bind(&socket, &std::net::SocketAddrV4::new(from, 0))?;
        connect(&socket, &at())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Ok(Self(stream))
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let bytes = message.to_vec().unwrap();
        let framed = [&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat();
        self.0.write_all(&framed).unwrap();
    }

    pub(crate) fn receive(&mut self) -> io::Result<Message> {
        let mut length = [0; 2];
        self.0.read_exact(&mut length)?;
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        self.0.read_exact(&mut bytes)?;
        Ok(Message::from_vec(&bytes).unwrap())
    }

    pub(crate) fn ask(&mut self, message: &Message) -> Message {
        self.send(message);
        let answer = self.receive().unwrap();
        check(message, &answer);
        answer
    }
}
