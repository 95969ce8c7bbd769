//! An agent that is about to stop asks to be relieved of new work.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// While no stream is open there is nobody who could answer. One that was cut off opens again within this time: control tries
/// every 100 ms.
const REOPEN: Duration = Duration::from_millis(300);

/// Which stream is open, whether the agent wants to stop, and whether it was told that nothing new leads to it.
#[derive(Debug, Default)]
pub(super) struct Relief {
    /// The number of the stream that is open; 0 for none.
    open: watch::Sender<u64>,
    asked: watch::Sender<bool>,
    given: watch::Sender<bool>,
}

impl Relief {
    /// A stream has opened. Numbers grow.
    pub(super) fn opened(&self, number: u64) {
        self.open.send_modify(|open| *open = number.max(*open));
    }

    /// A stream has ended. A newer one may be open already.
    pub(super) fn closed(&self, number: u64) {
        self.open.send_if_modified(|open| {
            let is_last = *open == number;
            if is_last {
                *open = 0;
            }
            is_last
        });
    }

    pub(super) fn is_open(&self) -> bool {
        *self.open.borrow() != 0
    }

    /// Completes once the agent wants to stop.
    pub(super) async fn asked(&self) {
        // The sender is here: it can't be gone.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// control says that nothing new leads to the agent.
    pub(super) fn give(&self) {
        self.given.send_replace(true);
    }

    /// Asks, and waits for the answer: `false` when there is nobody to give it.
    pub(super) async fn ask(&self) -> bool {
        self.asked.send_replace(true);
        let mut given = self.given.subscribe();
        tokio::select! {
            biased;
            _ = given.wait_for(|given| *given) => true,
            () = self.nobody() => false,
        }
    }

    async fn nobody(&self) {
        let mut open = self.open.subscribe();
        loop {
            let _ = open.wait_for(|number| *number == 0).await;
            if timeout(REOPEN, open.wait_for(|number| *number != 0)).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn without_a_stream_nobody_can_answer() {
        assert!(!Relief::default().ask().await);
    }

    #[tokio::test]
    async fn a_stream_that_opens_meanwhile_can_answer() {
        let relief = Arc::new(Relief::default());
        relief.opened(1);
        let asking = tokio::spawn({
            let relief = relief.clone();
            async move { relief.ask().await }
        });
        relief.asked().await;
        relief.closed(1);
        relief.opened(2);
        // The end of an older stream says nothing of the newer.
        relief.closed(1);
        assert!(relief.is_open());
        relief.give();
        assert!(asking.await.unwrap());
    }
}
