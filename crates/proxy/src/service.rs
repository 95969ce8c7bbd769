//! What the control side and the workers share: a listener's service, swapped whole and counted without locks.

mod endpoint;
mod pool;
mod targets;

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use steppe_model::{ResourceId, ServiceName};

pub(crate) use endpoint::{InUse, LiveEndpoint};
pub(crate) use pool::Pool;
pub(crate) use targets::{MAX_ENDPOINTS, Targets};

/// A listener in force, as the workers see it.
#[derive(Debug)]
pub(crate) struct Service {
    /// The listener's id.
    pub(crate) id: ResourceId,
    /// The service's name, by which people filter.
    pub(crate) name: ServiceName,
    /// Where its connections go.
    pub(crate) targets: ArcSwap<Targets>,
    /// Who may use it.
    pub(crate) clients: ArcSwap<HashSet<Ipv4Addr>>,
    pub(crate) counters: Counters,
}

/// What a listener has seen since it was put in force.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) refused: Counter,
    pub(crate) failed: Counter,
    pub(crate) retried: Counter,
    pub(crate) active: AtomicU64,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// An open connection of a service, counted for as long as this lives.
#[derive(Debug)]
pub(crate) struct Membership(Arc<Service>);

impl Membership {
    pub(crate) fn new(service: &Arc<Service>) -> Self {
        service.counters.active.fetch_add(1, Ordering::Relaxed);
        Self(service.clone())
    }
}

impl std::ops::Deref for Membership {
    type Target = Service;

    fn deref(&self) -> &Service {
        &self.0
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.0.counters.active.fetch_sub(1, Ordering::Relaxed);
    }
}
