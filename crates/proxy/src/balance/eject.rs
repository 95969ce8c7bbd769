//! Passive ejection: an endpoint whose connects keep failing gets no new connections for a while.
//!
//! The rules and the figures are Envoy's outlier detection ("consecutive gateway failure" for TCP means failed connects):
//! <https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier>.

use std::time::{Duration, Instant};

/// Failed connects in a row after which an endpoint is ejected (Envoy: `consecutive_5xx`).
pub(crate) const CONSECUTIVE_FAILURES: u32 = 5;
/// How often it is looked whose time is over (Envoy: `interval`).
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How long the first ejection lasts; the *n*th lasts *n* times as long (Envoy: `base_ejection_time`).
const BASE: Duration = Duration::from_secs(30);
/// The longest ejection (Envoy: `max_ejection_time`).
const LONGEST: Duration = Duration::from_secs(300);
/// How many of a pool may be ejected at a time; always one (Envoy: `max_ejection_percent`).
const MAX_PERCENT: usize = 10;

/// Which members of a pool are ejected, and until when.
#[derive(Debug, Default)]
pub(crate) struct Ejector {
    members: Vec<Member>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Member {
    /// Ejections so far, less those that good conduct made forgotten.
    ejections: u32,
    until: Option<Instant>,
}

impl Ejector {
    /// A pool with this many members, none of them ejected.
    pub(crate) fn new(members: usize) -> Self {
        Self { members: vec![Member::default(); members] }
    }

    /// The same for a changed pool: `origins` says for each member which one of this pool it was, if any.
    pub(crate) fn carried_over(&self, origins: impl IntoIterator<Item = Option<usize>>) -> Self {
        let members = origins
            .into_iter()
            .map(|origin| origin.and_then(|i| self.members.get(i)).copied().unwrap_or_default())
            .collect();
        let mut carried = Self { members };
        carried.keep_to_the_limit();
        carried
    }

    /// A pool that lost members may have too many ejected ones: those whose time is over first come back.
    fn keep_to_the_limit(&mut self) {
        while self.ejected() > self.limit() {
            let first =
                self.members.iter_mut().filter(|member| member.until.is_some()).min_by_key(|m| m.until);
            if let Some(member) = first {
                member.until = None;
            }
        }
    }

    fn limit(&self) -> usize {
        (self.members.len() * MAX_PERCENT / 100).max(1)
    }

    fn ejected(&self) -> usize {
        self.members.iter().filter(|member| member.until.is_some()).count()
    }

    /// Ejects a member, unless it is already or too many are. Says whether it did.
    pub(crate) fn eject(&mut self, member: usize, now: Instant) -> bool {
        if self.ejected() >= self.limit() {
            return false;
        }
        match self.members.get_mut(member) {
            Some(state) if state.until.is_none() => {
                state.ejections += 1;
                state.until = Some(now + (BASE * state.ejections).min(LONGEST));
                true
            }
            _ => false,
        }
    }

    /// Lets those back whose time is over; the others' past fades by one ejection. To be called once an interval.
    /// Says whether anybody came back.
    pub(crate) fn sweep(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for member in &mut self.members {
            match member.until {
                Some(until) if until <= now => {
                    member.until = None;
                    changed = true;
                }
                Some(_) => {}
                None => member.ejections = member.ejections.saturating_sub(1),
            }
        }
        changed
    }

    /// Until when a member is ejected.
    pub(crate) fn until(&self, member: usize) -> Option<Instant> {
        self.members.get(member).and_then(|state| state.until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_ejection_lasts_longer_and_good_conduct_is_rewarded() {
        let mut now = Instant::now();
        let mut ejector = Ejector::new(3);
        for n in 1..=12 {
            assert!(ejector.eject(1, now));
            let lasts = (30 * SECOND * n).min(300 * SECOND);
            assert_eq!(ejector.until(1), Some(now + lasts));
            assert!(!ejector.sweep(now + lasts - SECOND));
            now += lasts;
            assert!(ejector.sweep(now));
            assert_eq!(ejector.until(1), None);
        }
        for _ in 0..12 {
            ejector.sweep(now);
        }
        ejector.eject(1, now);
        assert_eq!(ejector.until(1), Some(now + 30 * SECOND));
    }

    #[test]
    fn one_at_least_and_a_tenth_at_most() {
        let now = Instant::now();
        for (members, limit) in [(1, 1), (3, 1), (10, 1), (19, 1), (20, 2), (100, 10)] {
            let mut ejector = Ejector::new(members);
            let ejected = (0..members).filter(|&member| ejector.eject(member, now)).count();
            assert_eq!(ejected, limit, "{members} members");
        }
    }

    proptest! {
        #[test]
        fn a_changed_pool_keeps_what_it_may(
            ejected in proptest::collection::vec(0..40usize, 0..40),
            origins in proptest::collection::vec(proptest::option::of(0..50usize), 0..30),
        ) {
            let now = Instant::now();
            let mut ejector = Ejector::new(40);
            for (i, &member) in ejected.iter().enumerate() {
                ejector.eject(member, now + SECOND * i as u32);
            }
            let carried = ejector.carried_over(origins.iter().copied());
            prop_assert!(carried.ejected() <= carried.limit());
            for (member, origin) in origins.iter().enumerate() {
                if let Some(until) = carried.until(member) {
                    prop_assert_eq!(Some(until), origin.and_then(|origin| ejector.until(origin)));
                }
            }
        }
    }
}
