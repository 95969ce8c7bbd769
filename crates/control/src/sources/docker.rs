//! Docker as a source: the containers of this host, their addresses, labels and published ports.
//!
//! It subscribes to the daemon's events, lists everything, and follows the events. Truth always comes from a request
//! made *after* an event, so events may be repeated, merged or late. What is told before a container's process starts
//! comes from its *network*: Docker (20.10) announces the connection some 200 ms ahead of the process, while it
//! answers questions about the container itself only once that runs.

mod config;
mod connect;
mod convert;
mod event;
mod ledger;
mod session;

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, warn};

pub use config::DockerConfig;
pub(crate) use connect::{answer, connect, is_missing};

use self::session::{End, Session};
use super::{Source, backoff::Backoff};
use crate::observe::{Observation, SourceName};

/// Docker's daemon restarts within a second; one that stays away is asked every few seconds.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A session that lasted so long was a good one.
const PROVEN: Duration = Duration::from_secs(10);

/// How often everything is listed without a reason: it finds a daemon that hangs, and makes up for an event that
/// was lost (Docker's buffer holds 256 of them between our two first requests).
const LIST_EVERY: Duration = Duration::from_secs(60);

/// A wish to have facts told again, because something else that control knows has become newer than they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reread {
    /// The container with this id.
    Container(Arc<str>),
    /// All of them.
    All,
}

/// The Docker daemon of this host.
#[derive(Debug)]
pub struct DockerSource {
    config: DockerConfig,
    ports_known: Arc<AtomicU64>,
    reread: mpsc::Receiver<Reread>,
    list_every: Duration,
}

impl DockerSource {
    /// `ports_known` counts the changes of bridge ports that control has taken in; it is read before each question
    /// to Docker and told with the answer. `reread` takes wishes to ask again.
    #[must_use]
    pub fn new(config: DockerConfig, ports_known: Arc<AtomicU64>, reread: mpsc::Receiver<Reread>) -> Self {
        Self { config, ports_known, reread, list_every: LIST_EVERY }
    }
}

impl Source for DockerSource {
    fn name(&self) -> SourceName {
        SourceName::Docker
    }

    async fn run(mut self, sink: mpsc::Sender<Observation>) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = None;
        loop {
            let began = Instant::now();
            let mut live = false;
            let session = Session::new(&self.config, &self.ports_known, &sink);
            let error = match session.follow(self.list_every, &mut self.reread, &mut live).await {
                Err(End::Failed(error)) => error.to_string(),
                Err(End::Unheard) => return,
            };
            if live {
                told = None;
            }
            if began.elapsed() > PROVEN {
                backoff.reset();
            }
            if told.as_ref() != Some(&error) {
                warn!(%error, "docker failed; what it said before still counts, and it is tried again");
                if sink.send(Observation::Failed(SourceName::Docker, error.clone())).await.is_err() {
                    return;
                }
                told = Some(error);
            }
            sleep(backoff.next(fastrand::f64())).await;
            debug!("docker is tried again");
        }
    }
}
