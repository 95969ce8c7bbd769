//! From desired state to the agents: make before break.
//!
//! [`Push`] decides what may be sent when, without a socket; [`session`] carries it. The order:
//! * a rule of the netfilter-agent is sent when everything that it requires is in force on the proxy;
//! * a workload that the netfilter-agent doesn't know is sent together with its grants (see [`hold`]);
//! * a listener of the proxy is removed when no rule that requires it is in force any more;
//! * a client of the proxy is removed at once: its right is gone, and its connections shall be cut;
//! * what the netfilter-agent had in force already when it connected is never held back;
//! * dns is told of a workload's names when the netfilter-agent has decided on what they stand on (see [`names`]), and at
//!   once of those that are gone, or were somebody else's;
//! * while the kernel has taken over (see [`takeover`]) nothing leads to the proxy, and no rule waits for it.

mod agent_state;
mod hold;
mod names;
pub mod session;
mod takeover;

pub use agent_state::{Condition, Link, Settled};

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Instant,
};

use agent_state::{AgentState, Leave};
use hold::Holds;
use names::Names;
use steppe_api::v1;
use steppe_model::{ListenerKey, Resource, ResourceId};
use takeover::Takeover;

use crate::{agent::AgentName, multimap::MultiMap, plan::Planned};

/// What the agents should have, what they have, and what is on its way.
#[derive(Debug)]
pub struct Push {
    proxy: AgentState,
    netfilter: AgentState,
    /// In the order of [`AgentName::DNS`].
    dns: [AgentState; 3],
    /// Rules by the proxy's resources that they require, and that are desired.
    dependents: MultiMap<ResourceId, ResourceId>,
    /// For rules that are sent: the proxy's resources that they lead to.
    leads_to: HashMap<ResourceId, Vec<ResourceId>>,
    /// The inverse of `leads_to`.
    led_to_by: MultiMap<ResourceId, ResourceId>,
    holds: Holds,
    names: Names,
    takeover: Takeover,
    /// Which one the rules that wait were looked at with.
    last_way: Way,
    /// Whether snapshots may be sent: before that nothing is.
    open: bool,
}

impl Push {
    /// Nothing is desired and no agent is connected. `takeover`: whether the kernel carries new connections while the proxy
    /// is away.
    #[must_use]
    pub fn new(takeover: bool, now: Instant) -> Self {
        Self {
            proxy: AgentState::new(now),
            netfilter: AgentState::new(now),
            dns: std::array::from_fn(|_| AgentState::new(now)),
            dependents: MultiMap::default(),
            leads_to: HashMap::new(),
            led_to_by: MultiMap::default(),
            holds: Holds::default(),
            names: Names::default(),
            takeover: Takeover::new(takeover),
            last_way: Way::Shut,
            open: false,
        }
    }

    /// How an agent is doing.
    #[must_use]
    pub fn state(&self, agent: AgentName) -> &AgentState {
        match agent {
            AgentName::Proxy => &self.proxy,
            AgentName::NetfilterAgent => &self.netfilter,
            AgentName::Dns | AgentName::DnsA | AgentName::DnsB => &self.dns[place(agent)],
        }
    }

