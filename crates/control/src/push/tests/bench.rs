//! Three agents that put in force whatever they are told, when the test lets them, and watch the order.

use std::collections::{BTreeSet, VecDeque};

use super::{super::*, *};

#[derive(Default)]
pub(super) struct FakeAgent {
    pub(super) connected: bool,
    pub(super) in_force: BTreeMap<ResourceId, Resource>,
    pub(super) arrived: VecDeque<v1::SyncRequest>,
    pub(super) draining: bool,
    /// It was told that nothing new leads to it, and has closed its sockets.
    pub(super) relieved: bool,
    named: Option<BTreeSet<ResourceId>>,
    unacknowledged: Option<u64>,
}

impl FakeAgent {
    fn listens(&self, port: &ServicePort) -> bool {
        let address = |resource: &Resource| match resource {
            Resource::Listener(listener) => Some(listener.address),
            _ => None,
        };
        port.listener.is_none()
            || (!self.relieved && self.in_force.values().any(|resource| address(resource) == port.listener))
    }

    /// The rules that are in force or on their way.
    fn ports(&self) -> impl Iterator<Item = ServicePort> {
        let on_their_way = self.arrived.iter().filter_map(|request| match request.message.clone() {
            Some(Message::Upsert(wire)) => Resource::try_from(wire).ok(),
            _ => None,
        });
        self.in_force.values().cloned().chain(on_their_way).filter_map(|resource| match resource {
            Resource::ServicePort(port) => Some(port),
            _ => None,
        })
    }
}

