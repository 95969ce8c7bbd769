//! The server's end.

use std::{mem::MaybeUninit, net::Ipv4Addr, net::SocketAddrV4, os::fd::OwnedFd};

use anyhow::Result;
use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept_with, bind, listen,
        recv, send, shutdown, socket_with, sockopt,
    },
};
use slab::Slab;

use super::{PORT, REQUEST_BYTES, Request};

const BACKLOG: i32 = 4096;
const BUFFER_BYTES: usize = 256 * 1024;
const LISTENER: u64 = u64::MAX;
/// Bytes that one connection may have before others get their turn.
const TURN_BYTES: usize = 4 * BUFFER_BYTES;

struct Connection {
    socket: OwnedFd,
    request: [u8; REQUEST_BYTES],
    read: usize,
    /// The present request, and what is missing of its answer.
    answering: Option<(Request, u64)>,
}

enum Turn {
    Wait,
    Again,
    Over,
}

/// Serves on every address of the namespace, until killed.
///
/// # Errors
/// When the port is taken.
pub fn serve() -> Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let listener = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_tcp_nodelay(&listener, true)?;
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    listen(&listener, BACKLOG)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let body = vec![b'x'; BUFFER_BYTES];
    let mut connections = Slab::<Connection>::new();
    let mut again = Vec::new();
    let mut events: [MaybeUninit<epoll::Event>; 256] = [const { MaybeUninit::uninit() }; 256];
    loop {
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut ready = std::mem::take(&mut again);
        match epoll::wait(&epoll, &mut events, (!ready.is_empty()).then_some(&at_once)) {
            Ok((events, _)) => ready.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for token in ready {
            if token == LISTENER {
                while let Ok(socket) = accept_with(&listener, flags) {
                    let entry = connections.vacant_entry();
                    let everything = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
                    epoll::add(&epoll, &socket, EventData::new_u64(entry.key() as u64), everything)?;
                    entry.insert(Connection {
                        socket,
                        request: [0; REQUEST_BYTES],
                        read: 0,
                        answering: None,
                    });
                }
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "an index of ours")]
            let key = token as usize;
            let Some(connection) = connections.get_mut(key) else { continue };
            match connection.step(&body) {
                Turn::Wait => {}
                Turn::Again => again.push(token),
                Turn::Over => drop(connections.remove(key)),
            }
        }
    }
}

impl Connection {
    fn step(&mut self, body: &[u8]) -> Turn {
        let mut budget = TURN_BYTES;
        loop {
            if budget == 0 {
                return Turn::Again;
            }
            if let Some((request, missing)) = &mut self.answering {
                let wanted = (*missing).min(u64::from(request.piece)).min(body.len() as u64);
                let wanted = usize::try_from(wanted).unwrap_or(body.len());
                match send(&self.socket, &body[..wanted], SendFlags::NOSIGNAL) {
                    Ok(sent) => {
                        *missing -= sent as u64;
                        budget = budget.saturating_sub(sent);
                    }
                    Err(Errno::AGAIN) => return Turn::Wait,
                    Err(_) => return Turn::Over,
                }
                if *missing == 0 {
                    let close = request.close;
                    self.answering = None;
                    if close {
                        // What the client sends after that is its end alone; the kernel sees to it.
                        let _ = shutdown(&self.socket, Shutdown::Write);
                        return Turn::Over;
                    }
                }
                continue;
            }
            match recv(&self.socket, &mut self.request[self.read..], RecvFlags::empty()) {
                Ok((0, _)) => return Turn::Over,
                Ok((read, _)) => self.read += read,
                Err(Errno::AGAIN) => return Turn::Wait,
                Err(_) => return Turn::Over,
            }
            if self.read == REQUEST_BYTES {
                let request = Request::decode(self.request);
                self.read = 0;
                self.answering = Some((request, request.bytes));
            }
        }
    }
}
