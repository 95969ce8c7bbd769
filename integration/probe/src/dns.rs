//! Questions to a given DNS server, over UDP or TCP, and the answers in words.

use crate::args::Args;
use crate::client::{TIMEOUT_MS, say};
use crate::dial::any;
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;
use steppe_probe::Outcome;
use steppe_probe::message::{self, Message};

/// A client without EDNS(0) takes no more over UDP (RFC 1035 section 2.3.4), this one more.
const LARGEST: usize = 4096;
/// A socket has one question alone, whose answer needs no telling apart.
const ID: u16 = 1;

/// Asks `--server ADDR:PORT` for a name and type, by UDP or with `--tcp`, and prints the answer's code and flags, then each
/// record; or, when none came, how that ended.
pub(crate) fn ask(args: &Args) -> std::result::Result<(), String> {
    let server: SocketAddr = args.text("server")?.parse().map_err(|_| "--server: ADDR:PORT is expected")?;
    let timeout = args.millis("timeout-ms", TIMEOUT_MS)?;
    let words = args.words();
    let name = words.first().ok_or("which name?")?;
    let kind = words.get(1).map_or("A", String::as_str);
    let question = message::question(ID, name, message::kind(kind)?)?;
    match exchange(server, args.has("tcp"), None, &question, timeout) {
        Err(e) => say(&Outcome::of(&e).to_string()),
        Ok(bytes) => say(&Message::parse(&bytes)?.to_string()),
    }
}

/// Asks for a name's IPv4 address: the first that is told, or the code and no address.
pub(crate) fn address(
    server: SocketAddr,
    tcp: bool,
    from: Option<SocketAddr>,
    name: &str,
    timeout: Duration,
) -> Result<String> {
    let invalid = |message: String| Error::new(ErrorKind::InvalidData, message);
    let question = message::question(ID, name, 1).map_err(invalid)?;
    let answer = Message::parse(&exchange(server, tcp, from, &question, timeout)?).map_err(invalid)?;
    let told = answer.records.iter().find_map(|record| {
        let words: Vec<_> = record.split(' ').collect();
        (words[0] == "answer" && words[3] == "A").then(|| words[4].to_owned())
    });
    Ok(told.unwrap_or(answer.code))
}

/// `from` is the source of a datagram.
fn exchange(
    server: SocketAddr,
    tcp: bool,
    from: Option<SocketAddr>,
    question: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>> {
    if tcp { by_tcp(server, question, timeout) } else { by_udp(server, from, question, timeout) }
}

fn by_udp(
    server: SocketAddr,
    from: Option<SocketAddr>,
    question: &[u8],
    timeout: Duration,
) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind(from.unwrap_or(any(server)))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(timeout))?;
    socket.send(question)?;
    let mut buffer = [0; LARGEST];
    loop {
        let n = socket.recv(&mut buffer)?;
        if buffer[..n].starts_with(&question[..2]) {
            return Ok(buffer[..n].to_vec());
        }
    }
}

fn by_tcp(server: SocketAddr, question: &[u8], timeout: Duration) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let length = u16::try_from(question.len()).map_err(|_| ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}
