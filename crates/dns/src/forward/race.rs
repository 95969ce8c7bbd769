//! One question to as many resolvers as it takes.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{sleep_until, timeout_at};
use tracing::debug;

use super::{
    Upstream, Upstreams,
    exchange::{Failed, exchange},
};
use crate::wire::{Answer, Request};

/// The next resolver is asked as well when the last one has not answered for so long.
const NEXT: Duration = Duration::from_millis(300);
/// What a resolver says that may not be the last word counts when the others have been silent for so long: "there is no such name"
/// of one that was asked later, for those before it may know names that it does not; and that one can't find out, when the others are
/// those that were silent before.
const PATIENCE: Duration = Duration::from_millis(900);
/// After this the question has failed; a resolver library asks again after 5 s (resolv.conf(5)).
const DEADLINE: Duration = Duration::from_secs(4);

/// The answer; `None` when nobody gave one. At worst it is that a resolver could not find out.
pub(super) async fn race(upstreams: &Upstreams, question: &Request) -> Option<Answer> {
    let start = Instant::now();
    // Without EDNS of the asker's, we have our own.
    let edns = question.edns.or(Request::new(question.name, question.kind).edns);
    let question = Arc::new(Request { edns, ..question.clone() });
    let mut race = Race::new(upstreams.in_order(start), start);
    let mut attempts = FuturesUnordered::new();
    loop {
        let now = Instant::now();
        if race.is_over(now) {
            break;
        }
        if let Some((i, upstream)) = race.ask_next(now) {
            let question = question.clone();
            attempts.push(async move {
                let outcome = exchange(upstream.address, &question).await;
                if let Err(failed) = &outcome {
                    debug!(upstream = %upstream.address, %failed, question = ?question.name, "no answer");
                }
                (i, outcome)
            });
            continue;
        }
        tokio::select! {
            biased;
            Some((i, outcome)) = attempts.next() => race.take(i, outcome, Instant::now()),
            () = sleep_until(race.wake(now).into()) => {}
        }
    }
    if race.note_silent(Instant::now()) {
        // One that was overtaken may be well all the same: it is heard out, so that it is not shunned for being slow once.
        let order = race.order;
        let late = async move {
            while let Some((i, outcome)) = attempts.next().await {
                if outcome.is_ok() {
                    order[i].note_answer();
                }
            }
        };
        tokio::spawn(timeout_at((start + DEADLINE).into(), late));
    }
    race.held.map(|(_, answer)| answer).or(race.failure)
}

/// How a question is doing.
struct Race {
    start: Instant,
    order: Vec<Arc<Upstream>>,
    /// Those that have been asked, in that order.
    asked: Vec<Attempt>,
    /// What counts unless somebody knows better, and whose it is.
    held: Option<(usize, Answer)>,
    /// That somebody could not find out.
    failure: Option<Answer>,
    /// What is held is the last word.
    is_decided: bool,
}

struct Attempt {
    at: Instant,
    /// It is still to answer.
    is_open: bool,
    /// It has not answered since it failed last.
    is_doubtful: bool,
}

impl Race {
    fn new(order: Vec<Arc<Upstream>>, start: Instant) -> Self {
        Self { start, order, asked: Vec::new(), held: None, failure: None, is_decided: false }
    }

    fn open(&self) -> impl Iterator<Item = &Attempt> {
        self.asked.iter().filter(|attempt| attempt.is_open)
    }

    fn is_over(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.start);
        let all_asked = self.asked.len() == self.order.len();
        if self.is_decided || age >= DEADLINE || (all_asked && self.open().next().is_none()) {
            return true;
        }
        match &self.held {
            Some((i, _)) => age >= PATIENCE || !self.asked.iter().take(*i).any(|attempt| attempt.is_open),
            None => {
                let is_hopeless = all_asked && self.open().all(|attempt| attempt.is_doubtful);
                self.failure.is_some() && is_hopeless && age >= PATIENCE
            }
        }
    }

    /// The next one, if it is time to ask it.
    fn ask_next(&mut self, now: Instant) -> Option<(usize, Arc<Upstream>)> {
        let i = self.asked.len();
        let upstream = self.order.get(i)?.clone();
        let is_time = self.open().next().is_none() || self.next_at().is_none_or(|at| now >= at);
        is_time.then(|| {
            let is_doubtful = upstream.failed().is_some();
            self.asked.push(Attempt { at: now, is_open: true, is_doubtful });
            (i, upstream)
        })
    }

    /// When it is time for the next one.
    fn next_at(&self) -> Option<Instant> {
        self.asked.last().filter(|_| self.asked.len() < self.order.len()).map(|last| last.at + NEXT)
    }

    /// When to look again, if nobody answers before.
    fn wake(&self, now: Instant) -> Instant {
        let times = [self.next_at(), Some(self.start + PATIENCE), Some(self.start + DEADLINE)];
        times.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(now)
    }

    fn take(&mut self, i: usize, outcome: Result<Answer, Failed>, now: Instant) {
        self.asked[i].is_open = false;
        let upstream = &self.order[i];
        match outcome {
            Ok(answer) => {
                upstream.note_answer();
                if answer.is_failure() {
                    self.failure.get_or_insert(answer);
                } else if answer.is_negative() {
                    self.held.get_or_insert((i, answer));
                } else {
                    self.held = Some((i, answer));
                    self.is_decided = true;
                }
            }
            Err(_) => {
                upstream.note_failure(now);
            }
        }
    }

    /// Notes those that had their time, and others answered. Says whether that is new of one of them.
    fn note_silent(&self, now: Instant) -> bool {
        let asked = self.order.iter().zip(&self.asked);
        let silent =
            asked.filter(|(_, attempt)| attempt.is_open && now.saturating_duration_since(attempt.at) >= NEXT);
        silent.fold(false, |is_new, (upstream, _)| upstream.note_failure(now) || is_new)
    }
}
