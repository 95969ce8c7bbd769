//! From desired state to the agents: make before break.
//!
//! [`Push`] decides what may be sent when, without a socket; [`session`] carries it. The order:
//! * a rule of the netfilter-agent is sent when everything that it requires is in force on the proxy;
//! * a workload that the netfilter-agent doesn't know is sent together with its grants (see [`hold`]);
//! * a listener of the proxy is removed when no rule that requires it is in force any more;
//! * a client of the proxy is removed at once: its right is gone, and its connections shall be cut;
//! * what the netfilter-agent had in force already when it connected is never held back.

mod agent_state;
mod hold;
pub mod session;

pub use agent_state::{Condition, Link, Settled};

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use agent_state::AgentState;
use hold::Holds;
use steppe_api::v1;
use steppe_model::{ListenerKey, Resource, ResourceId};

use crate::{agent::AgentName, multimap::MultiMap, plan::Planned};

/// What the agents should have, what they have, and what is on its way.
#[derive(Debug)]
pub struct Push {
    proxy: AgentState,
    netfilter: AgentState,
    /// Rules by the proxy's resources that they require, and that are desired.
    dependents: MultiMap<ResourceId, ResourceId>,
    /// For rules that are sent: the proxy's resources that they lead to.
    leads_to: HashMap<ResourceId, Vec<ResourceId>>,
    /// The inverse of `leads_to`.
    led_to_by: MultiMap<ResourceId, ResourceId>,
    holds: Holds,
    /// Whether snapshots may be sent: before that nothing is.
    open: bool,
}