    fn state_mut(&mut self, agent: AgentName) -> &mut AgentState {
        match agent {
            AgentName::Proxy => &mut self.proxy,
            AgentName::NetfilterAgent => &mut self.netfilter,
            AgentName::Dns | AgentName::DnsA | AgentName::DnsB => &mut self.dns[place(agent)],
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

    /// Takes in what changed in the plan. What is for one that answers for names is for all of them.
    pub fn desire(&mut self, agent: AgentName, id: ResourceId, planned: Option<Planned>) {
        match agent {
            AgentName::Proxy => self.proxy.desire(id, planned),
            AgentName::NetfilterAgent => self.desire_rule(id, planned),
            AgentName::Dns | AgentName::DnsA | AgentName::DnsB => {
                self.names.desire(&id, self.dns[0].desired(&id), planned.as_ref());
                self.dns.iter_mut().for_each(|dns| dns.desire(id.clone(), planned.clone()));
            }
        }
    }

    fn desire_rule(&mut self, id: ResourceId, planned: Option<Planned>) {
        let old = self.netfilter.desired(&id);
        let new = planned.as_ref().map(|planned| &*planned.resource);
        self.holds.desire(&id, old.map(|old| &*old.resource), new);
        for required in old.into_iter().flat_map(|old| &old.requires) {
            self.dependents.remove(required, &id);
        }
        for required in planned.iter().flat_map(|planned| &planned.requires) {
            self.dependents.insert(required.clone(), id.clone());
        }
        self.netfilter.desire(id, planned);
    }

    /// An agent is connected and told what it has in force.
    pub fn connected(&mut self, agent: AgentName, inventory: Vec<Resource>, now: Instant) {
        if agent == AgentName::NetfilterAgent {
            self.holds.connected();
            for resource in &inventory {
                self.adopt(resource);
            }
            // It may let somebody in whose address dns has as another's.
            let names: Vec<_> = self.names.all().cloned().collect();
            self.dns.iter_mut().for_each(|dns| dns.look_again(names.iter().cloned()));
        }
        self.state_mut(agent).connected(inventory, now);
    }

    /// A rule of an earlier life of control leads to a listener all the same.
    fn adopt(&mut self, resource: &Resource) {
        let rule = match resource {
            Resource::Takeover(_) => {
                self.takeover.adopt();
                return self.desire_takeover();
            }
            Resource::ServicePort(rule) if rule.listener.is_some() => rule,
            _ => return,
        };
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
        // At once: it may be back before anything is sent again, and empty.
        if self.open {
            self.review_takeover();
        }
    }

    /// An agent is about to stop. It goes on until it is relieved.
    pub fn draining(&mut self, agent: AgentName) {
        self.state_mut(agent).drains();
    }

    /// An agent settled everything up to `version`.
    pub fn acknowledged(&mut self, agent: AgentName, version: u64) {
        for settled in self.state_mut(agent).acknowledged(version) {
            match (agent, settled) {
                (AgentName::Proxy, Settled::InForce(id) | Settled::Rejected(id)) => {
                    self.netfilter.look_again(self.dependents.get(&id).cloned());
                }
                (AgentName::NetfilterAgent, Settled::Gone(id)) => self.leads_nowhere(&id),
                (AgentName::NetfilterAgent, Settled::InForce(id) | Settled::Rejected(id)) => {
                    let named: Vec<_> = self.names.dependents(&id).cloned().collect();
                    self.dns.iter_mut().for_each(|dns| dns.look_again(named.iter().cloned()));
                }
                (AgentName::Proxy, Settled::Gone(_))
                | (AgentName::Dns | AgentName::DnsA | AgentName::DnsB, _) => {}
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
        self.review_takeover();
        match agent {
            AgentName::Proxy => {
                // What drains takes nothing new; its successor will.
                let is_draining = self.proxy.is_draining();
                let leave = |planned: &Planned| {
                    Leave::when(!is_draining || !matches!(*planned.resource, Resource::Listener(_)))
                };
                let led_to_by = &self.led_to_by;
                let may_remove = |id: &ResourceId, resource: Option<&Resource>| {
                    matches!(resource, Some(Resource::Client(_))) || !led_to_by.contains_key(id)
                };
                let mut requests = self.proxy.outgoing(now, leave, may_remove);
                self.proxy.take_dropped();
                if self.netfilter.is_up() && self.is_taken_over() {
                    requests.extend(self.proxy.relieve(now));
                }
                requests
            }
            AgentName::NetfilterAgent => {
                self.forget_dropped();
                self.review_holds(now);
                let way = self.way();
                if way != self.last_way {
                    self.last_way = way;
                    self.netfilter.look_again(self.dependents.values().cloned());
                }
                let (proxy, holds) = (&self.proxy, &self.holds);
                let leave = |planned: &Planned| {
                    let is_led =
                        || planned.requires.is_empty() || way.is_open(|| takeover::is_led(proxy, planned));
                    Leave::when(!holds.holds(&planned.resource) && is_led())
                };
                let requests = self.netfilter.outgoing(now, leave, |_, _| true);
                for request in &requests {
                    if let Some(v1::sync_request::Message::Upsert(resource)) = &request.message {
                        let id = ResourceId::new(&resource.id);
                        self.leads_to_what_it_requires(&id);
                    }
                }
                self.forget_dropped();
                requests
            }
            AgentName::Dns | AgentName::DnsA | AgentName::DnsB => {
                let overdue = self.names.review(now);
                self.dns.iter_mut().for_each(|dns| dns.look_again(overdue.iter().cloned()));
                let (names, netfilter, dns) = (&self.names, &self.netfilter, &mut self.dns[place(agent)]);
                let mut requests = dns.outgoing(now, |planned| names.leave(planned, netfilter), |_, _| true);
                dns.take_dropped();
                // Nothing leads to it that could be led elsewhere: who asks it asks the other, or again.
                requests.extend(dns.relieve(now));
                requests
            }
        }
    }

    /// Takes over, or hands back, as the proxy goes or has come.
    fn review_takeover(&mut self) {
        let (proxy, netfilter, leads_to) = (&self.proxy, &self.netfilter, &self.leads_to);
        // What a rule requires may have changed without the rule. One that is not desired any more is on its way out.
        let is_settled = |(rule, led_to): (&ResourceId, &Vec<ResourceId>)| {
            let requires = netfilter.desired(rule).map_or(led_to, |planned| &planned.requires);
            requires.iter().all(|required| proxy.is_settled(required))
        };
        if self.takeover.review(proxy, || leads_to.iter().all(is_settled)) {
            self.desire_takeover();
        }
    }

    fn desire_takeover(&mut self) {
        let planned = Planned { resource: Arc::new(takeover::resource()), requires: Vec::new() };
        self.netfilter.desire(takeover::id(), self.takeover.is_wanted().then_some(planned));
        self.netfilter.look_first(takeover::id());
    }

    /// Whether new connections take the kernel path.
    #[must_use]
    pub fn is_taken_over(&self) -> bool {
        self.takeover.is_wanted() && self.netfilter.is_in_force(&takeover::id())
    }

    /// Whether rules that lead to the proxy may be sent.
    fn way(&self) -> Way {
        let is_there = self.proxy.is_up() && !self.proxy.is_draining();
        match self.proxy.link().0 {
            // From now on they wait for it, so that it can be handed back to.
            Link::Live if is_there => Way::Led,
            _ if self.is_taken_over() => Way::Open,
            _ if is_there => Way::Led,
            _ => Way::Shut,
        }
    }

    /// Lets workloads go that need not wait any more: each comes before its grants.
    fn review_holds(&mut self, now: Instant) {
        let (proxy, netfilter) = (&self.proxy, &self.netfilter);
        let is_new =
            |id: &ResourceId| netfilter.is_desired(id) && netfilter.condition(id) == Condition::Waiting;
        let way = self.way();
        let is_ready = |id: &ResourceId| {
            let required = netfilter.desired(id).map_or(&[][..], |planned| planned.requires.as_slice());
            required.is_empty() || way.is_open(|| required.iter().all(|id| proxy.is_settled(id)))
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

    /// Whose resource something still waits for, and which: a rule for the proxy's, a name for the netfilter-agent's.
    #[must_use]
    pub fn waits_for(&self, agent: AgentName, id: &ResourceId) -> Option<(AgentName, &ResourceId)> {
        let other = match agent {
            AgentName::Proxy => return None,
            AgentName::NetfilterAgent if self.way() == Way::Open => return None,
            AgentName::NetfilterAgent => AgentName::Proxy,
            AgentName::Dns | AgentName::DnsA | AgentName::DnsB => AgentName::NetfilterAgent,
        };
        let mut required = self.state(agent).desired(id)?.requires.iter();
        required.find(|required| !self.state(other).is_in_force(required)).map(|required| (other, required))
    }

    /// Resources that agents rejected, with the reason.
    #[must_use]
    pub fn rejections(&self, agent: AgentName) -> &BTreeMap<ResourceId, String> {
        self.state(agent).rejections()
    }
}

/// The place of one that answers for names among them.
fn place(agent: AgentName) -> usize {
    AgentName::DNS.iter().position(|dns| *dns == agent).unwrap_or_default()
}

/// Whether rules that lead to the proxy may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Each when what it requires is in force.
    Led,
    /// All: nothing takes the way to the proxy.
    Open,
    /// None: there is nobody to lead to.
    Shut,
}

impl Way {
    fn is_open(self, is_led: impl FnOnce() -> bool) -> bool {
        match self {
            Self::Led => is_led(),
            Self::Open => true,
            Self::Shut => false,
        }
    }
}

#[cfg(test)]
mod tests;
