//! The addresses of this node's allocations in bridge mode, and since when they are known.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tracing::debug;

use super::store;
use crate::observe::{Alloc, AllocNetwork, Life};

/// An address is there some milliseconds after the namespace, and long before the first task.
const FIRST_LOOK: Duration = Duration::from_millis(20);
/// An allocation may wait for its volumes, or for good.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Reads the store only while a placed allocation lacks its address.
#[derive(Debug)]
pub(super) struct Addresses {
    dirs: Vec<PathBuf>,
    ports_known: Arc<AtomicU64>,
    /// By allocation, with the count that was known before it was read.
    known: BTreeMap<Arc<str>, (Ipv4Addr, u64)>,
    look: Duration,
    next: Option<Instant>,
}

impl Addresses {
    pub(super) fn new(dirs: Vec<PathBuf>, ports_known: Arc<AtomicU64>) -> Self {
        Self { dirs, ports_known, known: BTreeMap::new(), look: FIRST_LOOK, next: None }
    }

    /// When the store must be read again.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.next
    }

    /// There may be new allocations: look soon.
    pub(super) fn begin(&mut self, allocs: &[Alloc]) {
        let ids: BTreeSet<_> = allocs.iter().map(|alloc| &alloc.id).collect();
        self.known.retain(|id, _| ids.contains(id));
        self.look = FIRST_LOOK;
    }

    /// What is known of this one's address must be read again.
    pub(super) fn forget(&mut self, id: &str) {
        self.known.remove(id);
        self.look = FIRST_LOOK;
    }

    /// The allocations with their addresses: the store's, else what Nomad itself says.
    pub(super) fn fill(&mut self, allocs: &[Alloc]) -> Vec<Alloc> {
        let bridged = |alloc: &&Alloc| {
            alloc.life == Life::Placed && matches!(alloc.network, AllocNetwork::Bridge { .. })
        };
        let lacking: Vec<_> =
            allocs.iter().filter(bridged).filter(|alloc| !self.known.contains_key(&alloc.id)).collect();
        let mut missing = false;
        if !lacking.is_empty() {
            // Before the store is read: a port that comes later may be a later allocation's.
            let ports_known = self.ports_known.load(Ordering::Acquire);
            let stored = store::read_all(&self.dirs).unwrap_or_else(|error| {
                debug!(%error, dirs = ?self.dirs, "no addresses of allocations in bridge mode");
                BTreeMap::new()
            });
            for alloc in lacking {
                match stored.get(&*alloc.id) {
                    Some(ip) => drop(self.known.insert(alloc.id.clone(), (*ip, ports_known))),
                    None => missing = true,
                }
            }
        }
        self.next = missing.then(|| Instant::now() + self.look);
        if missing {
            self.look = (self.look * 2).min(LONGEST_LOOK);
        }
        allocs.iter().cloned().map(|alloc| self.filled(alloc)).collect()
    }

    fn filled(&self, mut alloc: Alloc) -> Alloc {
        if let AllocNetwork::Bridge { address, ports_known } = &mut alloc.network
            && let Some((ip, known)) = self.known.get(&alloc.id)
        {
            (*address, *ports_known) = (Some(*ip), *known);
        }
        alloc
    }
}
