//! Allocations on other nodes: each is asked for once, and what is told of it never changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::sleep,
};
use tracing::warn;

use super::{
    answers,
    config::NomadConfig,
    interpolate::Env,
    watch::{AT_ONCE, FIRST_BACKOFF, LONGEST_BACKOFF, get},
};
use crate::{
    observe::{Elsewhere, Observation},
    sources::{SourceError, backoff::Backoff},
};

/// Questions under way.
const AT_ONCE_MANY: usize = 8;
/// The length of a UUID as text (RFC 9562 §4).
const UUID: usize = 36;

/// The questions asked; one ends when its allocation is not wanted any more.
#[derive(Debug)]
pub(super) struct Questions {
    config: NomadConfig,
    turns: Arc<Semaphore>,
    asked: BTreeMap<Arc<str>, Question>,
}

#[derive(Debug)]
struct Question(AbortHandle);

impl Drop for Question {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Questions {
    pub(super) fn new(config: NomadConfig) -> Self {
        Self { config, turns: Arc::new(Semaphore::new(AT_ONCE_MANY)), asked: BTreeMap::new() }
    }

    /// Asks for those that have not been asked for.
    pub(super) fn want(&mut self, wanted: &BTreeSet<Arc<str>>, sink: &mpsc::Sender<Observation>) {
        self.asked.retain(|id, _| wanted.contains(id));
        for id in wanted {
            let (config, turns) = (&self.config, &self.turns);
            self.asked.entry(id.clone()).or_insert_with(|| {
                let (config, turns, id, sink) = (config.clone(), turns.clone(), id.clone(), sink.clone());
                let task = tokio::spawn(async move {
                    let elsewhere = ask(&config, &turns, &id).await;
                    // Nobody may listen any more.
                    let _ = sink.send(Observation::AllocElsewhere(id, elsewhere)).await;
                });
                Question(task.abort_handle())
            });
        }
    }
}

async fn ask(config: &NomadConfig, turns: &Semaphore, id: &str) -> Elsewhere {
    // Anybody may register such an id with Consul.
    if id.len() != UUID || !id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
        return Elsewhere::Unknown;
    }
    let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
    loop {
        // The semaphore is never closed.
        let turn = turns.acquire().await;
        let answer = get(config, &["allocation", id], None, "", AT_ONCE).await;
        drop(turn);
        match answer.and_then(|answer| answers::one_alloc(&answer.body, &Env::default())) {
            Ok(alloc) => return Elsewhere::Found(Arc::new(alloc)),
            // Nomad says the same of one whose namespace the token may not read (since 1.0).
            Err(SourceError::Status { status: 404, .. }) => return Elsewhere::Unknown,
            Err(SourceError::Status { line, .. }) if line.contains("Unknown allocation") => {
                return Elsewhere::Unknown;
            }
            Err(SourceError::Status { status: 403, .. }) => return Elsewhere::Denied,
            Err(error) => {
                let pause = backoff.next(fastrand::f64());
                if pause > LONGEST_BACKOFF / 2 {
                    warn!(%error, alloc = id, "nomad does not say where an allocation is; it is asked again");
                }
                sleep(pause).await;
            }
        }
    }
}
