use std::{collections::BTreeSet, sync::Arc};

use proptest::prelude::*;
use steppe_api::v1::sync_request::Message;
use steppe_model::{Client, Grant, Listener, ListenerKey, ServiceKey, ServicePort, VirtualPort, WorkloadId};

use super::*;
use crate::agent::AgentName::{NetfilterAgent, Proxy};

/// An agent that puts in force whatever it is told, when the test lets it.
#[derive(Default)]
struct FakeAgent {
    connected: bool,
    in_force: BTreeMap<ResourceId, Resource>,
    named: Option<BTreeSet<ResourceId>>,
    arrived: std::collections::VecDeque<v1::SyncRequest>,
    unacknowledged: Option<u64>,
}

struct Bench {
    push: Push,
    now: Instant,
    proxy: FakeAgent,
    netfilter: FakeAgent,
    /// What rules were sent with.
    requires: BTreeMap<ResourceId, Vec<ResourceId>>,
    proxy_restarts: bool,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::now();
        let mut push = Push::new(now);
        push.open();
        let (proxy, netfilter) = (FakeAgent::default(), FakeAgent::default());
        Self { push, now, proxy, netfilter, requires: BTreeMap::new(), proxy_restarts: false }
    }

    fn agent(&mut self, agent: AgentName) -> &mut FakeAgent {
        match agent {
            Proxy => &mut self.proxy,
            NetfilterAgent => &mut self.netfilter,
        }
    }

    fn connect(&mut self, agent: AgentName) {
        let now = self.now;
        let fake = self.agent(agent);
        fake.connected = true;
        fake.named = None;
        fake.arrived.clear();
        fake.unacknowledged = None;
        let inventory = fake.in_force.values().cloned().collect();
        self.push.connected(agent, inventory, now);
    }

    fn disconnect(&mut self, agent: AgentName) {
        let now = self.now;
        self.agent(agent).connected = false;
        // A process that dies takes its sockets with it; the kernel's rules stay.
        if agent == Proxy {
            self.proxy.in_force.clear();
            self.proxy_restarts = true;
        }
        self.push.disconnected(agent, "killed".into(), now);
    }

    fn send(&mut self, agent: AgentName) {
        let requests = self.push.outgoing(agent, self.now);
        let fake = self.agent(agent);
        assert!(fake.connected || requests.is_empty(), "sent to nobody");
        fake.arrived.extend(requests.clone());
        for request in requests {
            if let Some(Message::Upsert(wire)) = request.message {
                self.check_upsert(agent, &ResourceId::new(&wire.id));
            }
        }
    }

    /// The agent settles one request.
    fn step(&mut self, agent: AgentName) {
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
        }
        self.agent(agent).unacknowledged = Some(request.version);
    }

    fn acknowledge(&mut self, agent: AgentName) {
        if let Some(version) = self.agent(agent).unacknowledged.take() {
            self.push.acknowledged(agent, version);
        }
    }

    /// Make before break: what a new rule leads to is there when it is sent.
    fn check_upsert(&self, agent: AgentName, id: &ResourceId) {
        if agent == NetfilterAgent && !self.netfilter.in_force.contains_key(id) && !self.proxy_restarts {
            for required in self.requires.get(id).into_iter().flatten() {
                assert!(self.proxy.in_force.contains_key(required), "{id} before {required}");
            }
        }
    }

    /// Make before break: no rule leads to a listener that goes.
    fn check_removal(&mut self, agent: AgentName, id: &ResourceId) {
        let is_listener = matches!(self.proxy.in_force.get(id), Some(Resource::Listener(_)));
        if agent == Proxy && is_listener {
            let mut rules = self.netfilter.in_force.values().filter_map(|resource| match resource {
                Resource::ServicePort(port) => Some(port),
                _ => None,
            });
            let Some(Resource::Listener(listener)) = self.proxy.in_force.get(id) else { unreachable!() };
            assert!(!rules.any(|port| port.listener == Some(listener.address)), "{id} went before its rule");
        }
    }

    fn desire(&mut self, resource: Resource, requires: Vec<ResourceId>) {
        let agent = AgentName::of(&resource);
        self.requires.insert(resource.id(), requires.clone());
        let planned = Planned { resource: Arc::new(resource.clone()), requires };
        self.push.desire(agent, resource.id(), Some(planned));
    }

    fn settle(&mut self) {
        for agent in AgentName::ALL {
            if !self.agent(agent).connected {
                self.connect(agent);
            }
        }
        for _ in 0..200 {
            for agent in AgentName::ALL {
                self.send(agent);
                self.step(agent);
                self.acknowledge(agent);
            }
        }
    }
}

