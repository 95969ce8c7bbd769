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

/// Reads the store only while an allocation lacks its address.
#[derive(Debug)]
pub(super) struct Addresses {
    dirs: Vec<PathBuf>,
    ports_known: Arc<AtomicU64>,
    known: BTreeMap<Arc<str>, Known>,
    look: Duration,
    next: Option<Instant>,
}

/// An allocation's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    ip: Ipv4Addr,
    /// The count of bridge ports' changes when it was read.
    ports_known: u64,
    /// What Nomad said of it then.
    status: Option<Ipv4Addr>,
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
        let bridged = allocs.iter().filter_map(|alloc| match alloc.network {
            AllocNetwork::Bridge { address, .. } if alloc.life != Life::Dead => Some((alloc, address)),
            _ => None,
        });
        // Where Nomad says another address than before, the namespace was made anew.
        let is_known = |alloc: &Alloc, status| {
            self.known.get(&alloc.id).is_some_and(|known| known.status == status || status.is_none())
        };
        let lacking: Vec<_> = bridged.filter(|(alloc, status)| !is_known(alloc, *status)).collect();
        let mut missing = false;
        if !lacking.is_empty() {
            // Before the store is read: a port that comes later may be a later allocation's. Nomad's own word is older than that,
            // but host-local gives an address again only when it has given all the others of its subnet.
            let ports_known = self.ports_known.load(Ordering::Acquire);
            let stored = store::read_all(&self.dirs).unwrap_or_else(|error| {
                debug!(%error, dirs = ?self.dirs, "no addresses of allocations in bridge mode");
                BTreeMap::new()
            });
            for (alloc, status) in lacking {
                match stored.get(&*alloc.id).copied().or(status) {
                    Some(ip) => {
                        self.known.insert(alloc.id.clone(), Known { ip, ports_known, status });
                    }
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
            && let Some(known) = self.known.get(&alloc.id)
        {
            (*address, *ports_known) = (Some(known.ip), known.ports_known);
        }
        alloc
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::sources::nomad::{answers, interpolate::Env};

    /// As Nomad 2.0 told of it: one allocation in bridge mode, at 172.26.64.3.
    fn allocs(status: Option<[u8; 4]>) -> Vec<Alloc> {
        let body = include_bytes!("recordings/running-2.0.5.json");
        let mut allocs = answers::allocs(body, &Env::default()).unwrap();
        allocs.retain(|alloc| matches!(alloc.network, AllocNetwork::Bridge { .. }));
        let told = status.map(Into::into);
        allocs[0].network = AllocNetwork::Bridge { address: told, ports_known: 0 };
        allocs
    }

    fn place(alloc: &Alloc) -> (Option<[u8; 4]>, u64) {
        match alloc.network {
            AllocNetwork::Bridge { address, ports_known } => (address.map(|ip| ip.octets()), ports_known),
            _ => panic!("{alloc:?}"),
        }
    }

    struct Bench {
        addresses: Addresses,
        count: Arc<AtomicU64>,
    }

    impl Bench {
        fn new(dir: &Path) -> Self {
            let count = Arc::new(AtomicU64::new(7));
            Self { addresses: Addresses::new(vec![dir.to_owned()], count.clone()), count }
        }

        /// What is told after an answer of Nomad's, with this many changes of ports known.
        fn told(&mut self, status: Option<[u8; 4]>, ports: u64) -> (Option<[u8; 4]>, u64) {
            self.count.store(ports, Ordering::Release);
            let allocs = allocs(status);
            self.addresses.begin(&allocs);
            place(&self.addresses.fill(&allocs)[0])
        }
    }

    #[test]
    fn the_store_is_looked_at_until_it_has_the_address() {
        let dir = tempfile::tempdir().unwrap();
        let mut bench = Bench::new(dir.path());
        assert_eq!(bench.told(None, 7), (None, 0));
        assert!(bench.addresses.look_at().is_some());
        fs::write(dir.path().join("172.26.64.9"), &*allocs(None)[0].id).unwrap();
        assert_eq!(bench.told(None, 8), (Some([172, 26, 64, 9]), 8));
        assert!(bench.addresses.look_at().is_none());
        assert_eq!(bench.told(None, 9), (Some([172, 26, 64, 9]), 8), "it was read before port 9 was known");
    }

    #[test]
    fn without_a_store_nomads_own_word_counts_from_when_it_came() {
        let mut bench = Bench::new(Path::new("/nonexistent"));
        assert_eq!(bench.told(None, 7), (None, 0));
        let at = [172, 26, 64, 3];
        assert_eq!(bench.told(Some(at), 8), (Some(at), 8));
        assert!(bench.addresses.look_at().is_none());
        assert_eq!(bench.told(Some(at), 9), (Some(at), 8));
        bench.addresses.forget(&allocs(None)[0].id);
        assert_eq!(bench.told(Some(at), 10), (Some(at), 10), "it was to be read again");
        let next = [172, 26, 64, 4];
        assert_eq!(bench.told(Some(next), 11), (Some(next), 11), "its namespace was made anew");
    }

    #[test]
    fn what_ends_keeps_its_address_to_the_end() {
        let mut bench = Bench::new(Path::new("/nonexistent"));
        let mut allocs = allocs(Some([172, 26, 64, 3]));
        allocs[0].life = Life::Stopping;
        assert_eq!(place(&bench.addresses.fill(&allocs)[0]), (Some([172, 26, 64, 3]), 7));
    }
}
