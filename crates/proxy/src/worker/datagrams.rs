//! Passing datagrams on. Their sockets are level-triggered, unlike those of connections: most of the time one datagram waits, and being told
//! anew when there are more is cheaper than the call that finds none.

use std::{collections::HashMap, net::SocketAddrV4, os::fd::OwnedFd, sync::Arc, time::Instant};

use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, recvfrom, send, sendto},
};
use slab::Slab;
use tracing::warn;

use super::{ListenKey, event_loop::Worker, flow::Flow, token::Token};
use crate::{
    flows::{Flows, Peers},
    limits::Permit,
    service::Service,
};

/// Datagrams taken from one listener before others get their turn.
const TURN: usize = 64;
/// Turns that a listener which is about to close gets for what waits there: more than its queue holds.
const LAST_TURNS: usize = 16;
/// Datagrams taken from one endpoint's socket before others get their turn.
const ANSWERS: usize = 8;
/// An answer as large as a packet carries is seldom alone, and the next is looked for at once.
const FULL: usize = 1_200;
/// How often one datagram is sent, each time to another endpoint or after an error that another one had left.
const SENDS: usize = 3;

/// The UDP half of a worker.
#[derive(Debug)]
pub(super) struct Datagrams {
    pub(super) sockets: Slab<Hearing>,
    keys: HashMap<ListenKey, usize>,
    pub(super) flows: Flows<Flow>,
}

/// A socket on which clients are heard.
#[derive(Debug)]
pub(super) struct Hearing {
    socket: OwnedFd,
    pub(super) service: Arc<Service>,
    _permit: Permit,
}

impl Datagrams {
    pub(super) fn new(flows: Flows<Flow>) -> Self {
        Self { sockets: Slab::new(), keys: HashMap::new(), flows }
    }
}

impl Worker {
    pub(super) fn hear(&mut self, key: ListenKey, socket: OwnedFd, permit: Permit, service: Arc<Service>) {
        let index = self.datagrams.sockets.insert(Hearing { socket, service, _permit: permit });
        self.datagrams.keys.insert(key, index);
        let heard = &self.datagrams.sockets[index];
        if let Err(error) =
            epoll::add(&self.epoll, &heard.socket, Token::Datagrams(index as u32).encode(), EventFlags::IN)
        {
            warn!(listener = %heard.service.id, %error, "can't watch a UDP socket: raise fs.epoll.max_user_watches");
        }
    }

    /// Closes a listener. What waits there is passed on, but its flows end: they answer by its socket.
    pub(super) fn stop_hearing(&mut self, key: ListenKey) {
        let Some(index) = self.datagrams.keys.remove(&key) else { return };
        for _ in 0..LAST_TURNS {
            if !self.hear_some(index as u32) {
                break;
            }
        }
        self.end_flows("listener closed", |peers, _| peers.listener == index as u32);
        self.datagrams.sockets.remove(index);
    }

    pub(super) fn stop_hearing_all(&mut self) {
        let keys: Vec<_> = self.datagrams.keys.keys().copied().collect();
        keys.into_iter().for_each(|key| self.stop_hearing(key));
    }

    /// The endpoints of a listener have changed: the flows of those that left end, and their clients' next datagrams go
    /// elsewhere.
    pub(super) fn reroute(&mut self, key: ListenKey) {
        let Some(&index) = self.datagrams.keys.get(&key) else { return };
        let there = self.datagrams.sockets[index].service.targets.load().endpoints();
        self.end_flows("endpoint left", |peers, flow| {
            peers.listener == index as u32 && !there.contains(&flow.endpoint.address())
        });
        self.datagrams.flows.each(|peers, flow| {
            if peers.listener == index as u32 {
                // They are numbers in the pool, which is another now.
                flow.tried.clear();
            }
        });
    }

    /// Passes on what waits at a listener. Says whether there may be more.
    pub(super) fn hear_some(&mut self, index: u32) -> bool {
        let now = Instant::now();
        for _ in 0..TURN {
            let Some(heard) = self.datagrams.sockets.get(index as usize) else { return false };
            match recvfrom(&heard.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, length, Some(from))) => {
                    // The listener is of the IPv4 family, and so is whoever sends to it.
                    if let Ok(client) = SocketAddrV4::try_from(from) {
                        self.forward(Peers { listener: index, client }, length, now);
                    }
                }
                Err(Errno::AGAIN) => return false,
                // A datagram with a wrong checksum, or a signal; errors of peers don't come to a socket without one.
                Ok(_) | Err(_) => {}
            }
        }
        true
    }

    /// Passes a client's datagram, which is in the buffer, on to its flow's endpoint.
    fn forward(&mut self, peers: Peers, length: usize, now: Instant) {
        let found = self.datagrams.flows.find(&peers);
        let Some(index) = found.or_else(|| self.open(peers, now)) else { return };
        self.datagrams.flows.touch(index, now);
        for _ in 0..SENDS {
            let Some((_, flow)) = self.datagrams.flows.get_mut(index) else { return };
            match send(&flow.socket, &self.buffer[..length], SendFlags::empty()) {
                Ok(_) => {
                    flow.bytes_to_endpoint += length as u64;
                    return;
                }
                // Of an earlier datagram, which this one's sending was told of; it was not sent.
                Err(errno) if is_fault(errno) => self.move_on(index, errno, now),
                // It is lost, as datagrams may be: too large for the path, or too many at once.
                Err(_) => return,
            }
        }
    }

    /// An endpoint has sent something, or is told to be unreachable.
    pub(super) fn answer(&mut self, index: u32) {
        let now = Instant::now();
        for _ in 0..ANSWERS {
            let Some((peers, flow)) = self.datagrams.flows.get_mut(index) else { return };
            match recv(&flow.socket, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, length)) => {
                    flow.has_answered();
                    flow.bytes_to_client += length as u64;
                    let heard = &self.datagrams.sockets[peers.listener as usize];
                    // A client that is gone, or takes no more, misses it, as datagrams may be missed.
                    let _ = sendto(&heard.socket, &self.buffer[..length], SendFlags::empty(), &peers.client);
                    self.datagrams.flows.touch(index, now);
                    if length < FULL {
                        return;
                    }
                }
                Err(errno) if is_fault(errno) => return self.move_on(index, errno, now),
                Err(_) => return,
            }
        }
    }
}

/// Whether an error says that the endpoint can't be reached: ICMP's port, protocol or host unreachable (icmp(7), ip(7)), or this
/// host's own routes and rules.
pub(super) fn is_fault(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::NOPROTOOPT
            | Errno::ACCESS
            | Errno::PERM
    )
}
