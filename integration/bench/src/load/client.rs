//! The client's end.

use std::{
    io::{self, Read as _, Write as _},
    mem::MaybeUninit,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::{
    event::{
        Timespec,
        epoll::{self, EventData, EventFlags},
    },
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect, recv, send, socket_with,
        sockopt,
    },
};

use super::{Load, Measured, Mode, Request};

/// For connections to be there, and buffers to be warm.
const WARM_UP: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER_BYTES: usize = 256 * 1024;
/// Answers whose times are kept.
const KEPT_TIMES: usize = 4_000_000;

struct Connection {
    socket: OwnedFd,
    /// Of the present request, or of the connection in [`Mode::Connect`].
    began: Instant,
    asked: bool,
    /// Bytes of the present answer still to come.
    missing: u64,
}

struct Client<'a> {
    load: &'a Load,
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// How many connections were begun so far.
    begun: usize,
    answered: usize,
    buffer: Vec<u8>,
    measured: Measured,
    times: Vec<u32>,
}

/// Runs a load; says `begin` when what is measured begins, and in the end what it found.
///
/// # Errors
/// When nothing answers.
pub fn client(load: &Load) -> Result<()> {
    let mut client = Client {
        load,
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        connections: (0..load.connections).map(|_| None).collect(),
        begun: 0,
        answered: 0,
        buffer: vec![0; BUFFER_BYTES],
        measured: Measured::default(),
        times: Vec::with_capacity(KEPT_TIMES),
    };
    for slot in 0..load.connections {
        client.begin(slot)?;
        // Not more at once than a listen queue holds.
        if slot % 256 == 255 {
            client.until(Instant::now() + PATIENCE, |client| client.answered_or_moving() >= slot)?;
        }
    }
    let all = load.connections;
    client.until(Instant::now() + PATIENCE, |client| client.answered_or_moving() >= all)?;
    if client.answered_or_moving() < all {
        bail!(
            "{} of {all} connections answered, {} failed",
            client.answered_or_moving(),
            client.measured.failed
        );
    }
    client.until(Instant::now() + WARM_UP, |_| false)?;
    client.measured = Measured::default();
    client.times.clear();
    println!("begin");
    io::stdout().flush()?;
    let began = Instant::now();
    if load.mode == Mode::Idle {
        // Nothing is sent, and nothing comes.
        io::stdin().read_to_end(&mut vec![])?;
    } else {
        client.until(began + load.time, |_| false)?;
    }
    client.measured.seconds = began.elapsed().as_secs_f64();
    client.report()
}

impl Client<'_> {
    /// Connections that have had an answer, or in bulk, the first bytes of one.
    fn answered_or_moving(&self) -> usize {
        self.answered
    }

    fn until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) -> Result<()> {
        let mut events: [MaybeUninit<epoll::Event>; 256] = [const { MaybeUninit::uninit() }; 256];
        loop {
            let now = Instant::now();
            if done(self) || now >= deadline {
                return Ok(());
            }
            let left = Timespec::try_from(deadline - now)?;
            let slots: Vec<usize> = match epoll::wait(&self.epoll, &mut events, Some(&left)) {
                #[expect(clippy::cast_possible_truncation, reason = "an index of ours")]
                Ok((events, _)) => events.iter().map(|event| event.data.u64() as usize).collect(),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            slots.into_iter().try_for_each(|slot| self.step(slot))?;
        }
    }

    fn begin(&mut self, slot: usize) -> Result<()> {
        let target = self.load.targets[self.begun % self.load.targets.len()];
        let source = self.load.sources[self.begun % self.load.sources.len()];
        self.begun += 1;
        let began = Instant::now();
        let socket = socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
            None,
        )?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        bind(&socket, &SocketAddrV4::new(source, 0)).context("a client's address")?;
        match connect(&socket, &target) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(errno) => return Err(errno).context("connect"),
        }
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), flags)?;
        self.connections[slot] = Some(Connection { socket, began, asked: false, missing: 0 });
        Ok(())
    }

    fn request(&self) -> Request {
        let bytes = if self.load.mode == Mode::Bulk { u64::MAX } else { self.load.bytes };
        Request { bytes, piece: self.load.piece, close: self.load.mode == Mode::Connect }
    }

    fn step(&mut self, slot: usize) -> Result<()> {
        let request = self.request();
        loop {
            let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
            if !connection.asked {
                match send(&connection.socket, &request.encode(), SendFlags::NOSIGNAL) {
                    Ok(_) => (connection.asked, connection.missing) = (true, request.bytes),
                    Err(Errno::AGAIN) => return Ok(()),
                    Err(_) => return self.failed(slot),
                }
            }
            // What is thrown away by the kernel need not be copied (MSG_TRUNC of tcp(7)).
            let read = recv(&connection.socket, &mut self.buffer[..], RecvFlags::TRUNC).map(|(_, read)| read);
            match read {
                Ok(0) if request.close && connection.missing == 0 => {
                    self.connections[slot] = None;
                    self.begin(slot)?;
                    return Ok(());
                }
                Ok(0) | Err(Errno::CONNRESET | Errno::CONNREFUSED | Errno::PIPE | Errno::TIMEDOUT) => {
                    return self.failed(slot);
                }
                Ok(read) => {
                    if request.bytes == u64::MAX && connection.missing == u64::MAX {
                        self.answered += 1;
                    }
                    connection.missing -= (read as u64).min(connection.missing);
                    self.measured.bytes += read as u64;
                    if connection.missing > 0 {
                        continue;
                    }
                    let took = connection.began.elapsed();
                    self.answered += 1;
                    self.measured.answers += 1;
                    if self.times.len() < KEPT_TIMES {
                        self.times.push(u32::try_from(took.as_nanos()).unwrap_or(u32::MAX));
                    }
                    match self.load.mode {
                        // The server closes.
                        Mode::Connect | Mode::Bulk => {}
                        Mode::Idle => return Ok(()),
                        Mode::Kept => (connection.asked, connection.began) = (false, Instant::now()),
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno).context("recv"),
            }
        }
    }

    fn failed(&mut self, slot: usize) -> Result<()> {
        self.measured.failed += 1;
        self.connections[slot] = None;
        self.begin(slot)
    }

    fn report(mut self) -> Result<()> {
        self.times.sort_unstable();
        let at = |percent: usize| {
            let index = (self.times.len() * percent / 100).min(self.times.len().saturating_sub(1));
            self.times.get(index).map_or(0.0, |&ns| f64::from(ns) / 1e3)
        };
        (self.measured.p50, self.measured.p99) = (at(50), at(99));
        println!("{}", serde_json::to_string(&self.measured)?);
        Ok(())
    }
}
