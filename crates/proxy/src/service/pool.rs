//! The endpoints among which connections are balanced.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use rustix::io::Errno;
use tracing::warn;

use super::LiveEndpoint;
use crate::balance::{CONSECUTIVE_FAILURES, Ejector, Rotation, Tried};

/// Endpoints, whose turn it is, and who is ejected.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    members: Box<[Member]>,
    /// Those that are not ejected, in turn.
    rotation: ArcSwap<Rotation>,
    /// Everybody: the last resort.
    everybody: Rotation,
    /// Turns given so far. All workers share it: so the spread is even whichever of them a connection meets.
    turns: AtomicU64,
    /// Second tries have turns of their own: if they took part in the first ones', a dead one of two endpoints would come
    /// first for every connection.
    retry_turns: AtomicU64,
    /// Taken only when a connect failed again, and at each sweep.
    ejector: Mutex<Ejector>,
}

#[derive(Debug)]
struct Member {
    endpoint: Arc<LiveEndpoint>,
    weight: u8,
}

impl Pool {
    /// A pool of these endpoints and weights, which goes on where `previous` was.
    pub(crate) fn new(members: Vec<(Arc<LiveEndpoint>, u8)>, previous: &Self) -> Self {
        let members: Box<[_]> =
            members.into_iter().map(|(endpoint, weight)| Member { endpoint, weight }).collect();
        let origin = |member: &Member| {
            previous.members.iter().position(|old| Arc::ptr_eq(&old.endpoint, &member.endpoint))
        };
        let ejector = if previous.members.is_empty() {
            Ejector::new(members.len())
        } else {
            previous.ejector().carried_over(members.iter().map(origin))
        };
        let everybody = rotation(&members, |_| true);
        let healthy = rotation(&members, |member| ejector.until(member).is_none());
        Self {
            members,
            rotation: ArcSwap::from_pointee(healthy),
            everybody,
            turns: AtomicU64::new(previous.turns.load(Ordering::Relaxed)),
            retry_turns: AtomicU64::new(previous.retry_turns.load(Ordering::Relaxed)),
            ejector: Mutex::new(ejector),
        }
    }

    /// The next endpoint in turn that was not tried. An ejected one is the last resort: it might work, and a client
    /// that gets nothing would be worse.
    pub(crate) fn pick(&self, tried: &Tried) -> Option<u16> {
        let turns = if tried.any() { &self.retry_turns } else { &self.turns };
        let turn = turns.fetch_add(1, Ordering::Relaxed);
        self.rotation.load().pick(turn, tried).or_else(|| self.everybody.pick(turn, tried))
    }

