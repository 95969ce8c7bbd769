//! How long to wait before the next try.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is drawn from its upper half, so that many clients of one failed server
/// don't come back at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait; `random` is in 0..1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + random / 2.0);
        self.next = (self.next * 2).min(self.most);
        wait
    }

    /// It went well: the next failure starts from the first wait.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1000));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(1.0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000].map(ms));
        assert_eq!(backoff.next(0.0), ms(500));
        backoff.reset();
        assert_eq!(backoff.next(0.0), ms(50));
    }
}
