//! What one asker may take, so that the others are still answered.

use std::{
    collections::HashMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

/// Askers that are told apart. Those beyond share what one may take.
const ASKERS: usize = 16_384;
/// The asker that stands for all those beyond.
const BEYOND: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// The limits in force, and who has taken what.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Questions in a second.
    rate: u32,
    /// Questions of one that may wait for a resolver.
    forwards: u32,
    askers: Mutex<HashMap<Ipv4Addr, Asker>>,
}

#[derive(Debug)]
struct Asker {
    /// Questions that it may ask at once: a second's worth at the most.
    left: f64,
    /// When that was so.
    at: Instant,
    /// Those that wait for a resolver.
    open: Arc<AtomicU32>,
}

impl Limits {
    pub(crate) fn new(rate: u32, forwards: u32) -> Self {
        Self { rate, forwards, askers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Ipv4Addr, Asker>> {
        // Nothing panics between two steps that belong together.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more question is taken from `ip`.
    pub(crate) fn admit(&self, ip: Ipv4Addr, now: Instant) -> bool {
        let mut askers = self.lock();
        let rate = f64::from(self.rate);
        let asker = entry(&mut askers, ip, rate, now);
        asker.refill(rate, now);
        let is_admitted = asker.left >= 1.0;
        if is_admitted {
            asker.left -= 1.0;
        }
        is_admitted
    }

    /// Leave to wait for a resolver, until it is dropped.
    pub(crate) fn wait(&self, ip: Ipv4Addr, now: Instant) -> Option<Waiting> {
        let mut askers = self.lock();
        let asker = entry(&mut askers, ip, f64::from(self.rate), now);
        // Added under the lock, taken off without: it can only be less than it seems.
        (asker.open.load(Ordering::Relaxed) < self.forwards).then(|| {
            asker.open.fetch_add(1, Ordering::Relaxed);
            Waiting(asker.open.clone())
        })
    }
}

fn entry(askers: &mut HashMap<Ipv4Addr, Asker>, ip: Ipv4Addr, rate: f64, now: Instant) -> &mut Asker {
    let mut key = ip;
    if askers.len() >= ASKERS && !askers.contains_key(&ip) {
        // Who has asked for nothing in a second is as good as unknown.
        askers.retain(|_, asker| {
            asker.refill(rate, now);
            asker.left < rate || asker.open.load(Ordering::Relaxed) > 0
        });
        if askers.len() >= ASKERS {
            key = BEYOND;
        }
    }
    askers.entry(key).or_insert_with(|| Asker { left: rate, at: now, open: Arc::default() })
}

impl Asker {
    fn refill(&mut self, rate: f64, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).min(rate);
        self.at = now;
    }
}

/// A question that waits for a resolver.
#[derive(Debug)]
pub(crate) struct Waiting(Arc<AtomicU32>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn one_may_ask_so_often_and_the_other_still_may() {
        let limits = Limits::new(10, 1);
        let start = Instant::now();
        let admitted = |ip, now| (0..100).filter(|_| limits.admit(ip, now)).count();
        assert_eq!(admitted(ONE, start), 10);
        assert_eq!(admitted(OTHER, start), 10);
        assert_eq!(admitted(ONE, start + Duration::from_millis(500)), 5);
        assert_eq!(admitted(ONE, start + Duration::from_secs(60)), 10);
        // A clock that seems to go back gives nothing.
        assert_eq!(admitted(ONE, start), 0);
    }

    #[test]
    fn so_many_may_wait() {
        let limits = Limits::new(10, 2);
        let now = Instant::now();
        let first = limits.wait(ONE, now).unwrap();
        let _second = limits.wait(ONE, now).unwrap();
        assert!(limits.wait(ONE, now).is_none());
        assert!(limits.wait(OTHER, now).is_some());
        drop(first);
        assert!(limits.wait(ONE, now).is_some());
    }

    #[test]
    fn who_is_one_too_many_shares_with_others_and_nobody_is_kept_for_ever() {
        let limits = Limits::new(1, 1);
        let now = Instant::now();
        for i in 0..ASKERS as u32 {
            assert!(limits.admit(Ipv4Addr::from(0x0a00_0000 + i), now));
        }
        let beyond = |last| Ipv4Addr::new(192, 0, 2, last);
        assert!(limits.admit(beyond(1), now));
        assert!(!limits.admit(beyond(2), now));
        assert!(limits.lock().len() <= ASKERS + 1);
        assert!(limits.admit(beyond(3), now + Duration::from_secs(2)));
        assert!(limits.lock().len() < 4);
    }
}
