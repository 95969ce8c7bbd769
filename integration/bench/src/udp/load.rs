//! Clients that ask and wait, and servers that send back what they get.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::stage::Room;

/// A question that was not answered for so long is lost, and asked again.
const PATIENCE: Duration = Duration::from_millis(200);
/// More than any datagram here.
const BUFFER: usize = 2_048;

/// Servers, until the program ends.
#[derive(Debug)]
pub struct Echoes;

impl Echoes {
    /// # Errors
    /// When an address is taken.
    pub fn start(room: &Room, addresses: impl Iterator<Item = SocketAddrV4>) -> Result<Self> {
        for address in addresses {
            let socket = room.enter(|| UdpSocket::bind(address))?;
            thread::spawn(move || {
                let mut buffer = [0; BUFFER];
                loop {
                    if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                        // Who has ended asks no more.
                        let _ = socket.send_to(&buffer[..length], from);
                    }
                }
            });
        }
        Ok(Self)
    }
}

/// What is asked.
#[derive(Debug)]
pub struct Load {
    pub targets: Vec<SocketAddrV4>,
    pub sources: Vec<Ipv4Addr>,
    /// Questions that are open at a time, each from a port of its own.
    pub clients: usize,
    pub bytes: usize,
    /// Whether each question comes from a new port.
    pub new: bool,
    pub time: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Measured {
    /// How long each answer took.
    pub micros: Vec<f64>,
    pub seconds: f64,
    pub lost: u64,
}

struct Client {
    socket: UdpSocket,
    asked: Instant,
}

impl Load {
    /// Asks for as long as it takes.
    ///
    /// # Errors
    /// The system's.
    pub fn run(&self) -> Result<Measured> {
        let (question, mut answer) = (vec![b'?'; self.bytes], [0; BUFFER]);
        let (mut measured, began) = (Measured::default(), Instant::now());
        let mut clients = (0..self.clients).map(|n| self.client(n, &question)).collect::<Result<Vec<_>>>()?;
        let mut opened = clients.len();
        let patience = Timespec::try_from(PATIENCE)?;
        while began.elapsed() < self.time {
            let mut events: Vec<_> =
                clients.iter().map(|client| PollFd::new(&client.socket, PollFlags::IN)).collect();
            poll(&mut events, Some(&patience))?;
            let ready: Vec<bool> = events.iter().map(|event| !event.revents().is_empty()).collect();
            for (client, ready) in clients.iter_mut().zip(ready) {
                if ready {
                    match client.socket.recv(&mut answer) {
                        Ok(_) => measured.micros.push(client.asked.elapsed().as_secs_f64() * 1e6),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                        Err(error) => return Err(error.into()),
                    }
                } else if client.asked.elapsed() < PATIENCE {
                    continue;
                } else {
                    measured.lost += 1;
                }
                if self.new {
                    *client = self.client(opened, &question)?;
                    opened += 1;
                } else {
                    client.asked = Instant::now();
                    client.socket.send(&question)?;
                }
            }
        }
        measured.seconds = began.elapsed().as_secs_f64();
        Ok(measured)
    }

    /// One that has asked.
    fn client(&self, nth: usize, question: &[u8]) -> Result<Client> {
        let socket = UdpSocket::bind((self.sources[nth % self.sources.len()], 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(self.targets[nth % self.targets.len()])?;
        let asked = Instant::now();
        socket.send(question)?;
        Ok(Client { socket, asked })
    }
}
