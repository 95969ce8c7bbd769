//! Allocations on other nodes: each is asked for until Nomad has told it, and what is told of it then never changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::sleep,
};
use tracing::debug;

use super::{
    answers,
    config::NomadConfig,
    interpolate::Env,
    watch::{AT_ONCE, get},
};
use crate::{
    observe::{Elsewhere, Observation},
    sources::{SourceError, Unheard, backoff::Backoff, http::watch::backoff},
};

/// Questions under way.
const AT_ONCE_MANY: usize = 8;
/// What Nomad does not tell is asked again, as seldom: a policy may be mended, but most have ended for good.
const FIRST_AGAIN: Duration = Duration::from_secs(30);
const LONGEST_AGAIN: Duration = Duration::from_secs(900);
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
                    // Nobody may listen any more.
                    let _: Result<(), Unheard> = find_out(&config, &turns, &id, &sink).await;
                });
                Question(task.abort_handle())
            });
        }
    }
}

async fn find_out(
    config: &NomadConfig,
    turns: &Semaphore,
    id: &Arc<str>,
    sink: &mpsc::Sender<Observation>,
) -> Result<(), Unheard> {
    let mut again = Backoff::new(FIRST_AGAIN, LONGEST_AGAIN);
    let mut told = None;
    // Anybody may register such an id with Consul.
    let can_be_asked = id.len() == UUID && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    loop {
        let says = if can_be_asked { ask(config, turns, id).await } else { Elsewhere::Unknown };
        let is_found = matches!(says, Elsewhere::Found(_));
        if told.as_ref() != Some(&says) {
            sink.send(Observation::AllocElsewhere(id.clone(), says.clone())).await?;
            told = Some(says);
        }
        if is_found || !can_be_asked {
            return Ok(());
        }
        sleep(again.next(fastrand::f64())).await;
    }
}

async fn ask(config: &NomadConfig, turns: &Semaphore, id: &str) -> Elsewhere {
    let mut backoff = backoff();
    loop {
        // The semaphore is never closed.
        let turn = turns.acquire().await;
        let answer = get(config, &["allocation", id], None, "", AT_ONCE).await;
        drop(turn);
        match answer.and_then(|answer| answers::one_alloc(&answer.body, &Env::default())) {
            Ok(alloc) => return Elsewhere::Found(Arc::new(alloc)),
            // Nomad says the same of one whose namespace the token may not read.
            Err(SourceError::Status { status: 404, .. }) => return Elsewhere::Unknown,
            Err(SourceError::Status { line, .. }) if line.contains("Unknown allocation") => {
                return Elsewhere::Unknown;
            }
            Err(SourceError::Status { status: 403, .. }) => return Elsewhere::Denied,
            Err(error) => {
                debug!(%error, alloc = id, "nomad does not say where an allocation is; it is asked again");
                sleep(backoff.next(fastrand::f64())).await;
            }
        }
    }
}