fn key(n: u8) -> ServiceKey {
    ServiceKey { user: None, name: format!("s{n}").parse().unwrap(), tag: None }
}

/// A service with its listener, rule, client and grant, as the planner makes them.
fn service(n: u8, weight: u8) -> Vec<(Resource, Vec<ResourceId>)> {
    let port = VirtualPort::new(steppe_model::Protocol::Tcp, 80);
    let endpoint =
        steppe_model::Endpoint { address: "10.0.0.1:1".parse().unwrap(), weight, node: "n".into() };
    let listener = Listener {
        key: ListenerKey { service: key(n), port },
        address: format!("169.254.77.54:1000{n}").parse().unwrap(),
        endpoints: vec![endpoint],
        routes: Vec::new(),
        proxy_protocol: false,
    };
    let vip = [247, 0, 0, n + 1].into();
    let client = Client { listener: listener.id(), ip: [172, 17, 0, 2].into() };
    let rule =
        ServicePort { service: key(n), vip, port, listener: Some(listener.address), endpoints: Vec::new() };
    let grant = Grant { workload: WorkloadId::new("w"), vip, port };
    let (needs_listener, needs_client) = (vec![client.id(), listener.id()], vec![client.id()]);
    vec![
        (Resource::Listener(listener), vec![]),
        (Resource::Client(client), vec![]),
        (Resource::ServicePort(rule), needs_listener),
        (Resource::Grant(grant), needs_client),
    ]
}

#[test]
fn nothing_is_sent_before_the_gate_opens() {
    let now = Instant::now();
    let mut push = Push::new(now);
    push.connected(Proxy, Vec::new(), now);
    assert!(push.outgoing(Proxy, now).is_empty());
    push.open();
    assert_eq!(push.outgoing(Proxy, now).len(), 2);
}

#[test]
fn a_rule_waits_for_the_proxy() {
    let mut bench = Bench::new();
    bench.connect(NetfilterAgent);
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    for _ in 0..10 {
        bench.send(NetfilterAgent);
        bench.step(NetfilterAgent);
        bench.acknowledge(NetfilterAgent);
    }
    assert!(bench.netfilter.in_force.is_empty());
    bench.settle();
    assert_eq!(bench.netfilter.in_force.len(), 2);
}

#[test]
fn a_proxy_that_starts_anew_disturbs_no_rule() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    bench.disconnect(Proxy);
    bench.send(NetfilterAgent);
    assert!(bench.netfilter.arrived.is_empty());
    bench.settle();
    assert_eq!(bench.proxy.in_force.len(), 2);
    assert_eq!(bench.netfilter.in_force.len(), 2);
}

#[test]
fn what_is_rejected_is_tried_again() {
    let mut bench = Bench::new();
    bench.connect(Proxy);
    let (listener, requires) = service(0, 1).swap_remove(0);
    let id = listener.id();
    bench.desire(listener, requires);
    bench.send(Proxy);
    bench.push.rejected(Proxy, 2, &id, "address in use");
    bench.push.acknowledged(Proxy, 3);
    assert_eq!(bench.push.state(Proxy).condition(&id), Condition::Rejected("address in use".into()));
    assert!(bench.push.outgoing(Proxy, bench.now).is_empty());
    bench.push.retry_rejected();
    assert_eq!(bench.push.outgoing(Proxy, bench.now).len(), 1);
    bench.push.acknowledged(Proxy, 4);
    assert_eq!(bench.push.state(Proxy).condition(&id), Condition::InForce);
}

/// The proxy rejects the listener, and acknowledges everything.
fn reject_listener(bench: &mut Bench, id: &ResourceId) -> bool {
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    let is_news = bench.push.rejected(Proxy, version, id, "no");
    bench.push.acknowledged(Proxy, version);
    is_news
}

#[test]
fn what_is_rejected_time_and_again_is_news_once() {
    let mut bench = Bench::new();
    bench.connect(Proxy);
    let (listener, requires) = service(0, 1).swap_remove(0);
    let id = listener.id();
    bench.desire(listener, requires);
    assert!(reject_listener(&mut bench, &id));
    bench.push.retry_rejected();
    assert!(!reject_listener(&mut bench, &id));
    assert_eq!(bench.push.rejections(Proxy).len(), 1);
}

#[test]
fn a_rejected_change_leaves_the_former_content_in_force() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().take(1).for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    let id = service(0, 1)[0].0.id();
    bench.desire(service(0, 2).swap_remove(0).0, vec![]);
    reject_listener(&mut bench, &id);
    // A rule that comes now has something to lead to.
    service(0, 2).into_iter().skip(1).for_each(|(resource, requires)| bench.desire(resource, requires));
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)).len(), 2);
}

