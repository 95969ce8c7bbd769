//! Questions as they are answered, for whoever watches.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use crate::{counters::Outcome, wire::WireName};

/// Questions that a slow watcher may be behind before it misses some.
const BEHIND: usize = 1_024;

/// A question and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) ip: Ipv4Addr,
    /// The name, and the record type; `None` for what could not be read.
    pub(crate) question: Option<(WireName, u16)>,
    pub(crate) outcome: Outcome,
    /// The response code; `None` where nothing was answered.
    pub(crate) rcode: Option<u16>,
    pub(crate) took: Duration,
}

/// Passes questions to the watchers.
#[derive(Debug)]
pub(crate) struct Questions {
    sender: broadcast::Sender<Seen>,
    /// Kept here because the channel's own count takes its lock, and mostly nobody watches.
    watchers: AtomicUsize,
}

impl Questions {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), watchers: AtomicUsize::new(0) }
    }

    /// Tells the watchers, if there are any. Never waits for them.
    pub(crate) fn tell(&self, seen: impl FnOnce() -> Seen) {
        if self.watchers.load(Ordering::Relaxed) != 0 {
            // An error says that the last watcher has just left.
            let _ = self.sender.send(seen());
        }
    }

    /// Begins to watch.
    pub(crate) fn watch(self: &Arc<Self>) -> Watcher {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher { receiver: self.sender.subscribe(), questions: self.clone() }
    }
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    receiver: broadcast::Receiver<Seen>,
    questions: Arc<Questions>,
}

impl Watcher {
    /// The next question, and how many were missed just before it. `None` when dns stops.
    pub(crate) async fn next(&mut self) -> Option<(Seen, u64)> {
        let mut missed = 0;
        loop {
            match self.receiver.recv().await {
                Ok(seen) => return Some((seen, missed)),
                Err(broadcast::error::RecvError::Lagged(count)) => missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.questions.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
