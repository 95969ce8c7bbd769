//! The heart of control: takes events in, plans, and says what to send. One task owns it; it does no I/O of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use steppe_api::v1;
use steppe_model::{Resource, ServiceName, UserName};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    agent::AgentName,
    observe::{Attach, Observation, SourceName},
    plan::{Delta, Planner, PortChange},
    push::{Push, session::LinkEvent},
    source_health::{SourceState, SourcesBoard},
};

/// How long the first plan waits for an agent that can't be reached, so that choices it has in force can be kept.
const INVENTORY_WAIT: Duration = Duration::from_secs(3);
/// How long the first push waits, once every source has been listed, for what a catalogue says of services that no agent
/// has in force. It answers in milliseconds, or won't (an ACL, say); nobody who asks for such a service may hold up the others.
/// So long it waits also for Docker to prove whose a bridge port is and to list the networks, and for Nomad to tell the services of
/// their users.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// Services that are named at most where it waits for many.
const SHOWN: usize = 8;
/// How long the first push may wait before it is said what for.
const LONG_WAIT: Duration = Duration::from_secs(10);
/// How often rejected resources are tried again.
const RETRY_REJECTED: Duration = Duration::from_secs(5);

/// What the world outside must do after [`Core::settle`].
#[derive(Debug, Default)]
pub struct Wishes {
    /// The services that catalogues must watch, when they changed, with the users whose they may be.
    pub wanted: Option<BTreeMap<ServiceName, BTreeSet<UserName>>>,
    /// Containers that Docker must be asked about again.
    pub reread: BTreeSet<Arc<str>>,
    /// Allocations of this node whose address must be read again.
    pub reread_allocs: BTreeSet<Arc<str>>,
    /// The allocations elsewhere that Nomad must be asked about, when they changed.
    pub wanted_allocs: Option<BTreeSet<Arc<str>>>,
    /// The users whose networks must be there, when they changed.
    pub users: Option<BTreeSet<UserName>>,
    /// The users whose services Nomad must tell, when they changed.
    pub services_of: Option<BTreeSet<UserName>>,
    /// Containers to be moved to their users' networks.
    pub attach: Vec<Attach>,
    /// Containers whose resolv.conf shall lead to dns, and those whose shall not any more.
    pub resolve: Vec<(Arc<str>, bool)>,
}

/// Everything that control knows.
#[derive(Debug)]
pub struct Core {
    /// What is planned.
    pub planner: Planner,
    /// What is in force.
    pub push: Push,
    /// Where the facts come from.
    pub sources: SourcesBoard,
    /// When control started.
    pub started: Instant,
    requests: BTreeMap<AgentName, mpsc::UnboundedSender<v1::SyncRequest>>,
    inventories: BTreeSet<AgentName>,
    /// Services that agents had in force when control started: an empty listing of theirs must have been seen truly.
    in_force_before: BTreeSet<ServiceName>,
    listed: Option<Instant>,
    /// What the first push was said to wait for.
    said: Option<String>,
    retried: Instant,
    was_taken_over: bool,
}

impl Core {
    /// Nothing is known yet; what is pushed goes through `push`.
    #[must_use]
    pub fn new(planner: Planner, push: Push, sources: SourcesBoard, now: Instant) -> Self {
        Self {
            planner,
            push,
            sources,
            started: now,
            requests: BTreeMap::new(),
            inventories: BTreeSet::new(),
            in_force_before: BTreeSet::new(),
            listed: None,
            said: None,
            retried: now,
            was_taken_over: false,
        }
    }

    /// A source told something.
    pub fn observed(&mut self, observation: Observation, now: Instant) {
        self.sources.note(&observation, now);
        self.planner.observe(observation);
    }

    /// The netfilter-agent told of a bridge port; returns how many such changes were taken in so far.
    pub fn port_changed(&mut self, change: PortChange) -> u64 {
        self.planner.observe_port(change)
    }

