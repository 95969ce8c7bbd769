//! What one asker may take, so that the others are still answered.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use steppe_model::UserName;

use crate::zone::Map;

/// Askers that are told apart. Those beyond share what one may take.
const ASKERS: usize = 16_384;
/// The asker that stands for all those beyond.
const BEYOND: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

/// How often those are forgotten who are as good as unknown, when there are too many.
const SWEEP: Duration = Duration::from_secs(1);
/// Who has so many waiting (both addresses of a name, twice) gets none of the last eighth of all: so whoever has nothing yet still
/// gets something when some have taken all they may.
const FEW: u32 = 4;
/// The workloads of one user have this part of all at the most, however many they are.
const SHARE: u32 = 2;
/// After somebody was waited for in vain, it is not again for so long: it is of no concern to Steppe, and only led here. The next
/// one with its address may be.
const HOPELESS: Duration = Duration::from_secs(10);

/// The limits in force, and who has taken what.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Questions in a second.
    rate: u32,
    /// Questions of one that may wait.
    waits: u32,
    /// Questions of all that may.
    waits_of_all: u32,
    /// Those that wait.
    waiting: Arc<AtomicU32>,
    askers: Mutex<Askers>,
}

#[derive(Debug, Default)]
struct Askers {
    by_ip: Map<Ipv4Addr, Asker>,
    /// Those of each user that wait.
    by_user: Map<UserName, Arc<AtomicU32>>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Asker {
    /// Questions that it may ask at once: a second's worth at the most.
    left: f64,
    /// When that was so.
    at: Instant,
    /// Those that wait.
    waiting: Arc<AtomicU32>,
    /// When it was last waited for in vain.
    in_vain: Option<Instant>,
}

impl Limits {
    /// Questions of one in a second, those of one that may wait for a resolver or for control, and those of all that may.
    pub(crate) fn new(rate: u32, waits: u32, waits_of_all: u32) -> Self {
        Self { rate, waits, waits_of_all, waiting: Arc::default(), askers: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Askers> {
        // Nothing panics between two steps that belong together.
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more question is taken from `ip`.
    pub(crate) fn admit(&self, ip: Ipv4Addr, now: Instant) -> bool {
        let mut askers = self.lock();
        let rate = f64::from(self.rate);
        let asker = askers.entry(ip, rate, now);
        asker.refill(rate, now);
        let is_admitted = asker.left >= 1.0;
        if is_admitted {
            asker.left -= 1.0;
        }
        is_admitted
    }

    /// Leave for one more question of `ip`, which is a workload of `user`, to wait, until it is dropped.
    pub(crate) fn wait(&self, ip: Ipv4Addr, user: Option<&UserName>, now: Instant) -> Option<Waiting> {
        let mut askers = self.lock();
        let of_user = user.map(|user| askers.of_user(user));
        let asker = askers.entry(ip, f64::from(self.rate), now);
        // Added under the lock, taken off without: there can only be fewer than it seems.
        let own = asker.waiting.load(Ordering::Relaxed);
        let kept_free = if own < FEW { 0 } else { self.waits_of_all / 8 };
        let is_room = self.waiting.load(Ordering::Relaxed) < self.waits_of_all - kept_free;
        let has_share = of_user
            .as_ref()
            .is_none_or(|count| count.load(Ordering::Relaxed) < self.waits_of_all.div_ceil(SHARE));
        (is_room && has_share && own < self.waits)
            .then(|| Waiting::new([Some(asker.waiting.clone()), Some(self.waiting.clone()), of_user]))
    }

    /// Control did not tell in time who `ip` is.
    pub(crate) fn note_in_vain(&self, ip: Ipv4Addr, now: Instant) {
        self.lock().entry(ip, f64::from(self.rate), now).in_vain = Some(now);
    }

    /// Whether control need not be waited for to tell who `ip` is.
    pub(crate) fn is_hopeless(&self, ip: Ipv4Addr, now: Instant) -> bool {
        let in_vain = self.lock().entry(ip, f64::from(self.rate), now).in_vain;
        in_vain.is_some_and(|at| now.saturating_duration_since(at) < HOPELESS)
    }
}

impl Askers {
    fn entry(&mut self, ip: Ipv4Addr, rate: f64, now: Instant) -> &mut Asker {
        let mut key = ip;
        if self.by_ip.len() >= ASKERS && !self.by_ip.contains_key(&ip) {
            self.sweep(rate, now);
            if self.by_ip.len() >= ASKERS {
                key = BEYOND;
            }
        }
        self.by_ip.entry(key).or_insert_with(|| Asker {
            left: rate,
            at: now,
            waiting: Arc::default(),
            in_vain: None,
        })
    }

    fn of_user(&mut self, user: &UserName) -> Arc<AtomicU32> {
        if let Some(count) = self.by_user.get(user) {
            return count.clone();
        }
        // So there are never more than questions that wait, and this one.
        self.by_user.retain(|_, count| count.load(Ordering::Relaxed) > 0);
        self.by_user.entry(user.clone()).or_default().clone()
    }

    /// Who has asked for nothing in a second is as good as unknown.
    fn sweep(&mut self, rate: f64, now: Instant) {
        if self.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return;
        }
        self.swept = Some(now);
        self.by_ip.retain(|_, asker| {
            asker.refill(rate, now);
            asker.left < rate || asker.waiting.load(Ordering::Relaxed) > 0
        });
    }
}

impl Asker {
    fn refill(&mut self, rate: f64, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.left = (self.left + gained).min(rate);
        self.at = now;
    }
}

/// A question that waits, as it is counted of its asker, of all, and of a user.
#[derive(Debug)]
pub(crate) struct Waiting([Option<Arc<AtomicU32>>; 3]);

impl Waiting {
    fn new(counts: [Option<Arc<AtomicU32>>; 3]) -> Self {
        for count in counts.iter().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self(counts)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for count in self.0.iter().flatten() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    #[test]
    fn one_may_ask_so_often_and_the_other_still_may() {
        let limits = Limits::new(10, 1, 100);
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
        let limits = Limits::new(10, 2, 100);
        let now = Instant::now();
        let first = limits.wait(ONE, None, now).unwrap();
        let _second = limits.wait(ONE, None, now).unwrap();
        assert!(limits.wait(ONE, None, now).is_none());
        assert!(limits.wait(OTHER, None, now).is_some());
        drop(first);
        assert!(limits.wait(ONE, None, now).is_some());
    }

    #[test]
    fn who_has_nothing_yet_still_may_when_others_have_taken_all_they_may() {
        let limits = Limits::new(10, 30, 100);
        let now = Instant::now();
        let most = |ip| std::iter::from_fn(|| limits.wait(ip, None, now)).collect::<Vec<_>>();
        let taken: Vec<_> = (0..3).map(|i| most(Ipv4Addr::new(10, 0, 1, i))).collect();
        assert_eq!(taken.iter().map(Vec::len).collect::<Vec<_>>(), [30, 30, 28]);
        assert_eq!((most(ONE).len(), most(OTHER).len()), (4, 4));
        drop(taken);
        assert_eq!(most(ONE).len(), 30);
    }

    #[test]
    fn many_of_one_user_leave_half_to_others() {
        let limits = Limits::new(10, 30, 100);
        let now = Instant::now();
        let [alice, bob] = ["alice", "bob"].map(|name| name.parse::<UserName>().unwrap());
        let colluding = (0..200).map(|i| Ipv4Addr::new(10, 0, 1, i));
        let taken: Vec<_> = colluding.filter_map(|ip| limits.wait(ip, Some(&alice), now)).collect();
        assert_eq!(taken.len(), 50);
        assert!(limits.wait(ONE, Some(&bob), now).is_some() && limits.wait(ONE, None, now).is_some());
        drop(taken);
        assert!(limits.wait(ONE, Some(&alice), now).is_some());
        // Nobody is kept for ever.
        assert!(limits.wait(OTHER, Some(&"carol".parse().unwrap()), now).is_some());
        assert_eq!(limits.lock().by_user.len(), 1);
    }

    #[test]
    fn who_waited_in_vain_does_not_wait_again_soon() {
        let limits = Limits::new(10, 1, 1);
        let now = Instant::now();
        assert!(!limits.is_hopeless(ONE, now));
        limits.note_in_vain(ONE, now);
        assert!(limits.is_hopeless(ONE, now) && !limits.is_hopeless(OTHER, now));
        assert!(!limits.is_hopeless(ONE, now + HOPELESS));
    }

    #[test]
    fn who_is_one_too_many_shares_with_others_and_nobody_is_kept_for_ever() {
        let limits = Limits::new(1, 1, 100);
        let now = Instant::now();
        for i in 0..ASKERS as u32 {
            assert!(limits.admit(Ipv4Addr::from(0x0a00_0000 + i), now));
        }
        let beyond = |last| Ipv4Addr::new(192, 0, 2, last);
        assert!(limits.admit(beyond(1), now));
        assert!(!limits.admit(beyond(2), now));
        assert!(limits.lock().by_ip.len() <= ASKERS + 1);
        assert!(limits.admit(beyond(3), now + Duration::from_secs(2)));
        assert!(limits.lock().by_ip.len() < 4);
    }
}
