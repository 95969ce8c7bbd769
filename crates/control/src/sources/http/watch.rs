//! One question that is asked for as long as somebody wants to know: a blocking query.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::pace::{Bucket, Index};
use crate::sources::{SourceError, Unheard, backoff::Backoff};

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// Between the tries of what has failed.
pub(in crate::sources) fn backoff() -> Backoff {
    Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF)
}

/// What is asked, and how an answer is understood.
pub(in crate::sources) trait Question: Send + 'static {
    /// What it finds out.
    type Found: Clone + PartialEq + Send + Sync + 'static;

    /// Asks once, for what is newer than `index`; `known` is what was found last.
    fn ask(
        &mut self,
        index: Index,
        known: Option<&Self::Found>,
    ) -> impl Future<Output = Result<Heard<Self::Found>, SourceError>> + Send;

    /// It could not be asked, or its answer not be understood: whatever answers next may be another agent. Says when to ask again
    /// where that must not take ever longer.
    fn failed(&mut self, error: &SourceError) -> Option<Duration>;
}

/// An answer.
#[derive(Debug)]
pub(in crate::sources) struct Heard<F> {
    /// What it says; none when it does not count, and is asked for anew.
    pub(in crate::sources) found: Option<F>,
    pub(in crate::sources) index: u64,
    /// Its length.
    pub(in crate::sources) bytes: usize,
}

/// What a watch has to say.
#[derive(Debug)]
pub(in crate::sources) struct Report<K, F> {
    /// What was asked.
    pub(in crate::sources) query: K,
    /// The watch's number.
    pub(in crate::sources) number: u64,
    pub(in crate::sources) outcome: Outcome<F>,
}

#[derive(Debug)]
pub(in crate::sources) enum Outcome<F> {
    /// The first answer, or another than the last.
    Changed(F),
    /// It answers again, and nothing has changed.
    Same,
    Failed(SourceError),
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub(in crate::sources) struct Watch {
    task: AbortHandle,
    number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Asks `question`, which is called `query`, until this is dropped.
    pub(in crate::sources) fn start<K: Clone + Send + Sync + 'static, Q: Question>(
        query: K,
        question: Q,
        reports: mpsc::Sender<Report<K, Q::Found>>,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let task = tokio::spawn(async move {
            let Unheard = ask_for_ever(query, number, question, &reports).await;
        });
        Self { task: task.abort_handle(), number }
    }

    /// Tells it from an earlier watch of the same query.
    pub(in crate::sources) fn number(&self) -> u64 {
        self.number
    }
}

async fn ask_for_ever<K: Clone + Send + Sync, Q: Question>(
    query: K,
    number: u64,
    mut question: Q,
    reports: &mpsc::Sender<Report<K, Q::Found>>,
) -> Unheard {
    let mut backoff = backoff();
    let mut bucket = Bucket::default();
    let mut index = Index::default();
    let mut last: Option<Q::Found> = None;
    let mut failing = false;
    let mut paid = Instant::now();
    loop {
        let (outcome, pause) = match question.ask(index, last.as_ref()).await {
            Ok(Heard { found, index: answered, bytes }) => {
                backoff.reset();
                index = index.after(answered);
                let pause = bucket.pay(paid.elapsed(), bytes);
                paid = Instant::now();
                let was_failing = failing;
                failing &= found.is_none();
                let outcome = match found {
                    Some(now) if last.as_ref() != Some(&now) => {
                        last = Some(now.clone());
                        Some(Outcome::Changed(now))
                    }
                    Some(_) if was_failing => Some(Outcome::Same),
                    _ => None,
                };
                (outcome, pause)
            }
            Err(error) => {
                failing = true;
                index = Index::default();
                let pause = question.failed(&error);
                let pause = pause.unwrap_or_else(|| backoff.next(fastrand::f64()));
                (Some(Outcome::Failed(error)), pause)
            }
        };
        if let Some(outcome) = outcome {
            let report = Report { query: query.clone(), number, outcome };
            if reports.send(report).await.is_err() {
                return Unheard;
            }
        }
        sleep(pause).await;
    }
}