    /// Something happened on the connection to an agent.
    pub fn link_changed(&mut self, agent: AgentName, event: LinkEvent, now: Instant) {
        match event {
            LinkEvent::Connected(inventory, requests) => {
                if !self.push.is_open() {
                    self.adopt(&inventory);
                }
                self.inventories.insert(agent);
                self.push.connected(agent, inventory, now);
                self.requests.insert(agent, requests);
            }
            LinkEvent::Acknowledged(version) => self.push.acknowledged(agent, version),
            LinkEvent::Rejected { version, id, reason } => {
                if self.push.rejected(agent, version, &id, &reason) {
                    warn!(agent = agent.process().name(), %id, reason, "rejected; it is tried again");
                }
            }
            LinkEvent::Draining => {
                info!(agent = agent.process().name(), "is about to stop");
                self.push.draining(agent);
            }
            LinkEvent::Disconnected(why) => {
                self.requests.remove(&agent);
                self.push.disconnected(agent, why, now);
            }
        }
    }

    /// Plans what was touched and sends what may be sent.
    pub fn settle(&mut self, now: Instant) -> Wishes {
        let mut wishes = Wishes::default();
        if self.may_plan(now) {
            let delta = self.planner.plan(now);
            self.take(delta, &mut wishes);
            if !self.push.is_open() {
                self.open_when_listed(now);
            }
        }
        self.say_what_is_awaited(now);
        if now.saturating_duration_since(self.retried) >= RETRY_REJECTED {
            self.retried = now;
            self.push.retry_rejected();
        }
        // Each after those that it waits for.
        for agent in AgentName::ALL {
            for request in self.push.outgoing(agent, now) {
                // When the stream has ended, its end is on its way to us as an event.
                if let Some(requests) = self.requests.get(&agent) {
                    let _ = requests.send(request);
                }
            }
        }
        self.tell_of_takeover();
        wishes
    }

    fn tell_of_takeover(&mut self) {
        let is_taken_over = self.push.is_taken_over();
        if is_taken_over != self.was_taken_over {
            self.was_taken_over = is_taken_over;
            info!(
                "new connections go {}",
                if is_taken_over { "past the proxy" } else { "to the proxy again" }
            );
        }
    }

    fn may_plan(&self, now: Instant) -> bool {
        // dns has no choices of its own to be kept.
        AgentName::TRAFFIC.iter().all(|agent| self.inventories.contains(agent))
            || now.saturating_duration_since(self.started) >= INVENTORY_WAIT
    }

    fn take(&mut self, delta: Delta, wishes: &mut Wishes) {
        for ignored in delta.ignored {
            warn!(origin = %ignored.origin, text = %ignored.text, reason = %ignored.reason, "ignored");
        }
        for (agent, id, planned) in delta.resources {
            self.push.desire(agent, id, planned);
        }
        if delta.wanted_changed {
            wishes.wanted = Some(self.planner.wanted_by_user());
        }
        wishes.reread = delta.reread;
        wishes.reread_allocs = delta.reread_allocs;
        wishes.wanted_allocs = delta.wanted_allocs;
        wishes.users = delta.users;
        wishes.services_of = delta.services_of;
        wishes.attach = delta.attach;
        wishes.resolve = delta.resolve;
    }

    /// Keeps what an agent has in force from an earlier life of control.
    fn adopt(&mut self, inventory: &[Resource]) {
        for resource in inventory {
            self.planner.keep(resource);
            match resource {
                Resource::Listener(listener) => {
                    self.in_force_before.insert(listener.key.service.name.clone());
                }
                Resource::ServicePort(port) => {
                    self.in_force_before.insert(port.service.name.clone());
                }
                Resource::Client(_)
                | Resource::Workload(_)
                | Resource::VirtualIp(_)
                | Resource::Grant(_)
                | Resource::Takeover(_)
                | Resource::Network(_)
                | Resource::PublishedPort(_)
                | Resource::Doors(_)
                | Resource::Asker(_)
                | Resource::Member(_) => {}
            }
        }
    }

