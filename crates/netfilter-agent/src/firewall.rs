//! Everything that the agent knows, behind one lock: what is in force, the kernel's tables, the bridges' ports. Netlink is
//! answered within microseconds, so nothing here waits.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc},
    time::Instant,
};

use steppe_api::sync::{Agent, Change, Rejection};
use steppe_model::Resource;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use crate::{
    error::Error,
    host::{Host, HostError},
    kernel::{CommitError, Kernel, TableOwner},
    links::{Listing, PortChange, PortView, Ports, Seen, Watcher},
    ruleset::IfName,
    state::{Bound, Edit, Limits, PortLookup as _, State},
};

/// Changes of ports that a slow watcher may have before it: a host's containers, several times over.
const WATCHER_QUEUE: usize = 4_096;

/// A client's address and a virtual IP of which some right was taken away.
pub(crate) type Revoked = HashSet<(Ipv4Addr, Ipv4Addr)>;

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Totals {
    /// Transactions that were committed.
    pub(crate) transactions: u64,
    /// Transactions that the kernel refused.
    pub(crate) failed: u64,
    /// Times that the tables were put back.
    pub(crate) restored: u64,
}

/// The state and all that it takes to keep it true.
pub(crate) struct Firewall {
    pub(crate) state: State,
    pub(crate) kernel: Kernel,
    pub(crate) totals: Totals,
    host: Host,
    ports: Ports,
    limits: Limits,
    watchers: Vec<mpsc::Sender<PortChange>>,
    revoked: std_mpsc::Sender<(Instant, Revoked)>,
}

/// The firewall, shared between threads.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Firewall>>);

impl Firewall {
    /// `state` is what the kernel's tables hold already, `ports` what there is. What belonged to a port that went while the
    /// agent was away is removed here, before anything else.
    pub(crate) fn new(
        (kernel, state): (Kernel, State),
        host: Host,
        ports: Ports,
        limits: Limits,
        revoked: std_mpsc::Sender<(Instant, Revoked)>,
    ) -> Self {
        let (totals, watchers) = (Totals::default(), Vec::new());
        let mut firewall = Self { state, kernel, totals, host, ports, limits, watchers, revoked };
        firewall.remove_lost();
        for Bound { workload, .. } in firewall.state.workloads() {
            firewall.ports.was_known(workload.port_ifindex, workload.mac, workload.ip);
        }
        firewall
    }

    /// Puts changes in force, those of them that can be; gives the others with their reasons.
    pub(crate) fn apply(&mut self, changes: &[Change]) -> Vec<Rejection> {
        let began = Instant::now();
        let mut rejected = Vec::new();
        let mut edits = Vec::new();
        for change in changes {
            match self.state.plan(change, &self.ports, self.limits) {
                Ok(planned) => {
                    planned.iter().for_each(|edit| self.state.perform(edit));
                    edits.extend(planned);
                }
                Err(reason) => rejected.push(Rejection { id: change.id(), reason }),
            }
        }
        let Err(error) = self.commit(&edits) else {
            debug!(changes = changes.len(), edits = edits.len(), took = ?began.elapsed(), "in force");
            return rejected;
        };
        edits.iter().rev().for_each(|edit| self.state.perform(&edit.inverse()));
        match changes {
            [change] => {
                vec![Rejection { id: change.id(), reason: format!("the kernel refused it: {error}") }]
            }
            // One of them is to blame: the others shall not suffer for it.
            _ => {
                let (first, second) = changes.split_at(changes.len() / 2);
                let mut rejected = self.apply(first);
                rejected.extend(self.apply(second));
                rejected
            }
        }
    }

    /// Puts edits in force that the state has already. Tables that a stranger changed are made anew.
    fn commit(&mut self, edits: &[Edit]) -> Result<(), Error> {
        if edits.is_empty() {
            return Ok(());
        }
        match self.kernel.commit(edits) {
            Ok(()) => {}
            Err(CommitError::Refused(source)) => {
                self.totals.failed += 1;
                if self.kernel.is_intact()? {
                    return Err(Error::Netlink { doing: "changed", source });
                }
                warn!("somebody changed table `steppe`: it is made anew");
                self.rebuild()?;
            }
            Err(CommitError::Unknown(source)) => {
                self.totals.failed += 1;
                warn!(%source, "a transaction's outcome is unknown: table `steppe` is made anew");
                self.rebuild()?;
            }
        }
        self.totals.transactions += 1;
        self.cut(edits);
        Ok(())
    }

