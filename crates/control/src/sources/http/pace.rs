//! When to ask again, and from which index on: the rules of
//! <https://developer.hashicorp.com/consul/api-docs/features/blocking>. No I/O, no clock.

use std::time::Duration;

/// How much may be asked in a row: a service's instances can come up or go down together.
const BURST: f64 = 100.0;
/// How much may be asked for long, each second. It costs us about one per cent of a core.
const PER_SECOND: f64 = 50.0;
/// An answer of this size costs as much again as the question.
const BYTES: f64 = 65_536.0;
/// Time for a request to be sent and its answer to come, beyond the wait that was asked for.
const SLACK: Duration = Duration::from_secs(10);

/// The state that the last answer showed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sources) struct Index(u64);

impl Index {
    /// Zero asks for an answer at once.
    pub(in crate::sources) fn value(self) -> u64 {
        self.0
    }

    /// The index to ask with after an answer that had this one.
    pub(in crate::sources) fn after(self, answered: u64) -> Self {
        match answered {
            // The state was restored, or its server was replaced: ask anew.
            _ if answered < self.0 => Self(0),
            // With zero the next query would not wait, and so would spin.
            0 => Self(1),
            _ => Self(answered),
        }
    }
}

/// The wait to ask for: up to a sixteenth less than `longest`, so that queries don't end together.
pub(in crate::sources) fn wait(longest: Duration, random: f64) -> Duration {
    longest.mul_f64(1.0 - random / 16.0)
}

/// When to give a query up. Consul, and Nomad like it, adds up to a sixteenth to the wait; a query without an index does not wait.
pub(in crate::sources) fn time_out(index: Index, wait: Duration) -> Duration {
    if index == Index::default() { SLACK } else { wait + wait / 16 + SLACK }
}

/// Keeps an index that moves all the time from making us ask all the time.
#[derive(Debug, Clone, Copy)]
pub(in crate::sources) struct Bucket {
    tokens: f64,
}

impl Default for Bucket {
    fn default() -> Self {
        Self { tokens: BURST }
    }
}

impl Bucket {
    /// Pays for a question whose answer had so many bytes, `elapsed` after the last payment; says how long to wait
    /// before the next question.
    pub(in crate::sources) fn pay(&mut self, elapsed: Duration, bytes: usize) -> Duration {
        self.tokens = (self.tokens + elapsed.as_secs_f64() * PER_SECOND).min(BURST);
        #[expect(clippy::cast_precision_loss, reason = "a price need not be exact")]
        let price = 1.0 + bytes as f64 / BYTES;
        self.tokens -= price;
        Duration::from_secs_f64((-self.tokens / PER_SECOND).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_goes_back_to_zero_and_never_stays_there() {
        let start = Index::default();
        assert_eq!((start.value(), start.after(0).value()), (0, 1));
        let at = start.after(12);
        assert_eq!((at.value(), at.after(12).value(), at.after(13).value()), (12, 12, 13));
        assert_eq!((at.after(3).value(), at.after(0).value()), (0, 0));
    }

    #[test]
    fn the_client_waits_longer_than_consul() {
        let longest = Duration::from_secs(300);
        for random in [0.0, 0.5, 1.0] {
            let wait = wait(longest, random);
            assert!(wait <= longest && wait >= longest * 15 / 16);
            assert!(time_out(Index(1), wait) >= wait * 17 / 16 + Duration::from_secs(1));
        }
        assert_eq!(time_out(Index(0), longest), SLACK);
    }

    #[test]
    fn ordinary_use_never_waits() {
        let mut bucket = Bucket::default();
        assert!((0..90).all(|_| bucket.pay(Duration::ZERO, 500).is_zero()));
        let mut bucket = Bucket::default();
        assert!((0..10_000).all(|_| bucket.pay(Duration::from_millis(25), 5_000).is_zero()));
    }

    proptest! {
        #[test]
        fn a_hot_index_is_slowed_down(gaps in prop::collection::vec(0u64..3, 2_000), bytes in 0usize..1_000_000) {
            let mut bucket = Bucket::default();
            let mut total = 0.0;
            let mut waited = Duration::ZERO;
            for gap in &gaps {
                let elapsed = Duration::from_millis(*gap) + waited;
                waited = bucket.pay(elapsed, bytes);
                total += elapsed.as_secs_f64();
            }
            total += waited.as_secs_f64();
            let paid = 2_000.0 * (1.0 + bytes as f64 / BYTES);
            prop_assert!(paid <= BURST + PER_SECOND * total + 0.1);
        }
    }
}