    /// Whether it is to be told yet who is on which user's network, and what that lets them reach.
    fn awaits_tenants(&self) -> bool {
        (self.sources.has(SourceName::Docker) && !self.planner.knows_networks())
            || (self.sources.has(SourceName::Nomad) && self.planner.has_untold_tenant())
    }

    /// The catalogues that are on.
    fn catalogues(&self) -> Vec<SourceName> {
        [SourceName::Consul, SourceName::Nomad]
            .into_iter()
            .filter(|source| self.sources.has(*source))
            .collect()
    }

    /// What the first push waits for for as long as it takes, in words.
    #[must_use]
    pub fn waits_for(&self) -> Option<String> {
        if self.push.is_open() {
            return None;
        }
        if let Some(awaited) = self.awaits_listings() {
            return Some(awaited);
        }
        let catalogues = self.catalogues();
        let mut awaited = self.planner.unanswered(&catalogues);
        awaited.retain(|name| self.in_force_before.contains(*name));
        if awaited.is_empty() {
            return None;
        }
        let catalogues: Vec<_> = catalogues.into_iter().map(SourceName::title).collect();
        let shown: Vec<_> = awaited.iter().take(SHOWN).map(|name| name.as_str()).collect();
        let more = if awaited.len() > SHOWN {
            format!(" and {} more", awaited.len() - SHOWN)
        } else {
            String::new()
        };
        Some(format!(
            "what {} says of services that are in force: {}{more}",
            catalogues.join(" and "),
            shown.join(", ")
        ))
    }

    /// What must be listed before anything else counts, in words.
    fn awaits_listings(&self) -> Option<String> {
        if !self.sources.all_listed() {
            let starting = self.sources.iter().filter(|(_, health)| health.state == SourceState::Starting);
            let starting: Vec<_> = starting.map(|(name, _)| name.title()).collect();
            return Some(format!("the first full listing of {}", starting.join(" and ")));
        }
        // Without the bridge ports no container has an address of its own: all that is in force would be taken away. Nor without
        // the rules that are in force: a listener that one of them leads to could be taken away.
        (!self.planner.knows_ports() || !self.inventories.contains(&AgentName::NetfilterAgent))
            .then(|| "the bridge ports and what is in force, from the netfilter-agent".to_owned())
    }

    /// Nobody should have to guess why nothing changes.
    fn say_what_is_awaited(&mut self, now: Instant) {
        if self.push.is_open() || now.saturating_duration_since(self.started) < LONG_WAIT {
            return;
        }
        let awaited = self.waits_for();
        if awaited != self.said
            && let Some(what) = &awaited
        {
            warn!("nothing is pushed yet, and what is in force stays: control waits for {what}");
        }
        self.said = awaited;
    }

    /// The first-sync gate: an empty world is pushed only when it was truly seen.
    fn open_when_listed(&mut self, now: Instant) {
        if self.awaits_listings().is_some() {
            return;
        }
        let listed = *self.listed.get_or_insert(now);
        let unanswered = self.planner.unanswered(&self.catalogues());
        let has_waited = now.saturating_duration_since(listed) >= ANSWER_WAIT;
        if !has_waited && (self.planner.has_unproven() || self.awaits_tenants()) {
            return;
        }
        if unanswered.iter().any(|name| !has_waited || self.in_force_before.contains(*name)) {
            return;
        }
        let unanswered: Vec<&str> = unanswered.into_iter().map(ServiceName::as_str).collect();
        if !unanswered.is_empty() {
            warn!(
                services = unanswered.join(","),
                "not everything is known of these services: they begin with the endpoints that are"
            );
        }
        info!("every source has been listed in full: the agents are told from now on");
        self.planner.release_unused();
        self.in_force_before.clear();
        self.push.open();
    }
}

#[cfg(test)]
mod tests;
