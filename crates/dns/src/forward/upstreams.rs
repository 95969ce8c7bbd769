//! The host's resolvers, and how they have done.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

/// One that failed is tried after the others for so long.
const SHUNNED: Duration = Duration::from_secs(10);
/// As many as are tried; a resolver library stops at three (resolv.conf(5)).
const MOST: usize = 8;

/// A resolver.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    failed: Mutex<Option<Instant>>,
}

impl Upstream {
    fn new(address: SocketAddr) -> Self {
        Self { address, failed: Mutex::default() }
    }

    /// When it last failed, if it has not answered since.
    pub(crate) fn failed(&self) -> Option<Instant> {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It did not answer a question. Says whether that is new of it.
    pub(super) fn note_failure(&self, now: Instant) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).replace(now).is_none()
    }

    /// It answered one.
    pub(super) fn note_answer(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It failed lately.
    fn is_shunned(&self, now: Instant) -> bool {
        self.failed().is_some_and(|at| now.saturating_duration_since(at) < SHUNNED)
    }
}

/// All of them, in the host's order.
#[derive(Debug)]
pub(crate) struct Upstreams {
    list: RwLock<Arc<[Arc<Upstream>]>>,
    /// Our own address, which is never one.
    own: SocketAddr,
}

impl Upstreams {
    pub(crate) fn new(own: SocketAddr) -> Self {
        Self { list: RwLock::new(Arc::default()), own }
    }

    /// Replaces them; those that stay keep what is known of them. Says which of them are ourselves and left out.
    pub(crate) fn replace(&self, addresses: &[SocketAddr]) -> bool {
        let former = self.list();
        let mut list: Vec<Arc<Upstream>> = Vec::new();
        for &address in addresses.iter().filter(|address| **address != self.own) {
            if list.len() < MOST && !list.iter().any(|upstream| upstream.address == address) {
                let same = former.iter().find(|upstream| upstream.address == address);
                list.push(same.cloned().unwrap_or_else(|| Arc::new(Upstream::new(address))));
            }
        }
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = list.into();
        addresses.contains(&self.own)
    }

    /// In the host's order.
    pub(crate) fn list(&self) -> Arc<[Arc<Upstream>]> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In the order to try them: those that failed lately come last.
    pub(super) fn in_order(&self, now: Instant) -> Vec<Arc<Upstream>> {
        let mut list = self.list().to_vec();
        list.sort_by_key(|upstream| upstream.is_shunned(now));
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_failed_comes_last_for_a_while_and_we_are_never_asked() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 53));
        let upstreams = Upstreams::new(address(9));
        assert!(upstreams.replace(&[address(1), address(9), address(2), address(1)]));
        let order = |now| upstreams.in_order(now).iter().map(|upstream| upstream.address).collect::<Vec<_>>();
        let now = Instant::now();
        assert_eq!(order(now), [address(1), address(2)]);
        upstreams.list()[0].note_failure(now);
        assert_eq!(order(now), [address(2), address(1)]);
        assert!(!upstreams.replace(&[address(1), address(2), address(3)]));
        assert_eq!(order(now), [address(2), address(3), address(1)]);
        assert_eq!(order(now + SHUNNED), [address(1), address(2), address(3)]);
        upstreams.list()[0].note_answer();
        assert_eq!(order(now), [address(1), address(2), address(3)]);
    }
}
