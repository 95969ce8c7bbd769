//! How often one file is written: Docker writes it a few times, a quarrelsome container without end.

use std::time::{Duration, Instant};

/// So many times in a row it is written at once. Docker writes twice at a start and twice more for each further network.
const AT_ONCE: u32 = 8;
/// After that it waits, at first so long, and each time twice as long as before.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// When a file may be written again.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    writes: u32,
    last: Option<Instant>,
}

impl Patience {
    /// When the next write may be; it is not later than `now` if at once.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.last.map_or(now, |last| last + self.wait())
    }

    /// It was written.
    pub(super) fn wrote(&mut self, now: Instant) {
        self.writes = if self.is_over(now) { 1 } else { self.writes.saturating_add(1) };
        self.last = Some(now);
    }

    /// Whether somebody else keeps writing it.
    pub(super) fn is_tried(&self, now: Instant) -> bool {
        self.writes >= AT_ONCE && !self.is_over(now)
    }

    /// Quiet for twice as long as it had to wait: whatever made somebody else write is over.
    fn is_over(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) > 2 * self.wait().max(FIRST))
    }

    fn wait(&self) -> Duration {
        match self.writes.checked_sub(AT_ONCE) {
            None => Duration::ZERO,
            Some(more) => FIRST.saturating_mul(1 << more.min(16)).min(LONGEST),
        }
    }
}

/// A file is looked at so often in a [`SPELL`]; a start of Docker's needs a dozen.
const LOOKS: u32 = 32;
const SPELL: Duration = Duration::from_secs(1);

/// How often one file is looked at: somebody in the container may write it without end.
#[derive(Debug, Clone, Default)]
pub(super) struct Looks {
    since: Option<Instant>,
    count: u32,
}

impl Looks {
    /// Whether it may be looked at now, or when.
    pub(super) fn may(&mut self, now: Instant) -> Result<(), Instant> {
        let since = *self.since.get_or_insert(now);
        if now.saturating_duration_since(since) >= SPELL {
            *self = Self { since: Some(now), count: 0 };
        }
        if self.count >= LOOKS {
            return Err(since + SPELL);
        }
        self.count += 1;
        Ok(())
    }

    /// How often it was, lately.
    #[cfg(test)]
    pub(super) fn count(&self) -> u32 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarrel_is_slow_and_peace_ends_it() {
        let mut now = Instant::now();
        let mut patience = Patience::default();
        for _ in 0..AT_ONCE {
            assert!(patience.next(now) <= now && !patience.is_tried(now));
            patience.wrote(now);
        }
        for seconds in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(patience.is_tried(now));
            assert_eq!(patience.next(now), now + Duration::from_secs(seconds));
            now += Duration::from_secs(seconds);
            patience.wrote(now);
        }
        now += 3 * LONGEST;
        assert!(!patience.is_tried(now));
        patience.wrote(now);
        assert!(!patience.is_tried(now) && patience.next(now) <= now);
    }

    #[test]
    fn a_flood_is_looked_at_from_time_to_time() {
        let start = Instant::now();
        let mut looks = Looks::default();
        let at = |ms| start + Duration::from_millis(ms);
        for _ in 0..LOOKS {
            assert_eq!(looks.may(at(0)), Ok(()));
        }
        assert_eq!(looks.may(at(999)), Err(at(1000)));
        assert_eq!(looks.may(at(1000)), Ok(()));
    }
}
