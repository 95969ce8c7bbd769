//! One question to one resolver.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use crate::wire::{Answer, Edns, Request, UDP_LIMIT, UnusableAnswer, WireName};

/// A question that is not answered is asked again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// What is no answer to our question is passed over so often; a resolver does not send that many, a forger does.
const FOREIGN: usize = 64;
/// The longest that an answer over TCP may take.
const TCP: Duration = Duration::from_secs(2);
/// What a resolver may send over UDP, and then some, so that a longer packet is seen to be one.
const BUFFER: usize = 4_096;

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum Failed {
    /// The system said no, or the resolver's host did.
    #[error("{0}")]
    System(#[from] io::Error),
    /// What came makes no sense.
    #[error("what it said makes no sense")]
    Nonsense,
    /// It did not come in time.
    #[error("it did not answer over TCP in time")]
    Late,
}

/// Asks over UDP, and over TCP where the answer does not fit. Goes on asking until it is dropped.
pub(super) async fn exchange(to: SocketAddr, question: &Request) -> Result<Answer, Failed> {
    let answer = over_udp(to, question).await?;
    if answer.is_misunderstanding() && question.edns.is_some() {
        return over_udp(to, &Request { edns: None, ..question.clone() }).await;
    }
    Ok(answer)
}

async fn over_udp(to: SocketAddr, question: &Request) -> Result<Answer, Failed> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A socket for each question, whose port the kernel chooses by chance, and which hears that resolver alone (RFC 5452 §9.2).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(to).await?;
    let id = random_id();
    let query = query(id, question);
    let mut buffer = vec![0; BUFFER];
    let mut foreign = 0;
    loop {
        socket.send(&query).await?;
        let heard = timeout(AGAIN, async {
            loop {
                let length = socket.recv(&mut buffer).await?;
                match Answer::read(&buffer[..length], id, &question.name, question.kind, Instant::now()) {
                    Ok(answer) => return Ok(Some(answer)),
                    Err(UnusableAnswer::Truncated) => return Ok(None),
                    Err(UnusableAnswer::Malformed) => return Err(Failed::Nonsense),
                    Err(UnusableAnswer::Foreign) => foreign += 1,
                }
                if foreign > FOREIGN {
                    return Err(Failed::Nonsense);
                }
            }
        });
        match heard.await {
            Ok(Ok(Some(answer))) => return Ok(answer),
            Ok(Ok(None)) => return timeout(TCP, over_tcp(to, question)).await.unwrap_or(Err(Failed::Late)),
            Ok(Err(failed)) => return Err(failed),
            Err(_) => {}
        }
    }
}

async fn over_tcp(to: SocketAddr, question: &Request) -> Result<Answer, Failed> {
    let mut stream = TcpStream::connect(to).await?;
    let id = random_id();
    let query = query(id, question);
    let mut framed = (query.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(&query);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Answer::read(&answer, id, &question.name, question.kind, Instant::now()).map_err(|_| Failed::Nonsense)
}

/// The question as we ask it: in lower case, and with EDNS for a size of our own.
fn query(id: u16, question: &Request) -> Vec<u8> {
    let mut query = Vec::with_capacity(64);
    query.extend_from_slice(&id.to_be_bytes());
    query.extend_from_slice(&[1, if question.checking_disabled { 0x10 } else { 0 }, 0, 1, 0, 0, 0, 0, 0]);
    query.push(u8::from(question.edns.is_some()));
    push_question(&mut query, &question.name, question.kind);
    if let Some(Edns { dnssec, .. }) = question.edns {
        query.extend_from_slice(b"\0\0\x29");
        query.extend_from_slice(&(UDP_LIMIT as u16).to_be_bytes());
        query.extend_from_slice(&[0, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
    }
    query
}

fn push_question(query: &mut Vec<u8>, name: &WireName, kind: u16) {
    query.extend_from_slice(name.as_bytes());
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&[0, 1]);
}

/// A number that nobody can guess.
fn random_id() -> u16 {
    let mut bytes = [0; 2];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()) {
        Ok(2) => u16::from_be_bytes(bytes),
        // The kernel has had randomness since long before anything starts that has a network.
        _ => fastrand::u16(..),
    }
}