    /// Where its endpoints are.
    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.members.iter().map(|member| member.endpoint.address)
    }

    /// How many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// An endpoint by the number that [`Pool::pick`] gave.
    pub(crate) fn endpoint(&self, member: u16) -> &Arc<LiveEndpoint> {
        &self.members[usize::from(member)].endpoint
    }

    /// The number of an endpoint, if it is one of this pool.
    pub(crate) fn position(&self, endpoint: &Arc<LiveEndpoint>) -> Option<u16> {
        let member = self.members.iter().position(|member| Arc::ptr_eq(&member.endpoint, endpoint))?;
        u16::try_from(member).ok()
    }

    /// A connect to an endpoint failed.
    pub(crate) fn connect_failed(&self, member: u16, errno: Errno, now: Instant) {
        let endpoint = self.endpoint(member);
        if endpoint.connect_failed(errno) < CONSECUTIVE_FAILURES {
            return;
        }
        let mut ejector = self.ejector();
        if ejector.eject(member.into(), now) {
            endpoint.forgive();
            self.turn_over(&ejector);
            warn!(
                endpoint = %endpoint.address, node = %endpoint.node, error = endpoint.last_error(),
                "{CONSECUTIVE_FAILURES} connects in a row failed: ejected for a while"
            );
        }
    }

    /// Lets those back whose ejection is over. To be called every [`SWEEP_INTERVAL`](crate::balance::SWEEP_INTERVAL).
    pub(crate) fn sweep(&self, now: Instant) {
        let mut ejector = self.ejector();
        if ejector.sweep(now) {
            self.turn_over(&ejector);
        }
    }

    /// For how long an endpoint is still ejected, if it is one of this pool and ejected.
    pub(crate) fn ejected_for(&self, endpoint: &Arc<LiveEndpoint>, now: Instant) -> Option<Duration> {
        let member = self.position(endpoint)?;
        // The sweep that lets it back may be a moment late.
        self.ejector().until(member.into()).map(|until| until.saturating_duration_since(now))
    }

    fn turn_over(&self, ejector: &Ejector) {
        self.rotation.store(Arc::new(rotation(&self.members, |member| ejector.until(member).is_none())));
    }

    fn ejector(&self) -> MutexGuard<'_, Ejector> {
        // Nothing panics while it is held; if it did, what is in there is still whole.
        self.ejector.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn rotation(members: &[Member], wanted: impl Fn(usize) -> bool) -> Rotation {
    let numbered = (0u16..).zip(members).filter(|(number, _)| wanted(usize::from(*number)));
    Rotation::new(numbered.map(|(number, member)| (number, member.weight)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool_of(endpoints: &[&Arc<LiveEndpoint>], previous: &Pool) -> Pool {
        Pool::new(endpoints.iter().map(|&endpoint| (endpoint.clone(), 1)).collect(), previous)
    }

    fn endpoint(port: u16) -> Arc<LiveEndpoint> {
        Arc::new(LiveEndpoint::new(format!("10.0.0.1:{port}").parse().unwrap(), "n".into()))
    }

    fn picks(pool: &Pool, count: usize) -> Vec<u16> {
        (0..count).map(|_| pool.endpoint(pool.pick(&Tried::default()).unwrap()).address.port()).collect()
    }

    #[test]
    fn a_failing_endpoint_is_ejected_also_across_a_change_and_comes_back() {
        let (a, b, c) = (endpoint(1), endpoint(2), endpoint(3));
        let now = Instant::now();
        let pool = pool_of(&[&a, &b], &Pool::default());
        for _ in 0..4 {
            pool.connect_failed(1, Errno::CONNREFUSED, now);
        }
        assert_eq!(picks(&pool, 4), [1, 2, 1, 2]);
        pool.connect_failed(1, Errno::CONNREFUSED, now);
        assert_eq!(picks(&pool, 4), [1, 1, 1, 1]);
        assert!(b.last_error().contains("refused"), "{}", b.last_error());

        let pool = pool_of(&[&a, &b, &c], &pool);
        assert_eq!(pool.ejected_for(&b, now), Some(Duration::from_secs(30)));
        let mut three = picks(&pool, 4);
        three.sort_unstable();
        assert_eq!(three, [1, 1, 3, 3]);

        pool.sweep(now + Duration::from_secs(30));
        let mut three = picks(&pool, 6);
        three.sort_unstable();
        assert_eq!(three, [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_success_in_between_keeps_an_endpoint_in() {
        let a = endpoint(1);
        let pool = pool_of(&[&a, &endpoint(2)], &Pool::default());
        for _ in 0..20 {
            for _ in 0..4 {
                pool.connect_failed(0, Errno::TIMEDOUT, Instant::now());
            }
            a.connected();
        }
        assert_eq!(pool.ejected_for(&a, Instant::now()), None);
    }

    #[test]
    fn when_everybody_is_ejected_they_are_tried_all_the_same() {
        let a = endpoint(1);
        let pool = pool_of(&[&a], &Pool::default());
        for _ in 0..5 {
            pool.connect_failed(0, Errno::CONNREFUSED, Instant::now());
        }
        assert!(pool.ejected_for(&a, Instant::now()).is_some());
        assert_eq!(picks(&pool, 2), [1, 1]);
    }
}