impl Push {
    /// Nothing is desired and no agent is connected.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            proxy: AgentState::new(now),
            netfilter: AgentState::new(now),
            dependents: MultiMap::default(),
            leads_to: HashMap::new(),
            led_to_by: MultiMap::default(),
            holds: Holds::default(),
            open: false,
        }
    }

    /// How an agent is doing.
    #[must_use]
    pub fn state(&self, agent: AgentName) -> &AgentState {
        match agent {
            AgentName::Proxy => &self.proxy,
            AgentName::NetfilterAgent => &self.netfilter,
        }
    }

    fn state_mut(&mut self, agent: AgentName) -> &mut AgentState {
        match agent {
            AgentName::Proxy => &mut self.proxy,
            AgentName::NetfilterAgent => &mut self.netfilter,
        }
    }

    /// Every source has been listed in full: from now on the agents are told.
    pub fn open(&mut self) {
        self.open = true;
    }

    /// Whether [`Push::open`] was called.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Takes in what changed in the plan.
    pub fn desire(&mut self, agent: AgentName, id: ResourceId, planned: Option<Planned>) {
        if agent == AgentName::NetfilterAgent {
            let old = self.netfilter.desired(&id);
            let new = planned.as_ref().map(|planned| &*planned.resource);
            self.holds.desire(&id, old.map(|old| &*old.resource), new);
            for required in old.into_iter().flat_map(|old| &old.requires) {
                self.dependents.remove(required, &id);
            }
            for required in planned.iter().flat_map(|planned| &planned.requires) {
                self.dependents.insert(required.clone(), id.clone());
            }
        }
        self.state_mut(agent).desire(id, planned);
    }

    /// An agent is connected and told what it has in force.
    pub fn connected(&mut self, agent: AgentName, inventory: Vec<Resource>, now: Instant) {
        if agent == AgentName::NetfilterAgent {
            self.holds.connected();
            for resource in &inventory {
                self.adopt_lead(resource);
            }
        }
        self.state_mut(agent).connected(inventory, now);
    }

    /// A rule of an earlier life of control leads to a listener all the same.
    fn adopt_lead(&mut self, resource: &Resource) {
        let Resource::ServicePort(rule) = resource else { return };
        let id = rule.id();
        if !self.leads_to.contains_key(&id) {
            let key = ListenerKey { service: rule.service.clone(), port: rule.port };
            let listener = ResourceId::new(&key.to_string());
            self.led_to_by.insert(listener.clone(), id.clone());
            self.leads_to.insert(id, vec![listener]);
        }
    }

    /// An agent's stream ended.
    pub fn disconnected(&mut self, agent: AgentName, why: String, now: Instant) {
        self.state_mut(agent).disconnected(why, now);
    }

    /// An agent settled everything up to `version`.
    pub fn acknowledged(&mut self, agent: AgentName, version: u64) {
        for settled in self.state_mut(agent).acknowledged(version) {
            match (agent, settled) {
                (AgentName::Proxy, Settled::InForce(id)) => {
                    self.netfilter.look_again(self.dependents.get(&id).cloned());
                }
                (AgentName::NetfilterAgent, Settled::Gone(id)) => self.leads_nowhere(&id),
                (AgentName::Proxy, Settled::Gone(_)) | (AgentName::NetfilterAgent, Settled::InForce(_)) => {}
            }
        }
    }

    /// An agent could not put a resource in force that a request up to `version` carried. Tells whether that is news.
    pub fn rejected(&mut self, agent: AgentName, version: u64, id: &ResourceId, reason: &str) -> bool {
        self.state_mut(agent).rejected(version, id, reason)
    }

    /// Tries again what was rejected: the reason may have passed.
    pub fn retry_rejected(&mut self) {
        for agent in AgentName::ALL {
            self.state_mut(agent).retry_rejected();
        }
    }

    /// What to send to an agent now, in order.
    pub fn outgoing(&mut self, agent: AgentName, now: Instant) -> Vec<v1::SyncRequest> {
        if !self.open {
            return Vec::new();
        }
        match agent {
            AgentName::Proxy => {
                let led_to_by = &self.led_to_by;
                let may_remove = |id: &ResourceId, resource: Option<&Resource>| {
                    matches!(resource, Some(Resource::Client(_))) || !led_to_by.contains_key(id)
                };
                let requests = self.proxy.outgoing(now, |_| true, may_remove);
                self.proxy.take_dropped();
                requests
            }
            AgentName::NetfilterAgent => {
                self.forget_dropped();
                self.review_holds(now);
                let (proxy, holds) = (&self.proxy, &self.holds);
                let may_send = |planned: &Planned| {
                    !holds.holds(&planned.resource)
                        && planned.requires.iter().all(|required| proxy.is_in_force(required))
                };
                let requests = self.netfilter.outgoing(now, may_send, |_, _| true);
                for request in &requests {
                    if let Some(v1::sync_request::Message::Upsert(resource)) = &request.message {
                        let id = ResourceId::new(&resource.id);
                        self.leads_to_what_it_requires(&id);
                    }
                }
                self.forget_dropped();
                requests
            }
        }
    }

    /// Lets workloads go that need not wait any more: each comes before its grants.
    fn review_holds(&mut self, now: Instant) {
        let (proxy, netfilter) = (&self.proxy, &self.netfilter);
        let is_new =
            |id: &ResourceId| netfilter.is_desired(id) && netfilter.condition(id) == Condition::Waiting;
        // What the proxy rejects keeps the others from nothing.
        let is_ready = |id: &ResourceId| {
            let required = netfilter.desired(id).into_iter().flat_map(|planned| &planned.requires);
            required
                .into_iter()
                .all(|id| proxy.is_in_force(id) || matches!(proxy.condition(id), Condition::Rejected(_)))
        };
        for workload in self.holds.review(now, is_new, is_ready) {
            self.netfilter.look_again(self.holds.grants(&workload).cloned());
            self.netfilter.look_first(workload);
        }
    }

    fn forget_dropped(&mut self) {
        for id in self.netfilter.take_dropped() {
            self.leads_nowhere(&id);
        }
    }

    fn leads_to_what_it_requires(&mut self, id: &ResourceId) {
        self.unlink_leads(id);
        let Some(planned) = self.netfilter.desired(id) else { return };
        if planned.requires.is_empty() {
            return;
        }
        for required in &planned.requires {
            self.led_to_by.insert(required.clone(), id.clone());
        }
        self.leads_to.insert(id.clone(), planned.requires.clone());
    }

    fn leads_nowhere(&mut self, id: &ResourceId) {
        let freed = self.unlink_leads(id);
        self.proxy.look_again(freed);
    }

    fn unlink_leads(&mut self, id: &ResourceId) -> Vec<ResourceId> {
        let led_to = self.leads_to.remove(id).unwrap_or_default();
        for required in &led_to {
            self.led_to_by.remove(required, id);
        }
        led_to
    }

    /// What a rule still waits for; empty when for nothing.
    #[must_use]
    pub fn waits_for(&self, id: &ResourceId) -> Vec<&ResourceId> {
        let required = self.netfilter.desired(id).map_or(&[][..], |planned| planned.requires.as_slice());
        required.iter().filter(|required| !self.proxy.is_in_force(required)).collect()
    }

    /// Resources that agents rejected, with the reason.
    #[must_use]
    pub fn rejections(&self, agent: AgentName) -> &BTreeMap<ResourceId, String> {
        self.state(agent).rejections()
    }
}

#[cfg(test)]
mod tests;
