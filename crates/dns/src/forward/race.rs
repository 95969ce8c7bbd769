//! One question to as many resolvers as it takes.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::{sleep_until, timeout};
use tracing::debug;

use super::{Upstreams, exchange::exchange};
use crate::wire::{Answer, Request};

/// The next resolver is asked as well when the last one has not answered for so long.
const NEXT: Duration = Duration::from_millis(300);
/// "There is no such name" from a resolver that was asked as well counts when those before it have been silent for so long:
/// they may know names that it does not.
const PATIENCE: Duration = Duration::from_millis(900);
/// After this the question has failed; a resolver library asks again after 5 s (resolv.conf(5)).
const DEADLINE: Duration = Duration::from_secs(4);

/// The answer; `None` when nobody gave one. At worst it is that a resolver could not find out.
pub(super) async fn race(upstreams: &Upstreams, question: &Request) -> Option<Answer> {
    let start = Instant::now();
    let order = upstreams.in_order(start);
    // Without EDNS of the asker's, we have our own.
    let question = Request {
        edns: question.edns.or(Request::new(question.name, question.kind).edns),
        ..question.clone()
    };
    let mut attempts = FuturesUnordered::new();
    // How each is doing: when it was asked, and whether it is still to answer.
    let mut asked: Vec<(Instant, bool)> = Vec::new();
    let mut fallback: Option<(usize, Answer)> = None;
    let mut held: Option<(usize, Answer)> = None;
    let ask = |i: usize| {
        let (address, question) = (order[i].address, &question);
        async move { (i, exchange(address, question).await) }
    };
    let race = async {
        loop {
            let none_open = attempts.is_empty();
            if none_open && asked.len() == order.len() {
                return;
            }
            if none_open
                || asked.last().is_some_and(|(at, _)| asked.len() < order.len() && at.elapsed() >= NEXT)
            {
                attempts.push(ask(asked.len()));
                asked.push((Instant::now(), true));
                continue;
            }
            let next = asked.last().filter(|_| asked.len() < order.len()).map(|(at, _)| *at + NEXT);
            let patience = held.as_ref().map(|_| start + PATIENCE);
            let wake = [next, patience].into_iter().flatten().min().unwrap_or(start + DEADLINE);
            let answered = tokio::select! {
                biased;
                answered = attempts.next() => answered,
                () = sleep_until(wake.into()) => None,
            };
            let now = Instant::now();
            if let Some((i, outcome)) = answered {
                asked[i].1 = false;
                match outcome {
                    Ok(answer) => {
                        order[i].note_answer();
                        if answer.is_failure() {
                            fallback.get_or_insert((i, answer));
                        } else if answer.is_negative() {
                            held.get_or_insert((i, answer));
                        } else {
                            held = Some((i, answer));
                            return;
                        }
                    }
                    Err(failed) => {
                        debug!(upstream = %order[i].address, %failed, question = ?question.name, "no answer");
                        order[i].note_failure(now);
                    }
                }
            }
            if let Some((i, _)) = &held {
                let before = asked.iter().take(*i).any(|(_, is_open)| *is_open);
                if !before || now >= start + PATIENCE {
                    return;
                }
            }
        }
    };
    // What is held at the deadline is the answer all the same.
    let _ = timeout(DEADLINE, race).await;
    drop(attempts);
    let now = Instant::now();
    for (upstream, (at, is_open)) in order.iter().zip(&asked) {
        // It had its time, and somebody else's answer came first.
        if *is_open && now.saturating_duration_since(*at) >= NEXT {
            upstream.note_failure(now);
        }
    }
    held.or(fallback).map(|(_, answer)| answer)
}
