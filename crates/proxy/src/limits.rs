//! Descriptors, the one thing a proxy runs out of first.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::ProxyError;

/// Descriptors that are never lent: standard streams, epoll instances, event counters, the runtime's own, and gRPC clients.
const RESERVED: u64 = 64;
/// Where no limit is set: as many as Linux lets one process have by default (`fs.nr_open`).
const UNLIMITED: u64 = 1 << 20;

/// Most flows of UDP. Each takes a port of this host, of which Linux gives 28,232 to all its processes (ip(7),
/// `ip_local_port_range`): the host's resolvers need some, too.
const FLOWS: u64 = 16_384;
/// And the part of the descriptors that they may have: flows don't end by themselves as connections do.
const FLOWS_SHARE: u64 = 4;

/// Raises the soft limit on descriptors to the hard one, and returns what holds then.
pub(crate) fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "can't raise the descriptor limit; the present one stays");
    }
    getrlimit(Resource::Nofile).current.unwrap_or(UNLIMITED)
}

/// The descriptors that sockets may use, lent out by count so that the process never meets EMFILE on its own account.
#[derive(Debug)]
pub(crate) struct Descriptors {
    limit: u64,
    free: AtomicU64,
}

impl Descriptors {
    /// What `limit` leaves after the reserve.
    ///
    /// # Errors
    /// When that is nothing to work with.
    pub(crate) fn new(limit: u64) -> Result<Arc<Self>, ProxyError> {
        let needed = RESERVED * 2;
        if limit < needed {
            return Err(ProxyError::DescriptorLimit { limit, needed });
        }
        Ok(Arc::new(Self { limit, free: AtomicU64::new(limit - RESERVED) }))
    }

    /// The limit of the process.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Most flows of UDP.
    pub(crate) fn flows(&self) -> usize {
        // At most `FLOWS`.
        FLOWS.min((self.limit - RESERVED) / FLOWS_SHARE) as usize
    }

    /// Lends `count`, until the permit is dropped.
    pub(crate) fn lend(self: &Arc<Self>, count: u32) -> Option<Permit> {
        let wanted = u64::from(count);
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(wanted))
            .ok()
            .map(|_| Permit { lender: self.clone(), count })
    }
}

/// Some descriptors, lent.
#[derive(Debug)]
pub(crate) struct Permit {
    lender: Arc<Descriptors>,
    count: u32,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lender.free.fetch_add(self.count.into(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_comes_back() {
        let descriptors = Descriptors::new(RESERVED * 2).unwrap();
        let most = descriptors.lend(RESERVED as u32).unwrap();
        assert!(descriptors.lend(1).is_none());
        drop(most);
        assert!(descriptors.lend(2).is_some());
    }

    #[test]
    fn a_limit_without_room_is_refused() {
        let error = Descriptors::new(100).unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
    }
}
