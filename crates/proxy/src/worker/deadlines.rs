//! When connects are given up.

use std::{collections::VecDeque, time::Instant};

use super::token::ConnectionKey;

/// Connects under way, the oldest first. All may take equally long, so that a queue is sorted as it is.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    queue: VecDeque<Deadline>,
}

/// When one try of one connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) connection: ConnectionKey,
}

impl Deadlines {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn push(&mut self, deadline: Deadline) {
        self.queue.push_back(deadline);
    }

    /// When the first one is due that `pending` says is still awaited. The others before it are forgotten.
    pub(super) fn next(&mut self, pending: impl Fn(&Deadline) -> bool) -> Option<Instant> {
        while let Some(first) = self.queue.front() {
            if pending(first) {
                return Some(first.at);
            }
            self.queue.pop_front();
        }
        None
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        let due = self.queue.front().is_some_and(|first| first.at <= now);
        if due { self.queue.pop_front() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_first_awaited_one_counts() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let deadline =
            |index| Deadline { at: now + second * index, connection: ConnectionKey { index, generation: 0 } };
        let mut deadlines = Deadlines::default();
        (1..=3).for_each(|index| deadlines.push(deadline(index)));
        assert_eq!(deadlines.next(|deadline| deadline.connection.index == 2), Some(now + second * 2));
        assert_eq!(deadlines.pop_due(now + second), None);
        assert_eq!(deadlines.pop_due(now + second * 2), Some(deadline(2)));
        assert_eq!(deadlines.next(|_| false), None);
    }
}