pub(super) struct Bench {
    pub(super) push: Push,
    pub(super) now: Instant,
    begun: Instant,
    pub(super) proxy: FakeAgent,
    pub(super) netfilter: FakeAgent,
    pub(super) dns: FakeAgent,
    /// Whether a Takeover was the last that the netfilter-agent was told of it.
    takeover_sent: bool,
    /// Whether this life of control knows what rules there are.
    knows_rules: bool,
    /// What rules are desired with.
    requires: BTreeMap<ResourceId, Vec<ResourceId>>,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with_takeover(true)
    }

    pub(super) fn with_takeover(takeover: bool) -> Self {
        let now = Instant::now();
        let mut push = Push::new(takeover, now);
        push.open();
        Self {
            push,
            now,
            begun: now,
            proxy: FakeAgent::default(),
            netfilter: FakeAgent::default(),
            dns: FakeAgent::default(),
            takeover_sent: false,
            knows_rules: true,
            requires: BTreeMap::new(),
        }
    }

    /// control is killed and starts anew; it desires nothing yet.
    pub(super) fn restart_control(&mut self) {
        AGENTS.into_iter().for_each(|agent| self.agent(agent).connected = false);
        self.push = Push::new(true, self.now);
        self.knows_rules = false;
    }

    pub(super) fn agent(&mut self, agent: AgentName) -> &mut FakeAgent {
        match agent {
            Proxy => &mut self.proxy,
            NetfilterAgent => &mut self.netfilter,
            Dns | DnsA | DnsB => &mut self.dns,
        }
    }

    pub(super) fn connect(&mut self, agent: AgentName) {
        let now = self.now;
        let fake = self.agent(agent);
        fake.connected = true;
        fake.named = None;
        fake.arrived.clear();
        fake.unacknowledged = None;
        let inventory = fake.in_force.values().cloned().collect();
        let draining = fake.draining;
        if agent == NetfilterAgent {
            self.takeover_sent = self.is_taken_over();
            self.knows_rules = true;
        }
        self.push.connected(agent, inventory, now);
        // As the core does it: not before the rules are known.
        if self.knows_rules {
            self.push.open();
        }
        if draining {
            self.push.draining(agent);
        }
    }

    /// The stream ends.
    pub(super) fn cut_off(&mut self, agent: AgentName) {
        let now = self.now;
        self.agent(agent).connected = false;
        self.push.disconnected(agent, "cut off".into(), now);
    }

    pub(super) fn kill(&mut self, agent: AgentName) {
        self.cut_off(agent);
        // A process that dies takes its sockets with it; the kernel's rules stay.
        if agent != NetfilterAgent {
            *self.agent(agent) = FakeAgent::default();
        }
    }

    /// The proxy is told to stop.
    pub(super) fn drain(&mut self) {
        self.proxy.draining = true;
        if self.proxy.connected {
            self.push.draining(Proxy);
        }
    }

    pub(super) fn is_taken_over(&self) -> bool {
        self.netfilter.in_force.contains_key(&takeover::id())
    }

    pub(super) fn send(&mut self, agent: AgentName) {
        let requests = self.push.outgoing(agent, self.now);
        assert!(self.agent(agent).connected || requests.is_empty(), "sent to nobody");
        let named: BTreeSet<_> = kinds(&requests).into_iter().collect();
        for request in requests {
            match (agent, request.message.clone().unwrap()) {
                (NetfilterAgent, Message::Upsert(wire)) => {
                    self.check_rule(&Resource::try_from(wire).unwrap())
                }
                (Dns, Message::Upsert(wire)) => self.check_name(&Resource::try_from(wire).unwrap()),
                (NetfilterAgent, Message::Remove(id)) if id == takeover::id().as_str() => {
                    self.check_hand_back()
                }
                (NetfilterAgent, Message::SnapshotEnd(_))
                    if self.is_taken_over() && !named.contains(takeover::id().as_str()) =>
                {
                    self.check_hand_back();
                }
                (Proxy, Message::Relieved(_)) => {
                    assert!(self.proxy.draining, "relieved without asking");
                    assert!(
                        self.is_taken_over() && self.takeover_sent,
                        "relieved, and all still leads to it"
                    );
                }
                _ => {}
            }
            self.agent(agent).arrived.push_back(request);
        }
    }

    /// Make before break: a rule that is sent leads to a listener, or nothing takes the way to the proxy.
    fn check_rule(&mut self, resource: &Resource) {
        let id = resource.id();
        let is_taken_over = self.is_taken_over() && self.takeover_sent;
        match resource {
            Resource::Takeover(_) => self.takeover_sent = true,
            Resource::ServicePort(port) => {
                let mut known = self.netfilter.ports().filter(|known| known.id() == id);
                let is_known = known.any(|known| known.listener == port.listener);
                assert!(is_known || is_taken_over || self.proxy.listens(port), "{id} leads nowhere");
            }
            Resource::Grant(_) => {
                let is_known = self.netfilter.in_force.contains_key(&id);
                let mut requires = self.requires[&id].iter();
                let is_led = requires.all(|required| self.proxy.in_force.contains_key(required));
                assert!(is_known || is_taken_over || is_led, "{id} before its client");
            }
            _ => {}
        }
    }

    /// Make before break: what dns is told of stands on rules in force.
    fn check_name(&mut self, resource: &Resource) {
        let id = resource.id();
        if self.dns.in_force.get(&id) == Some(resource) {
            return;
        }
        let is_overdue = self.now - self.begun >= hold::LONGEST;
        for required in self.requires[&id].iter().take(if is_overdue { 1 } else { usize::MAX }) {
            assert!(self.netfilter.in_force.contains_key(required), "{id} before {required}");
        }
    }

    /// Make before break: all rules lead to a listener when the kernel hands back.
    fn check_hand_back(&mut self) {
        self.takeover_sent = false;
        assert!(self.proxy.connected && !self.proxy.draining, "handed back to nobody");
        for port in self.netfilter.ports() {
            assert!(self.proxy.listens(&port), "handed back, and {port:?} leads nowhere");
        }
    }

    /// The agent settles one request.
    pub(super) fn step(&mut self, agent: AgentName) {
        if !self.agent(agent).connected {
            return;
        }
        let Some(request) = self.agent(agent).arrived.pop_front() else { return };
        match request.message.unwrap() {
            Message::SnapshotBegin(_) => self.agent(agent).named = Some(BTreeSet::new()),
            Message::Upsert(wire) => {
                let resource = Resource::try_from(wire).unwrap();
                let fake = self.agent(agent);
                fake.named.iter_mut().for_each(|named| {
                    named.insert(resource.id());
                });
                fake.in_force.insert(resource.id(), resource);
            }
            Message::Remove(id) => {
                let id = ResourceId::new(&id);
                self.check_removal(agent, &id);
                self.agent(agent).in_force.remove(&id);
            }
            Message::SnapshotEnd(_) => {
                let fake = self.agent(agent);
                let named = fake.named.take().unwrap();
                let gone: Vec<_> = fake.in_force.keys().filter(|id| !named.contains(*id)).cloned().collect();
                for id in gone {
                    self.check_removal(agent, &id);
                    self.agent(agent).in_force.remove(&id);
                }
            }
            Message::Relieved(_) => self.agent(agent).relieved = true,
        }
        self.agent(agent).unacknowledged = Some(request.version);
    }

    pub(super) fn acknowledge(&mut self, agent: AgentName) {
        if let Some(version) = self.agent(agent).unacknowledged.take() {
            self.push.acknowledged(agent, version);
        }
    }

    /// Make before break: no rule leads to a listener that goes, unless nothing takes the way to the proxy.
    fn check_removal(&mut self, agent: AgentName, id: &ResourceId) {
        if agent == Proxy
            && self.knows_rules
            && !(self.is_taken_over() && self.takeover_sent)
            && let Some(Resource::Listener(listener)) = self.proxy.in_force.get(id)
        {
            let mut rules = self.netfilter.in_force.values().filter_map(|resource| match resource {
                Resource::ServicePort(port) => Some(port),
                _ => None,
            });
            assert!(!rules.any(|port| port.listener == Some(listener.address)), "{id} went before its rule");
        }
    }

    pub(super) fn desire(&mut self, resource: Resource, requires: Vec<ResourceId>) {
        let agent = AgentName::of(&resource);
        self.requires.insert(resource.id(), requires.clone());
        let planned = Planned { resource: Arc::new(resource.clone()), requires };
        self.push.desire(agent, resource.id(), Some(planned));
    }

    pub(super) fn desire_all(&mut self, resources: Vec<(Resource, Vec<ResourceId>)>) {
        resources.into_iter().for_each(|(resource, requires)| self.desire(resource, requires));
    }

    /// One agent does all that it can.
    pub(super) fn settle_one(&mut self, agent: AgentName) {
        for _ in 0..50 {
            self.send(agent);
            self.step(agent);
            self.acknowledge(agent);
        }
    }

    /// All agents are there and do all that they can.
    pub(super) fn settle(&mut self) {
        for agent in AGENTS {
            if !self.agent(agent).connected {
                self.connect(agent);
            }
        }
        for _ in 0..200 {
            for agent in AGENTS {
                self.send(agent);
                self.step(agent);
                self.acknowledge(agent);
            }
        }
    }

    /// What is in force on all.
    pub(super) fn in_force(&self) -> BTreeMap<ResourceId, Resource> {
        let agents = [&self.proxy, &self.netfilter, &self.dns];
        agents.into_iter().flat_map(|agent| agent.in_force.clone()).collect()
    }
}
