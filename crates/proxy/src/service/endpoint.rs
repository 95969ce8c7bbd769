//! An endpoint's counters, which outlive a change of the listener that has it.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use rustix::io::Errno;

use super::Counter;

/// One endpoint of one listener.
#[derive(Debug)]
pub(crate) struct LiveEndpoint {
    pub(crate) address: SocketAddrV4,
    /// The node it runs on. For people.
    pub(crate) node: Arc<str>,
    pub(crate) active: AtomicU64,
    pub(crate) connected: Counter,
    pub(crate) failed: Counter,
    /// Connects that failed since one last succeeded.
    failures_in_a_row: AtomicU32,
    last_error: ArcSwapOption<String>,
}

impl LiveEndpoint {
    pub(crate) fn new(address: SocketAddrV4, node: Arc<str>) -> Self {
        Self {
            address,
            node,
            active: AtomicU64::new(0),
            connected: Counter::default(),
            failed: Counter::default(),
            failures_in_a_row: AtomicU32::new(0),
            last_error: ArcSwapOption::empty(),
        }
    }

    /// A connect succeeded.
    pub(crate) fn connected(&self) {
        self.connected.increment();
        // Mostly it is 0 already, and reading leaves the cache line with the other workers.
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
    }

    /// A connect failed. Returns how many have in a row.
    pub(crate) fn connect_failed(&self, errno: Errno) -> u32 {
        self.failed.increment();
        let error = std::io::Error::from(errno).to_string();
        self.last_error.store(Some(Arc::new(error)));
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// It was ejected for its failures: they are paid for.
    pub(crate) fn forgive(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
    }

    /// Why its last connect failed; empty when none did.
    pub(crate) fn last_error(&self) -> String {
        self.last_error.load().as_deref().cloned().unwrap_or_default()
    }

    /// Whether connections to it are open.
    pub(crate) fn in_use(&self) -> bool {
        self.active.load(Ordering::Relaxed) != 0
    }
}

/// An open connection to an endpoint, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct InUse(Arc<LiveEndpoint>);

impl InUse {
    pub(crate) fn new(endpoint: Arc<LiveEndpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }

    pub(crate) fn address(&self) -> SocketAddrV4 {
        self.0.address
    }

    pub(crate) fn endpoint(&self) -> &Arc<LiveEndpoint> {
        &self.0
    }

    /// It answered.
    pub(crate) fn connected(&self) {
        self.0.connected();
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}
