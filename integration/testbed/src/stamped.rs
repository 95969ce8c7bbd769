//! Things as they come, each with the time at which it was there, for measuring.

use std::fmt::Debug;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

/// A stream of things with their times, in nanoseconds as of [`now_ns`](crate::now_ns). What nobody has asked for yet
/// is kept.
#[derive(Debug)]
pub struct Stamped<T> {
    source: String,
    things: Receiver<(u64, T)>,
}

impl<T: Debug> Stamped<T> {
    pub(crate) fn channel(source: &str) -> (Sender<(u64, T)>, Self) {
        let (sender, things) = channel();
        (sender, Self { source: source.to_owned(), things })
    }

    /// The time of the next thing in which `find` finds something, and what it found.
    ///
    /// # Panics
    /// When none comes within `deadline`, with `what` was awaited and the last thing.
    #[track_caller]
    pub fn until<F>(
        &self,
        deadline: Duration,
        what: &str,
        mut find: impl FnMut(&T) -> Option<F>,
    ) -> (u64, F) {
        let end = Instant::now() + deadline;
        let mut last = None;
        loop {
            let next = self.things.recv_timeout(end.saturating_duration_since(Instant::now()));
            let Ok((at, thing)) = next else {
                panic!("{}: not within {deadline:?}: {what}; last: {last:?}", self.source);
            };
            if let Some(found) = find(&thing) {
                return (at, found);
            }
            last = Some(thing);
        }
    }

    /// The next thing, if it has come already.
    pub(crate) fn next(&self) -> Option<T> {
        self.things.try_recv().ok().map(|(_, thing)| thing)
    }
}
