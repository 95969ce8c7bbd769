//! Told to stop: new connections are led past the proxy, then it closes its listeners, then it waits for its connections.

use std::{future::pending, time::Duration};

use futures::future::join_all;
use steppe_daemon::shutdown_signal;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{
    agent::SharedTable,
    worker::{Command, Workers},
};

/// How long it goes on at the most for control to lead new connections elsewhere. That takes two messages and a transaction of
/// the kernel, milliseconds; more if a snapshot is just being put in force. Whoever stops the proxy waits as long, so that it must be
/// far less than the kill timeouts of service managers (Nomad's default is 5 s).
const RELIEF: Duration = Duration::from_secs(2);
/// How long it goes on after that: a handshake that began before still ends here. Its last packet comes from a container of this
/// host, in well under a millisecond, unless that has no processor for a while.
const LINGER: Duration = Duration::from_millis(100);

/// What it takes to drain.
pub(crate) struct Drain<'a> {
    pub(crate) table: &'a SharedTable,
    pub(crate) workers: &'a Workers,
    /// How long open connections may go on.
    pub(crate) timeout: Duration,
}

impl Drain<'_> {
    /// Drains; `relief` ends when nothing new leads here any more, with whether control said so. Connections that are left at
    /// the end, or when told again to stop, are reset: a stream that is cut short must not look complete.
    pub(crate) async fn run(self, relief: impl Future<Output = bool>) {
        // Before anybody can see it: whoever does may say it again.
        let again = shutdown_signal();
        self.table.lock().draining = true;
        info!(timeout = ?self.timeout, "told to stop: waiting for new connections to be led past");
        let hurry = async {
            match again {
                Ok(again) => again.await,
                Err(_) => pending().await,
            }
        };
        let is_drained = tokio::select! {
            is_drained = self.wait(relief) => is_drained,
            () = hurry => {
                warn!("told again to stop: resetting the connections that are left");
                false
            }
        };
        if !is_drained {
            (0..self.workers.count()).for_each(|worker| self.workers.tell(worker, Command::CutAll));
            self.workers.settle().await;
        }
    }

    /// Whether all connections ended in time.
    async fn wait(&self, relief: impl Future<Output = bool>) -> bool {
        match timeout(RELIEF, relief).await {
            Ok(true) => info!("nothing new leads here any more"),
            Ok(false) => warn!("steppe-control is away: who connects from now on waits for the next proxy"),
            Err(_) => warn!(
                "nobody led new connections elsewhere: who connects from now on waits for the next proxy"
            ),
        }
        sleep(LINGER).await;
        self.table.lock().stopping = true;
        let drained = join_all(self.workers.ask(Command::Drain));
        info!("listeners are closed, open connections go on");
        let in_time = timeout(self.timeout, drained).await.is_ok();
        if in_time {
            info!("drained");
        } else {
            warn!("the time to drain is over: resetting the connections that are left");
        }
        in_time
    }
}
