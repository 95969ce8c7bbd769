//! Make before break, whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::*, *};

#[derive(Debug, Clone)]
enum Event {
    Add(u8, u8),
    Remove(u8),
    Workload(bool),
    Send(AgentName),
    Step(AgentName),
    Acknowledge(AgentName),
    Connect(AgentName),
    CutOff(AgentName),
    Kill(AgentName),
    DrainProxy,
    RestartControl,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3u8, 1..3u8).prop_map(|(n, weight)| Event::Add(n, weight)),
        4 => (0..3u8).prop_map(Event::Remove),
        2 => any::<bool>().prop_map(Event::Workload),
        18 => any_agent().prop_map(Event::Send),
        27 => any_agent().prop_map(Event::Step),
        18 => any_agent().prop_map(Event::Acknowledge),
        9 => any_agent().prop_map(Event::Connect),
        1 => any_agent().prop_map(Event::CutOff),
        2 => any_agent().prop_map(Event::Kill),
        1 => Just(Event::DrainProxy),
        1 => Just(Event::RestartControl),
    ]
}

fn any_agent() -> impl Strategy<Value = AgentName> {
    prop::sample::select(AGENTS.to_vec())
}

/// What is desired, and with what it is.
type Desired = BTreeMap<ResourceId, (Resource, Vec<ResourceId>)>;

/// The workload, if there is one, may name every service that it is granted.
fn name_all(bench: &mut Bench, desired: &mut Desired) {
    let is_granted = |n: &u8| service(*n, 1).iter().any(|(resource, _)| desired.contains_key(&resource.id()));
    let granted: Vec<u8> = (0..3).filter(is_granted).collect();
    let (asker, requires) = asker(&granted);
    if desired.contains_key(&workload().id()) {
        desired.insert(asker.id(), (asker.clone(), requires.clone()));
        bench.desire(asker, requires);
    } else if desired.remove(&asker.id()).is_some() {
        bench.push.desire(Dns, asker.id(), None);
    }
}

fn happens(bench: &mut Bench, desired: &mut Desired, event: Event) {
    match event {
        Event::Add(n, weight) => {
            for (resource, requires) in service(n, weight) {
                desired.insert(resource.id(), (resource.clone(), requires.clone()));
                bench.desire(resource, requires);
            }
            name_all(bench, desired);
        }
        Event::Remove(n) => {
            for (resource, _) in service(n, 1) {
                desired.remove(&resource.id());
                bench.push.desire(AgentName::of(&resource), resource.id(), None);
            }
            name_all(bench, desired);
        }
        Event::Workload(true) => {
            desired.insert(workload().id(), (workload(), vec![]));
            bench.desire(workload(), vec![]);
            name_all(bench, desired);
        }
        Event::Workload(false) => {
            desired.remove(&workload().id());
            bench.push.desire(NetfilterAgent, workload().id(), None);
            name_all(bench, desired);
        }
        Event::Send(agent) => bench.send(agent),
        Event::Step(agent) => bench.step(agent),
        Event::Acknowledge(agent) => bench.acknowledge(agent),
        Event::Connect(agent) => {
            if !bench.agent(agent).connected {
                bench.connect(agent);
            }
        }
        Event::CutOff(agent) => bench.cut_off(agent),
        Event::Kill(agent) => bench.kill(agent),
        Event::DrainProxy => bench.drain(),
        Event::RestartControl => {
            bench.restart_control();
            desired.values().cloned().for_each(|(resource, requires)| bench.desire(resource, requires));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// Make before break at every step; and in the end, when a proxy is there to stay, what is desired is in force, and the
    /// kernel has handed back.
    #[test]
    fn it_converges(events in prop::collection::vec(any_event(), 0..120)) {
        let mut bench = Bench::new();
        let mut desired = Desired::new();
        for event in events {
            happens(&mut bench, &mut desired, event);
        }
        if bench.proxy.draining {
            bench.kill(Proxy);
        }
        bench.settle();
        let desired: BTreeMap<_, _> = desired.into_iter().map(|(id, (resource, _))| (id, resource)).collect();
        prop_assert_eq!(bench.in_force(), desired);
    }

    /// Without a proxy that stays, new services and consumers work all the same.
    #[test]
    fn without_a_proxy_the_kernel_gets_everything(
        events in prop::collection::vec(any_event(), 0..120),
        drains in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        let mut desired = Desired::new();
        for event in events {
            happens(&mut bench, &mut desired, event);
        }
        if drains { bench.drain() } else { bench.kill(Proxy) }
        if !bench.netfilter.connected {
            bench.connect(NetfilterAgent);
        }
        bench.settle_one(NetfilterAgent);
        prop_assert!(bench.is_taken_over());
        // A workload may wait for its grants; it does not wait for ever.
        bench.now += hold::LONGEST;
        bench.settle_one(NetfilterAgent);
        for (id, (resource, _)) in &desired {
            if AgentName::of(resource) == NetfilterAgent {
                prop_assert_eq!(bench.netfilter.in_force.get(id), Some(resource));
            }
        }
    }
}
