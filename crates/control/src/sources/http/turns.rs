//! The connections to an agent, shared by the questions that wait.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::sync::{Semaphore, watch as state};
use tracing::warn;

/// With more questions than connections they take turns.
const CROWDED_WAIT: Duration = Duration::from_secs(2);

/// So many connections for however many questions.
#[derive(Debug, Clone)]
pub(in crate::sources) struct Turns {
    agent: &'static str,
    connections: Arc<Semaphore>,
    many: usize,
    crowded: state::Sender<bool>,
}

impl Turns {
    /// `agent` is what people call it.
    pub(in crate::sources) fn new(agent: &'static str, connections: usize) -> Self {
        let (crowded, _) = state::channel(false);
        Self { agent, connections: Arc::new(Semaphore::new(connections)), many: connections, crowded }
    }

    /// So many watches there are now.
    pub(in crate::sources) fn share_among(&self, watches: usize) {
        let crowded = watches > self.many;
        let changed = self.crowded.send_if_modified(|now| std::mem::replace(now, crowded) != crowded);
        if crowded && changed {
            warn!(
                watches,
                connections = self.many,
                "more services are wanted than connections to {}'s agent are used: changes can take some seconds",
                self.agent
            );
        }
    }

    /// Runs a query when it is its turn, which says how long it may wait; asks again when that becomes less.
    pub(in crate::sources) async fn take<T, F: Future<Output = T>>(
        &self,
        longest: Duration,
        query: impl Fn(Duration) -> F,
    ) -> T {
        let mut crowded = self.crowded.subscribe();
        loop {
            // The semaphore is never closed.
            let _permit = self.connections.acquire().await;
            if *crowded.borrow_and_update() {
                return query(longest.min(CROWDED_WAIT)).await;
            }
            tokio::select! {
                answer = query(longest) => return answer,
                _ = crowded.wait_for(|crowded| *crowded) => {}
            }
        }
    }
}
