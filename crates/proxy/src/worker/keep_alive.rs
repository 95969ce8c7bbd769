//! Keepalive towards endpoints.
//!
//! It takes four system calls, which most connections don't live long enough to need: only those that are there for a while get
//! it. (Clients' sockets inherit it from the listener, for nothing.)

use std::time::{Duration, Instant};

use super::{connection::Stage, event_loop::Worker};
use crate::socket::keep_alive;

/// How old the oldest connection without it may be. Keepalive's own first question comes some seconds later.
const AFTER: Duration = Duration::from_secs(5);

impl Worker {
    /// A connection is there that has none.
    pub(super) fn keep_alive_later(&mut self) {
        if self.keep_alive_at.is_none() {
            self.keep_alive_at = Some(Instant::now() + AFTER);
        }
    }

    /// Gives it to all that have none, when it is time.
    pub(super) fn keep_alive(&mut self) {
        if self.keep_alive_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.keep_alive_at = None;
        for (_, connection) in &mut self.connections {
            if let Stage::Open { socket, kept_alive, .. } = &mut connection.stage
                && !*kept_alive
            {
                // Of a socket that is broken the loop hears otherwise.
                let _ = keep_alive(socket);
                *kept_alive = true;
            }
        }
    }
}
