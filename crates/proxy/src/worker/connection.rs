//! A connection, as its worker holds it.

use std::{net::SocketAddrV4, os::fd::OwnedFd, sync::Arc, time::Instant};

use rustix::event::epoll::EventFlags;

use super::token::Side;
use crate::{
    balance::Tried,
    copy::Flow,
    limits::Permit,
    service::{InUse, Membership, Pool},
    watch::ConnectionInfo,
};

/// One connection: a client's socket, and an endpoint's once one has taken it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) generation: u32,
    pub(super) client: SocketAddrV4,
    pub(super) started: Instant,
    pub(super) service: Membership,
    pub(super) client_socket: OwnedFd,
    pub(super) stage: Stage,
    pub(super) to_endpoint: Flow,
    pub(super) to_client: Flow,
    /// The kernel said that this socket is broken (EPOLLERR).
    pub(super) broken: Option<Side>,
    /// It waits in the queue of those that have more to do.
    pub(super) queued: bool,
    /// Two descriptors: the sockets.
    _permit: Permit,
}

/// How far a connection has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// No endpoint has taken it yet.
    Connecting(Box<Attempt>),
    /// An endpoint has.
    Open {
        socket: OwnedFd,
        endpoint: InUse,
        /// Whether the endpoint is asked from time to time if it still lives.
        kept_alive: bool,
    },
}

/// A connect under way.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) pool: Arc<Pool>,
    pub(super) tried: Tried,
    /// The endpoint that is tried, by its number in the pool.
    pub(super) member: u16,
    /// Its socket; `None` before the first try.
    pub(super) socket: Option<OwnedFd>,
    /// When this try is given up.
    pub(super) deadline: Instant,
}

impl Connection {
    pub(super) fn new(
        (id, generation): (u64, u32),
        (client_socket, client): (OwnedFd, SocketAddrV4),
        service: Membership,
        pool: Arc<Pool>,
        ahead: &[u8],
        permit: Permit,
    ) -> Self {
        let started = Instant::now();
        let attempt = Attempt { pool, tried: Tried::default(), member: 0, socket: None, deadline: started };
        Self {
            id,
            generation,
            client,
            started,
            service,
            client_socket,
            stage: Stage::Connecting(Box::new(attempt)),
            to_endpoint: Flow::new(ahead),
            to_client: Flow::new(&[]),
            broken: None,
            queued: false,
            _permit: permit,
        }
    }

    /// Remembers what the kernel said of a socket.
    pub(super) fn note(&mut self, side: Side, events: EventFlags) {
        let (from, to) = match side {
            Side::Client => (&mut self.to_endpoint, &mut self.to_client),
            Side::Endpoint => (&mut self.to_client, &mut self.to_endpoint),
        };
        if events.contains(EventFlags::IN) {
            from.source_readable();
        }
        if events.contains(EventFlags::PRI) {
            from.source_urgent();
        }
        if events.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            from.source_ending();
        }
        if events.intersects(EventFlags::OUT | EventFlags::HUP | EventFlags::ERR) {
            to.sink_writable();
        }
        if events.contains(EventFlags::ERR) {
            self.broken = Some(side);
        }
    }

    /// Bytes of memory for what its peers do not take yet.
    pub(super) fn kept(&self) -> usize {
        self.to_endpoint.kept() + self.to_client.kept()
    }

    /// For people.
    pub(super) fn info(&self, now: Instant) -> ConnectionInfo {
        let endpoint = match &self.stage {
            Stage::Connecting(_) => None,
            Stage::Open { endpoint, .. } => Some(endpoint.address()),
        };
        ConnectionInfo {
            id: self.id,
            listener: self.service.id.clone(),
            service: self.service.name.clone(),
            client: self.client,
            endpoint,
            age: now.saturating_duration_since(self.started),
            bytes_to_endpoint: self.to_endpoint.bytes,
            bytes_to_client: self.to_client.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // Ten thousand of them are to cost at most 5 MB, with the slab's spare half.
        assert!(size_of::<Connection>() <= 250, "{} bytes", size_of::<Connection>());
    }
}