    /// Makes the tables anew from what is in force.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        let owner = if self.kernel.owned() { TableOwner::Auto } else { TableOwner::Off };
        self.kernel.rebuild(&self.state, owner)?;
        self.totals.restored += 1;
        Ok(())
    }

    /// Has the connections of revoked grants cut. The rules cut them at their next packet in any case.
    fn cut(&self, edits: &[Edit]) {
        let revoked: Revoked = edits.iter().filter_map(Edit::revokes).collect();
        if !revoked.is_empty() && self.revoked.send((Instant::now(), revoked)).is_err() {
            debug!("the process is ending: revoked connections are cut by their next packet");
        }
    }

    /// Removes what belonged to ports that are gone.
    fn remove_lost(&mut self) {
        let edits = self.state.plan_lost_ports(&self.ports);
        if edits.is_empty() {
            return;
        }
        edits.iter().for_each(|edit| self.state.perform(edit));
        debug!(edits = edits.len(), "a bridge port is gone, and its workload's rights with it");
        if let Err(error) = self.commit(&edits).or_else(|_| self.rebuild()) {
            error!(%error, "what belonged to a bridge port that is gone could not be removed");
        }
    }

    fn tell(&mut self, changes: Vec<PortChange>) {
        if changes.is_empty() {
            return;
        }
        self.remove_lost();
        for change in changes {
            // A watcher that does not keep up is let go: its stream ends, and it asks again.
            self.watchers.retain(|watcher| watcher.try_send(change.clone()).is_ok());
        }
    }

    /// The ports there are, and from here on what changes.
    pub(crate) fn watch_ports(&mut self) -> (Vec<PortView>, mpsc::Receiver<PortChange>) {
        let (sender, receiver) = mpsc::channel(WATCHER_QUEUE);
        self.watchers.retain(|watcher| !watcher.is_closed());
        self.watchers.push(sender);
        (self.ports.views().collect(), receiver)
    }

    fn ensure_host(&mut self) -> Result<bool, HostError> {
        self.host.ensure()
    }
}

impl Shared {
    /// Shares it.
    pub(crate) fn new(firewall: Firewall) -> Self {
        Self(Arc::new(Mutex::new(firewall)))
    }

    /// Alone with it.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Firewall> {
        // A panic while it was held leaves a state that is whole: edits are performed one by one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl Agent for Shared {
    fn inventory(&self) -> Vec<Resource> {
        self.lock().state.resources()
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Vec<Rejection> {
        self.lock().apply(&changes)
    }
}

impl Watcher for Shared {
    fn bridge(&mut self, ifindex: u32, name: IfName) {
        let mut firewall = self.lock();
        let changes = firewall.ports.bridge(ifindex, name);
        firewall.tell(changes);
    }

    fn port(&mut self, seen: Seen) -> bool {
        let ifindex = seen.ifindex;
        let mut firewall = self.lock();
        let before = firewall.ports.port(ifindex);
        let change = firewall.ports.present(seen);
        if before.is_some() && firewall.ports.port(ifindex) != before {
            firewall.remove_lost();
        }
        firewall.tell(change.into_iter().collect());
        !firewall.ports.is_complete(ifindex)
    }

    fn gone(&mut self, ifindex: u32) {
        let mut firewall = self.lock();
        let change = firewall.ports.gone(ifindex);
        firewall.tell(change.into_iter().collect());
    }

    fn relist(&mut self, listing: Listing) {
        let mut firewall = self.lock();
        let changes = firewall.ports.relist(listing);
        firewall.tell(changes);
    }

    fn is_bridge(&self, ifindex: u32) -> bool {
        self.lock().ports.is_bridge(ifindex)
    }

    fn host_changed(&mut self) {
        match self.lock().ensure_host() {
            Ok(false) => {}
            Ok(true) => warn!("somebody removed the listener address or the unreachable route: put back"),
            Err(error) => error!(%error, "the listener address or the unreachable route is missing"),
        }
    }
}
