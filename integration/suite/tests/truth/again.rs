//! A port that is used again: connection tracking takes what comes from it for what went on there before.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use steppe_testbed::{Container, Host, within};

use super::{
    cast::{Cast, NOBODY},
    dial::{TIMEOUT_MS, Target, outcomes},
    table::{Line, Table},
};

/// For what takes a moment where it takes place at all.
const SHORTLY: Duration = Duration::from_millis(1_500);

/// By labels, what root may send to and others may not.
const FLOWS: [&str; 4] = ["udp alice-web at a", "udp alice-web", "udp remote at b", "dns-udp web"];
const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// Root begins flows, and nobody in particular goes on with them, from the same ports.
pub fn heirs(a: &Host, cast: &Cast<'_>) -> Table {
    let lines = FLOWS.map(|label| {
        let target = cast.target(label);
        let free = a.enter(|| UdpSocket::bind(ANY).and_then(|socket| socket.local_addr()));
        let from = free.expect("a port is free").to_string();
        let words = ["dial", "--timeout-ms", TIMEOUT_MS, "--from", &from, &target.dial];
        let cells = [0, NOBODY].map(|uid| {
            let told = outcomes(&a.probe(uid, &words).ok());
            cast.cell(target, &told[&target.dial])
        });
        Line { target: label.to_owned(), cells: cells.into() }
    });
    Table {
        diallers: vec!["root".to_owned(), "nobody".to_owned()],
        parts: vec![("from the same port".to_owned(), lines.into())],
    }
}

/// Where the proxy and dns are dialled and listen, while neither is there.
pub struct Deserted<'a> {
    pub a: &'a Host,
    pub client: &'a Container,
    /// A virtual IP that the client is granted, and the listener that it leads to.
    pub service: [SocketAddr; 2],
    /// The same for UDP.
    pub datagrams: [SocketAddr; 2],
    pub dns: SocketAddr,
}

impl Deserted<'_> {
    /// Whoever answered a client is gone, and the client begins anew from the same port.
    pub fn table(&self, cast: &Cast<'_>) -> Table {
        let [dialled, listener] = self.service;
        let [sent_to, hearing] = self.datagrams;
        let lines = [
            ("a service", "tcp", dialled, self.was_reset(dialled, listener)),
            ("a service", "udp", sent_to, self.was_answered(sent_to, hearing)),
            ("dns", "tcp", self.dns, self.was_reset(self.dns, self.dns)),
            ("dns", "udp", self.dns, self.was_answered(self.dns, self.dns)),
        ];
        let lines = lines.map(|(label, protocol, to, port)| {
            let label = format!("{protocol} {label}, once more");
            let target =
                Target { label: label.clone(), dial: format!("{protocol}/{to}"), server: String::new() };
            let cell = match port {
                Err(error) => format!("before:{:?}", error.kind()),
                Ok(port) => {
                    let from = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).to_string();
                    let words = ["probe", "dial", "--timeout-ms", TIMEOUT_MS, "--from", &from, &target.dial];
                    let told = outcomes(&self.client.exec(&words).ok());
                    cast.cell(&target, &told[&target.dial])
                }
            };
            Line { target: label, cells: vec![cell] }
        });
        Table {
            diallers: vec!["granted".to_owned()],
            parts: vec![("from the same port".to_owned(), lines.into())],
        }
    }

    /// Who listens at `at` resets a connection, and goes; the client's port.
    fn was_reset(&self, dialled: SocketAddr, at: SocketAddr) -> Result<u16> {
        let server = self.a.enter(|| TcpListener::bind(at))?;
        server.set_nonblocking(true)?;
        let mut stream = self.client.enter(|| TcpStream::connect_timeout(&dialled, SHORTLY))?;
        let accepted = within(SHORTLY, || server.accept().ok()).ok_or(ErrorKind::NotConnected)?.0;
        // With something unread the kernel resets instead of closing.
        stream.write_all(b"unread")?;
        accepted.set_read_timeout(Some(SHORTLY))?;
        accepted.peek(&mut [0])?;
        drop((accepted, server));
        stream.set_read_timeout(Some(SHORTLY))?;
        match stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(stream.local_addr()?.port()),
            other => Err(Error::other(format!("{other:?}"))),
        }
    }

    /// Who listens at `at` answers a datagram, and goes; the client's port.
    fn was_answered(&self, dialled: SocketAddr, at: SocketAddr) -> Result<u16> {
        let server = self.a.enter(|| UdpSocket::bind(at))?;
        let client = self.client.enter(|| UdpSocket::bind(ANY))?;
        for socket in [&server, &client] {
            socket.set_read_timeout(Some(SHORTLY))?;
        }
        client.send_to(b"who\n", dialled)?;
        let (_, from) = server.recv_from(&mut [0; 8])?;
        server.send_to(b"I\n", from)?;
        client.recv_from(&mut [0; 8])?;
        Ok(client.local_addr()?.port())
    }
}