#[test]
fn what_is_about_to_be_tried_again_can_be_removed() {
    let mut bench = Bench::new();
    bench.settle();
    let [listener, client, rule, _] = service(0, 1).try_into().unwrap();
    let rule_id = rule.0.id();
    let client_id = client.0.id();
    for (resource, requires) in [listener, client.clone(), rule.clone()] {
        bench.desire(resource, requires);
    }
    bench.settle();
    let Resource::ServicePort(mut changed) = rule.0.clone() else { unreachable!() };
    changed.listener = Some("169.254.77.54:19999".parse().unwrap());
    bench.desire(Resource::ServicePort(changed), rule.1);
    let version = bench.push.outgoing(NetfilterAgent, bench.now).last().unwrap().version;
    bench.push.rejected(NetfilterAgent, version, &rule_id, "no");
    bench.push.acknowledged(NetfilterAgent, version);
    // It can't be sent again now: what it requires is gone.
    bench.push.desire(Proxy, client_id, None);
    bench.push.outgoing(Proxy, bench.now);
    bench.push.retry_rejected();
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty());
    bench.push.desire(NetfilterAgent, rule_id.clone(), None);
    let requests = bench.push.outgoing(NetfilterAgent, bench.now);
    assert_eq!(requests[0].message, Some(Message::Remove(rule_id.to_string())));
}

#[test]
fn a_rejected_removal_is_tried_again() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    let id = service(0, 1)[3].0.id();
    bench.push.desire(NetfilterAgent, id.clone(), None);
    let version = bench.push.outgoing(NetfilterAgent, bench.now)[0].version;
    bench.push.rejected(NetfilterAgent, version, &id, "the kernel is busy");
    bench.push.acknowledged(NetfilterAgent, version);
    assert_eq!(bench.push.rejections(NetfilterAgent).len(), 1);
    bench.push.retry_rejected();
    let requests = bench.push.outgoing(NetfilterAgent, bench.now);
    assert_eq!(requests[0].message, Some(Message::Remove(id.to_string())));
    bench.push.acknowledged(NetfilterAgent, requests[0].version);
    assert!(bench.push.rejections(NetfilterAgent).is_empty());
}

#[test]
fn control_that_starts_anew_takes_no_listener_from_a_rule() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    // Nothing of it is desired by the next life of control.
    bench.push = Push::new(bench.now);
    bench.push.open();
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent));
    bench.settle();
    assert!(bench.proxy.in_force.is_empty() && bench.netfilter.in_force.is_empty());
}

#[test]
fn a_rule_stays_as_it_is_until_its_new_listener_is_there() {
    let mut bench = Bench::new();
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.settle();
    bench.push = Push::new(bench.now);
    bench.push.open();
    let mut moved = service(0, 1);
    for (resource, _) in &mut moved {
        let to = "169.254.77.54:19999".parse().unwrap();
        match resource {
            Resource::Listener(listener) => listener.address = to,
            Resource::ServicePort(rule) => rule.listener = Some(to),
            _ => {}
        }
    }
    let desired: BTreeMap<_, _> =
        moved.iter().map(|(resource, _)| (resource.id(), resource.clone())).collect();
    moved.into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    let before = bench.netfilter.in_force.clone();
    bench.disconnect(Proxy);
    bench.connect(NetfilterAgent);
    for _ in 0..10 {
        bench.send(NetfilterAgent);
        bench.step(NetfilterAgent);
        bench.acknowledge(NetfilterAgent);
    }
    assert_eq!(bench.netfilter.in_force, before);
    bench.settle();
    let in_force: BTreeMap<_, _> = bench.proxy.in_force.into_iter().chain(bench.netfilter.in_force).collect();
    assert_eq!(in_force, desired);
}

#[test]
fn an_agent_that_does_not_answer_is_not_told_without_end() {
    let mut bench = Bench::new();
    bench.connect(Proxy);
    bench.push.outgoing(Proxy, bench.now);
    let mut sent = 0;
    for n in 0..u32::try_from(agent_state::IN_FLIGHT).unwrap() + 10 {
        let weight = u8::try_from(n % 2).unwrap() + 1;
        bench.desire(service(0, weight).swap_remove(0).0, vec![]);
        sent += bench.push.outgoing(Proxy, bench.now).len();
    }
    assert!(sent < agent_state::IN_FLIGHT);
    bench.desire(service(0, 9).swap_remove(0).0, vec![]);
    bench.push.acknowledged(Proxy, u64::MAX);
    assert_eq!(bench.push.outgoing(Proxy, bench.now).len(), 1, "the last content alone");
}

