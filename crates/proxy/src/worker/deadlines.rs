//! When connects are given up.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

use super::token::ConnectionKey;

/// Connects under way, the first to be given up first. What is no longer awaited stays until it comes to the front: mostly that is
/// at once, and taking it out of the middle would cost more than it does.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    heap: BinaryHeap<Reverse<Deadline>>,
}

/// When one try of one connection is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) connection: ConnectionKey,
}

impl Deadlines {
    pub(super) fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    pub(super) fn push(&mut self, deadline: Deadline) {
        self.heap.push(Reverse(deadline));
    }

    /// When the first one is due that `pending` says is still awaited. The others before it are forgotten.
    pub(super) fn next(&mut self, pending: impl Fn(&Deadline) -> bool) -> Option<Instant> {
        while let Some(Reverse(first)) = self.heap.peek() {
            if pending(first) {
                return Some(first.at);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes one that is due.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Deadline> {
        let Reverse(first) = *self.heap.peek()?;
        if first.at > now {
            return None;
        }
        self.heap.pop();
        Some(first)
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
        [3, 1, 2].into_iter().for_each(|index| deadlines.push(deadline(index)));
        assert_eq!(deadlines.next(|deadline| deadline.connection.index == 2), Some(now + second * 2));
        assert_eq!(deadlines.pop_due(now + second), None);
        assert_eq!(deadlines.pop_due(now + second * 2), Some(deadline(2)));
        assert_eq!(deadlines.next(|_| false), None);
        assert!(deadlines.is_empty());
    }
}
