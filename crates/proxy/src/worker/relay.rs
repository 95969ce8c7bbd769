//! Carrying a connection that an endpoint has taken, and ending it.

use std::{os::fd::OwnedFd, time::Instant};

use rustix::{event::epoll::EventFlags, io::Errno, net::sockopt::socket_error};
use tracing::debug;

use super::{
    connection::{Connection, Stage},
    event_loop::Worker,
    token::{ConnectionKey, Side},
    verdict::{Findings, Verdict, described},
};
use crate::{
    copy::{BUFFER_BYTES, Failure, Means, Outcome, SCARCE_BYTES, Stream as _, pump},
    socket::reset,
    watch::{ConnectionInfo, Ended, Ends},
};

/// Bytes thrown away at the most before a socket whose peer has no partner left is closed.
const DISCARD_BYTES: usize = 16 * BUFFER_BYTES;

/// What a worker keeps for slow peers before it reads less at a time: many peers that read nothing must not fill the memory.
const KEPT_BYTES: usize = 8 << 20;

impl Worker {
    /// A socket of a connection has news.
    pub(super) fn ready(&mut self, key: ConnectionKey, side: Side, flags: EventFlags) {
        let Some(connection) = self.connection(key) else { return };
        match (&connection.stage, side) {
            (Stage::Connecting(_), Side::Endpoint) => self.connect_event(key, flags),
            (Stage::Connecting(_), Side::Client) => {
                connection.note(side, flags);
                if connection.broken.is_some() {
                    let errno = pending_error(&connection.client_socket);
                    self.abort(key, described(Side::Client, errno));
                }
            }
            (Stage::Open { .. }, _) => {
                connection.note(side, flags);
                self.relay(key);
            }
        }
    }

    /// Lets both directions have a turn, and does what follows from it.
    pub(super) fn relay(&mut self, key: ConnectionKey) {
        let Some(connection) = self.connections.get_mut(key.index as usize) else { return };
        let Stage::Open { socket, .. } = &connection.stage else { return };
        self.kept_bytes -= connection.kept();
        let room = if self.kept_bytes < KEPT_BYTES { BUFFER_BYTES } else { SCARCE_BYTES };
        let client = &connection.client_socket;
        let means = &mut Means { buffer: &mut self.buffer[..room], pipes: &mut self.pipes };
        let (there, back) = (&mut connection.to_endpoint, &mut connection.to_client);
        if back.finished() {
            there.is_last();
        }
        // A call that fails takes the socket's error with it, and the next read says 0, as if the stream had ended well: so nothing
        // is read after a failure, except for what an endpoint had said before it broke.
        let (to_endpoint, to_client) = match pump(there, client, socket, means) {
            failed @ Outcome::Failed(Failure::Sink(errno)) => {
                // EPIPE says that it had ended its stream before (Linux's tcp_reset, in CLOSE_WAIT), and then 0 is that end.
                if errno != Errno::PIPE {
                    back.source_broken();
                }
                while pump(back, socket, client, means) == Outcome::Unfinished {}
                (failed, Outcome::Waiting)
            }
            failed @ Outcome::Failed(Failure::Source(_)) => (failed, Outcome::Waiting),
            to_endpoint => {
                if there.finished() {
                    back.is_last();
                }
                (to_endpoint, pump(back, socket, client, means))
            }
        };
        self.kept_bytes += connection.kept();
        // Whoever is broken may have said more than fits a turn.
        let has_more = [to_endpoint, to_client].contains(&Outcome::Unfinished);
        let broken = connection.broken.filter(|_| !has_more).map(|side| {
            let socket = if side == Side::Client { client } else { socket };
            (side, pending_error(socket))
        });
        let findings = Findings {
            to_endpoint,
            to_client,
            broken,
            client_finished: connection.to_endpoint.finished(),
            endpoint_finished: connection.to_client.finished(),
        };
        match findings.verdict() {
            Verdict::Wait => {}
            Verdict::Again => {
                if !connection.queued {
                    connection.queued = true;
                    self.again.push_back(key);
                }
            }
            Verdict::Close => drop(self.end(key, "closed")),
            Verdict::Break(side, errno) => self.part(key, side, described(side, errno)),
            Verdict::Reset(side, errno) => self.abort(key, described(side, errno)),
        }
    }

    /// Ends a connection of which one side is broken, but had said all it had to say: the other may still be reading.
    fn part(&mut self, key: ConnectionKey, broken: Side, how: &'static str) {
        let Some(connection) = self.end(key, how) else { return };
        let Stage::Open { socket, .. } = connection.stage else { return };
        let whole = if broken == Side::Client { socket } else { connection.client_socket };
        // Linux resets a connection that is closed with unread data, and throws away what the peer has not got yet.
        let mut discarded = 0;
        while discarded < DISCARD_BYTES {
            match whole.recv(&mut self.buffer) {
                Ok(count) if count > 0 => discarded += count,
                _ => break,
            }
        }
    }

    /// Ends a connection by resetting both peers.
    pub(super) fn abort(&mut self, key: ConnectionKey, how: &'static str) {
        let Some(connection) = self.end(key, how) else { return };
        reset(connection.client_socket);
        if let Stage::Open { socket, .. } = connection.stage {
            reset(socket);
        }
    }

    /// Resets all connections that are `doomed`.
    pub(super) fn cut(&mut self, how: &'static str, doomed: impl Fn(&Connection) -> bool) {
        let keys: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| doomed(connection))
            .map(|(index, connection)| ConnectionKey {
                index: index as u32,
                generation: connection.generation,
            })
            .collect();
        for key in keys {
            self.abort(key, how);
        }
    }

    /// Takes a connection out, and tells.
    fn end(&mut self, key: ConnectionKey, how: &'static str) -> Option<Connection> {
        self.connection(key)?;
        let connection = self.connections.remove(key.index as usize);
        self.kept_bytes -= connection.kept();
        // Its descriptors are free in a moment: somebody may be waiting for them.
        self.starved_until = self.starved_until.map(|_| Instant::now());
        tell(&self.shared.ends, || connection.info(Instant::now()), how);
        Some(connection)
    }
}

/// Tells how a connection or a flow ended, if anybody wants to know.
pub(super) fn tell(ends: &Ends, connection: impl FnOnce() -> ConnectionInfo, how: &'static str) {
    if tracing::enabled!(tracing::Level::DEBUG) || ends.watched() {
        let connection = connection();
        debug!(
            id = connection.id, listener = %connection.listener, client = %connection.client,
            endpoint = connection.endpoint.map(tracing::field::display),
            to_endpoint = connection.bytes_to_endpoint, to_client = connection.bytes_to_client,
            age_ms = connection.age.as_millis() as u64, how, "ended"
        );
        ends.tell(Ended { connection, how });
    }
}

/// Why a socket is broken.
fn pending_error(socket: &OwnedFd) -> Errno {
    match socket_error(socket) {
        Ok(Err(errno)) | Err(errno) => errno,
        // A read or a write has fetched it already; it was a reset, or that call's own failure speaks first.
        Ok(Ok(())) => Errno::CONNRESET,
    }
}