fn workload() -> Resource {
    Resource::Workload(steppe_model::Workload {
        id: WorkloadId::new("w"),
        ip: [172, 17, 0, 2].into(),
        mac: "02:42:ac:11:00:02".parse().unwrap(),
        bridge: "docker0".into(),
        port_ifindex: 7,
        name: "w".into(),
        user: None,
    })
}

fn kinds(requests: &[v1::SyncRequest]) -> Vec<String> {
    let kind = |request: &v1::SyncRequest| match request.message.clone() {
        Some(Message::Upsert(wire)) => Some(Resource::try_from(wire).unwrap().id().to_string()),
        _ => None,
    };
    requests.iter().filter_map(kind).collect()
}

#[test]
fn a_new_workload_is_sent_with_its_grants_and_before_them() {
    let mut bench = Bench::new();
    bench.settle();
    let [listener, client, _, grant] = service(0, 1).try_into().unwrap();
    let grant_id = grant.0.id().to_string();
    bench.desire(workload(), vec![]);
    for (resource, requires) in [listener, client, grant] {
        bench.desire(resource, requires);
    }
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty(), "the proxy has no client yet");
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), ["w".to_owned(), grant_id]);
}

#[test]
fn a_workload_does_not_wait_for_what_never_comes() {
    let mut bench = Bench::new();
    bench.settle();
    bench.desire(workload(), vec![]);
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty());
    let later = bench.now + hold::LONGEST;
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, later)), ["w"]);
}

#[test]
fn a_workload_that_is_known_does_not_wait() {
    let mut bench = Bench::new();
    bench.desire(workload(), vec![]);
    bench.settle();
    service(0, 1).into_iter().for_each(|(resource, requires)| bench.desire(resource, requires));
    bench.disconnect(NetfilterAgent);
    bench.connect(NetfilterAgent);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), ["w"]);
}

#[derive(Debug, Clone)]
enum Event {
    Add(u8, u8),
    Remove(u8),
    Workload(bool),
    Send(bool),
    Step(bool),
    Acknowledge(bool),
    Connect(bool),
    Disconnect(bool),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..3u8, 1..3u8).prop_map(|(n, weight)| Event::Add(n, weight)),
        2 => (0..3u8).prop_map(Event::Remove),
        1 => any::<bool>().prop_map(Event::Workload),
        6 => any::<bool>().prop_map(Event::Send),
        9 => any::<bool>().prop_map(Event::Step),
        6 => any::<bool>().prop_map(Event::Acknowledge),
        2 => any::<bool>().prop_map(Event::Connect),
        1 => any::<bool>().prop_map(Event::Disconnect),
    ]
}

fn agent(proxy: bool) -> AgentName {
    if proxy { Proxy } else { NetfilterAgent }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Make before break at every step, and in the end what is desired is in force.
    #[test]
    fn it_converges(events in prop::collection::vec(any_event(), 0..80)) {
        let mut bench = Bench::new();
        let mut desired: BTreeMap<ResourceId, Resource> = BTreeMap::new();
        for event in events {
            match event {
                Event::Add(n, weight) => for (resource, requires) in service(n, weight) {
                    desired.insert(resource.id(), resource.clone());
                    bench.desire(resource, requires);
                },
                Event::Remove(n) => for (resource, _) in service(n, 1) {
                    desired.remove(&resource.id());
                    bench.push.desire(AgentName::of(&resource), resource.id(), None);
                },
                Event::Workload(true) => {
                    desired.insert(workload().id(), workload());
                    bench.desire(workload(), vec![]);
                }
                Event::Workload(false) => {
                    desired.remove(&workload().id());
                    bench.push.desire(NetfilterAgent, workload().id(), None);
                }
                Event::Send(proxy) => bench.send(agent(proxy)),
                Event::Step(proxy) => bench.step(agent(proxy)),
                Event::Acknowledge(proxy) => bench.acknowledge(agent(proxy)),
                Event::Connect(proxy) => if !bench.agent(agent(proxy)).connected { bench.connect(agent(proxy)) },
                Event::Disconnect(proxy) => if bench.agent(agent(proxy)).connected { bench.disconnect(agent(proxy)) },
            }
        }
        bench.settle();
        let in_force: BTreeMap<_, _> = bench.proxy.in_force.into_iter().chain(bench.netfilter.in_force).collect();
        prop_assert_eq!(in_force, desired);
    }
}
