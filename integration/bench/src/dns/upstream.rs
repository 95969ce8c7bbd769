//! The resolver of the host: it knows every name.

use std::{
    net::{SocketAddrV4, UdpSocket},
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::stage::{Room, Stage};

/// Where a name leads, for five minutes.
const ANSWER: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\x01\x2c\0\x04\xc0\0\x02\x01";
const PORT: u16 = 53;

/// A thread that answers, for as long as the program runs.
#[derive(Debug)]
pub struct Upstream(SocketAddrV4);

impl Upstream {
    /// # Errors
    /// When the port is taken.
    pub fn start(room: &Room) -> Result<Self> {
        let address = SocketAddrV4::new(Stage::backend(1, 1), PORT);
        let socket = room.enter(|| UdpSocket::bind(address))?;
        thread::spawn(move || serve(&socket));
        Ok(Self(address))
    }

    /// Where it is asked.
    pub fn address(&self) -> SocketAddrV4 {
        self.0
    }
}

fn serve(socket: &UdpSocket) {
    let mut packet = [0; 1232];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet) else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let Some(question) = packet.get(12..length) else { continue };
        let name = question.iter().position(|byte| *byte == 0).unwrap_or(0);
        let Some(question) = question.get(..name + 5) else { continue };
        let answer = [&packet[..2], b"\x81\x80\0\x01\0\x01\0\0\0\0", question, ANSWER].concat();
        // Whoever is gone needs none.
        let _ = socket.send_to(&answer, from);
    }
}
