//! Questions over TCP, on connections that are kept, one open on each.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddrV4, TcpStream},
    time::Instant,
};

use anyhow::{Result, ensure};
use rustix::{
    event::{PollFd, PollFlags, poll},
    net::{AddressFamily, SocketType, bind, connect, socket},
};

use super::{
    load::{Load, Measured},
    message::Question,
};

const CONNECTIONS: usize = 16;

/// Asks for as long as `load` says.
///
/// # Errors
/// When an answer is wrong.
pub fn ask(to: SocketAddrV4, load: &Load) -> Result<Measured> {
    let mut questions = load.questions.iter().cycle();
    let mut open = load
        .questions
        .iter()
        .take(CONNECTIONS)
        .map(|question| connection(question, to))
        .collect::<Result<Vec<TcpStream>>>()?;
    let mut asked = Vec::new();
    let began = Instant::now();
    for stream in &mut open {
        asked.push(put(stream, &mut questions)?);
    }
    let mut times = Vec::new();
    let mut answer = [0; 514];
    while began.elapsed() < load.time {
        let mut events: Vec<PollFd<'_>> =
            open.iter().map(|stream| PollFd::new(stream, PollFlags::IN)).collect();
        poll(&mut events, None)?;
        let ready: Vec<usize> = (0..events.len()).filter(|&nth| !events[nth].revents().is_empty()).collect();
        for nth in ready {
            let length = open[nth].read(&mut answer)?;
            let (sent, question) = asked[nth];
            // An answer is short, and comes as a whole.
            ensure!(
                length > 2 && question.is_answered_by(&answer[2..length]),
                "a wrong answer: {:02x?}",
                &answer[..length]
            );
            times.push(sent.elapsed().as_nanos().try_into().unwrap_or(u32::MAX));
            asked[nth] = put(&mut open[nth], &mut questions)?;
        }
    }
    Ok(Measured::new(times, 0, began.elapsed()))
}

fn connection(question: &Question, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddrV4::new(question.source, 0))?;
    connect(&socket, &to)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn put<'a>(
    stream: &mut TcpStream,
    questions: &mut impl Iterator<Item = &'a Question>,
) -> Result<(Instant, &'a Question)> {
    // A connection's asker may name it: the load's askers are on other connections.
    let source = match stream.local_addr()?.ip() {
        std::net::IpAddr::V4(ip) => ip,
        std::net::IpAddr::V6(_) => anyhow::bail!("an IPv6 address"),
    };
    let question = questions.find(|question| question.source == source).expect("it goes round for ever");
    #[expect(clippy::cast_possible_truncation, reason = "a question is short")]
    let framed = [&(question.packet.len() as u16).to_be_bytes(), &question.packet[..]].concat();
    stream.write_all(&framed)?;
    Ok((Instant::now(), question))
}
