//! Everything that the agent knows, behind one lock: what is in force, the kernel's tables, the bridges' ports. Netlink is
//! answered within microseconds, so nothing here waits.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc},
    time::Instant,
};

use steppe_api::sync::{Agent, Change, Rejection};
use steppe_model::Resource;
use tokio::sync::mpsc;
use tracing::{debug, error, warn};

use crate::{
    docker_user::Standing,
    error::Error,
    flows::{Revoked, Task},
    host::{Host, HostError},
    kernel::{CommitError, Kernel, TableOwner},
    links::{Hairpin, Listing, PortChange, PortView, Ports, Seen, Watcher},
    ruleset::IfName,
    state::{Bound, Closed, Edit, Limits, PortLookup as _, State},
};

/// Changes of ports that a slow watcher may have before it: a host's containers, several times over.
const WATCHER_QUEUE: usize = 4_096;

/// ENODEV.
const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();

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
    hairpin: Hairpin,
    ports: Ports,
    limits: Limits,
    watchers: Vec<mpsc::Sender<PortChange>>,
    aside: Aside,
    closed: Closed,
    /// What there is of the rule in Docker's chain.
    pub(crate) docker_user: Standing,
}

/// What others do, on threads of their own.
pub(crate) struct Aside {
    /// Connections to be cut or released.
    pub(crate) flows: std_mpsc::Sender<Task>,
    /// Wakes who sees to the rule in Docker's chain.
    pub(crate) docker_user: std_mpsc::Sender<()>,
}

/// The firewall, shared between threads.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Firewall>>);

impl Firewall {
    /// `state` is what the kernel's tables hold already, `ports` what there is. What belonged to a port that went while the
    /// agent was away is removed here, before anything else.
    pub(crate) fn new(
        (kernel, state, closed): (Kernel, State, Closed),
        (host, hairpin): (Host, Hairpin),
        ports: Ports,
        limits: Limits,
        aside: Aside,
    ) -> Self {
        let (totals, watchers, docker_user) = (Totals::default(), Vec::new(), Standing::NotNeeded);
        let mut firewall = Self {
            state,
            kernel,
            totals,
            host,
            hairpin,
            ports,
            limits,
            watchers,
            aside,
            closed,
            docker_user,
        };
        firewall.remove_lost();
        // A start before this one may have ended in between.
        firewall.let_dial_themselves(&firewall.state.edits());
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
        self.closed.note(edits, Instant::now());
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
        self.let_dial_themselves(edits);
        self.follow_up(edits);
        Ok(())
    }

    /// A client that is an endpoint of what it dials must be able to reach itself.
    fn let_dial_themselves(&mut self, edits: &[Edit]) {
        for bound in self.state.dial_themselves(edits) {
            let port = bound.port.as_str();
            match self.hairpin.turn_on(bound.workload.port_ifindex) {
                Ok(false) => {}
                Ok(true) => debug!(port, "in hairpin mode: what is behind it may dial itself"),
                // It is gone, and what belonged to it goes at the kernel's event.
                Err(error) if error.raw_os_error() == Some(NO_DEVICE) => {}
                Err(error) => warn!(
                    port,
                    %error,
                    "can't be put into hairpin mode: what is behind it can't reach itself on the kernel path"
                ),
            }
        }
    }

    /// Makes the tables anew from what is in force.
    pub(crate) fn rebuild(&mut self) -> Result<(), Error> {
        let owner = if self.kernel.owned() { TableOwner::Auto } else { TableOwner::Off };
        self.kernel.rebuild(&self.state, &self.closed.left(Instant::now()), owner)?;
        self.totals.restored += 1;
        Ok(())
    }

    /// Has others do what edits take beside the tables: the connections of revoked grants are cut, which the rules do at their
    /// next packet in any case; those that the proxy did not answer are released when the kernel takes over; flows of UDP that lead elsewhere are redirected; and what Docker
    /// drops between bridges is looked after.
    fn follow_up(&self, edits: &[Edit]) {
        let now = Instant::now();
        let revoked: Revoked = edits.iter().filter_map(Edit::revokes).collect();
        let cut = (!revoked.is_empty()).then_some(Task::Cut(now, revoked));
        let release = edits.contains(&Edit::TakeOver).then_some(Task::Release(now));
        let redirect = edits.iter().any(Edit::redirects).then_some(Task::Redirect(now));
        for task in cut.into_iter().chain(release).chain(redirect) {
            if self.aside.flows.send(task).is_err() {
                debug!("the process is ending: revoked connections are cut by their next packet");
            }
        }
        let first = self.docker_user == Standing::NotNeeded && edits.iter().any(Edit::opens_kernel_path);
        let again = edits.iter().any(|edit| matches!(edit, Edit::TakeOver | Edit::AddWorkload(_)));
        if first || again {
            // Who has ended looks no more.
            let _ = self.aside.docker_user.send(());
        }
    }

    /// What must hold for every resource.
    pub(crate) fn limits(&self) -> Limits {
        self.limits
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
            Ok(true) => warn!("somebody removed an address from `lo` or the unreachable route: put back"),
            Err(error) => error!(%error, "an address on `lo` or the unreachable route is missing"),
        }
    }
}
