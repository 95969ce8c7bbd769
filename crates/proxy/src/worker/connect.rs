//! Finding an endpoint that takes a connection.

use std::{os::fd::OwnedFd, time::Instant};

use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
    net::sockopt::socket_error,
};
use tracing::warn;

use super::{
    accept::EVERYTHING,
    connection::{Attempt, Connection, Stage},
    deadlines::Deadline,
    event_loop::Worker,
    token::{ConnectionKey, Side, Token},
};
use crate::{service::InUse, socket::start_connect};

/// Connect timeouts that finding an endpoint may take altogether: a client's patience ends too.
const PATIENCE: u32 = 5;

/// Whose fault a failed connect is.
enum Fault {
    /// The endpoint's: the next one may do better.
    Endpoint(Errno),
    /// This host's: it is short of descriptors or memory, and no endpoint would do better.
    Host(Errno),
}

impl Fault {
    /// connect(2) and socket(2) say what each means. EADDRNOTAVAIL counts against the endpoint: the ports of this host towards that
    /// one address are used up, and another address has as many again.
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => Self::Host(errno),
            _ => Self::Endpoint(errno),
        }
    }
}

impl Connection {
    /// Whether this is the deadline of the try that is under way.
    pub(super) fn awaits(&self, deadline: &Deadline) -> bool {
        match &self.stage {
            Stage::Connecting(attempt) => {
                self.generation == deadline.connection.generation && attempt.deadline == deadline.at
            }
            Stage::Open { .. } => false,
        }
    }

    fn attempt(&mut self) -> Option<&mut Attempt> {
        match &mut self.stage {
            Stage::Connecting(attempt) => Some(attempt),
            Stage::Open { .. } => None,
        }
    }
}

impl Worker {
    /// Tries endpoints until a connect is under way, or none is left.
    pub(super) fn try_next(&mut self, key: ConnectionKey) {
        let timeout = self.shared.connect_timeout;
        loop {
            let Some(connection) = self.connection(key) else { return };
            let patience_ends = connection.started + timeout * PATIENCE;
            let Stage::Connecting(attempt) = &mut connection.stage else { return };
            attempt.socket = None;
            let now = Instant::now();
            let first = !attempt.tried.any();
            let member = attempt.pool.pick(&attempt.tried).filter(|_| first || now + timeout < patience_ends);
            let Some(member) = member else {
                connection.service.counters.failed.increment();
                return self.abort(key, "no endpoint");
            };
            if !first {
                connection.service.counters.retried.increment();
            }
            attempt.member = member;
            // With nobody left to try after this one, giving up early would help nobody: a SYN that got lost is sent again
            // after 1 s (RFC 6298).
            let last = attempt.tried.count() + 1 >= attempt.pool.len() || now + timeout * 2 > patience_ends;
            attempt.deadline = if last { patience_ends } else { now + timeout };
            let deadline = Deadline { at: attempt.deadline, connection: key };
            let address = attempt.pool.endpoint(member).address;
            match start_connect(address) {
                Ok((socket, connected)) => {
                    let token = Token::Connection(key, Side::Endpoint).encode();
                    if let Err(error) = epoll::add(&self.epoll, &socket, token, EVERYTHING) {
                        return self.host_fault(key, error);
                    }
                    return if connected {
                        self.connected(key, socket)
                    } else {
                        self.await_connect(key, socket, deadline)
                    };
                }
                Err(errno) => match Fault::of(errno) {
                    Fault::Host(errno) => return self.host_fault(key, errno),
                    Fault::Endpoint(errno) => self.note_failure(key, errno),
                },
            }
        }
    }

    fn await_connect(&mut self, key: ConnectionKey, socket: OwnedFd, deadline: Deadline) {
        if let Some(attempt) = self.connection(key).and_then(Connection::attempt) {
            attempt.socket = Some(socket);
            self.deadlines.push(deadline);
        }
    }

    /// The endpoint's socket has news while a connect is under way.
    pub(super) fn connect_event(&mut self, key: ConnectionKey, flags: EventFlags) {
        let Some(attempt) = self.connection(key).and_then(Connection::attempt) else { return };
        let Some(socket) = attempt.socket.take() else { return };
        // With an error there would be one of these flags too, and nothing need be asked.
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        match if failed { socket_error(&socket) } else { Ok(Ok(())) } {
            Ok(Ok(())) if flags.intersects(EventFlags::OUT | EventFlags::IN) => {
                self.connected(key, socket);
                if let Some(connection) = self.connection(key) {
                    connection.note(Side::Endpoint, flags);
                    self.relay(key);
                }
            }
            Ok(Ok(())) => attempt.socket = Some(socket),
            Ok(Err(errno)) | Err(errno) => match Fault::of(errno) {
                Fault::Host(errno) => self.host_fault(key, errno),
                Fault::Endpoint(errno) => {
                    drop(socket);
                    self.note_failure(key, errno);
                    self.try_next(key);
                }
            },
        }
    }

    /// The endpoint has taken the connection.
    fn connected(&mut self, key: ConnectionKey, socket: OwnedFd) {
        let Some(connection) = self.connection(key) else { return };
        let Some(attempt) = connection.attempt() else { return };
        let endpoint = attempt.pool.endpoint(attempt.member).clone();
        endpoint.connected();
        connection.stage = Stage::Open { socket, endpoint: InUse::new(endpoint), kept_alive: false };
        self.keep_alive_later();
    }

    /// The endpoint has not: the next one is to be tried.
    fn note_failure(&mut self, key: ConnectionKey, errno: Errno) {
        let Some(connection) = self.connection(key) else { return };
        let Some(attempt) = connection.attempt() else { return };
        attempt.pool.connect_failed(attempt.member, errno, Instant::now());
        attempt.tried.insert(attempt.member);
    }

    fn host_fault(&mut self, key: ConnectionKey, errno: Errno) {
        let Some(connection) = self.connection(key) else { return };
        connection.service.counters.failed.increment();
        let (listener, error) = (connection.service.id.clone(), std::io::Error::from(errno));
        if self.host_warning.due(Instant::now()) {
            warn!(%listener, %error, "can't connect to any endpoint: this host is short of something");
        }
        self.abort(key, "host out of resources");
    }

    /// Gives up the connects that took too long.
    pub(super) fn give_up_overdue(&mut self) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some(deadline) = self.deadlines.pop_due(now) {
            let key = deadline.connection;
            if self.connection(key).is_some_and(|connection| connection.awaits(&deadline)) {
                self.note_failure(key, Errno::TIMEDOUT);
                self.try_next(key);
            }
        }
    }
}
