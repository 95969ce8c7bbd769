//! Warnings that could come with every connection.

use std::time::{Duration, Instant};

/// At most one warning in so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Says when a warning may be given again.
#[derive(Debug, Default)]
pub(super) struct Seldom {
    last: Option<Instant>,
}

impl Seldom {
    /// Whether it is time for one, which then counts as given.
    pub(super) fn due(&mut self, now: Instant) -> bool {
        let due = self.last.is_none_or(|last| now.duration_since(last) >= PAUSE);
        if due {
            self.last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_in_a_while() {
        let now = Instant::now();
        let mut seldom = Seldom::default();
        assert!(seldom.due(now));
        assert!(!seldom.due(now + PAUSE / 2));
        assert!(seldom.due(now + PAUSE));
    }
}
