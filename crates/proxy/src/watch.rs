//! Connections as they end, for whoever watches.

use std::{
    net::SocketAddrV4,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use steppe_model::{ResourceId, ServiceName};
use tokio::sync::broadcast;

/// Ends that a slow watcher may be behind before it misses some.
const BEHIND: usize = 1024;

/// A connection, told to people.
#[derive(Debug, Clone)]
pub(crate) struct ConnectionInfo {
    pub(crate) id: u64,
    pub(crate) listener: ResourceId,
    pub(crate) service: ServiceName,
    pub(crate) client: SocketAddrV4,
    /// `None` until one has taken it.
    pub(crate) endpoint: Option<SocketAddrV4>,
    pub(crate) age: Duration,
    pub(crate) bytes_to_endpoint: u64,
    pub(crate) bytes_to_client: u64,
}

/// A connection and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    pub(crate) connection: ConnectionInfo,
    pub(crate) how: &'static str,
}

/// Passes ends from the workers to the watchers.
#[derive(Debug)]
pub(crate) struct Ends {
    sender: broadcast::Sender<Ended>,
    /// Kept here because the channel's own count takes its lock, and mostly nobody watches.
    watchers: AtomicUsize,
}

impl Ends {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), watchers: AtomicUsize::new(0) }
    }

    /// Whether telling is worth the while.
    pub(crate) fn watched(&self) -> bool {
        self.watchers.load(Ordering::Relaxed) != 0
    }

    /// Tells the watchers. Never waits for them.
    pub(crate) fn tell(&self, ended: Ended) {
        // An error says that the last watcher has just left.
        let _ = self.sender.send(ended);
    }

    /// Begins to watch.
    pub(crate) fn watch(self: &std::sync::Arc<Self>) -> Watcher {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watcher { receiver: self.sender.subscribe(), ends: self.clone() }
    }
}

/// One who watches.
#[derive(Debug)]
pub(crate) struct Watcher {
    receiver: broadcast::Receiver<Ended>,
    ends: std::sync::Arc<Ends>,
}

impl Watcher {
    /// The next end, and how many were missed just before it. `None` when the proxy stops.
    pub(crate) async fn next(&mut self) -> Option<(Ended, u64)> {
        let mut missed = 0;
        loop {
            match self.receiver.recv().await {
                Ok(ended) => return Some((ended, missed)),
                Err(broadcast::error::RecvError::Lagged(count)) => missed += count,
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.ends.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_is_told_how_many_it_missed() {
        let ends = Arc::new(Ends::new());
        assert!(!ends.watched());
        let mut watcher = ends.watch();
        assert!(ends.watched());
        for id in 0..BEHIND as u64 + 7 {
            let connection = ConnectionInfo {
                id,
                listener: ResourceId::new("web:80/tcp"),
                service: "web".parse().unwrap(),
                client: "10.0.0.1:1".parse().unwrap(),
                endpoint: None,
                age: Duration::ZERO,
                bytes_to_endpoint: 0,
                bytes_to_client: 0,
            };
            ends.tell(Ended { connection, how: "closed" });
        }
        let (first, missed) = watcher.next().await.unwrap();
        assert_eq!((first.connection.id, missed), (7, 7));
        let (second, missed) = watcher.next().await.unwrap();
        assert_eq!((second.connection.id, missed), (8, 0));
        drop(watcher);
        assert!(!ends.watched());
    }
}
