//! Make before break, whatever happens.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{super::*, *};

#[derive(Debug, Clone)]
enum Event {
    Add(u8, u8),
    Remove(u8),
    Workload(bool),
    Send(bool),
    Step(bool),
    Acknowledge(bool),
    Connect(bool),
    CutOff(bool),
    Kill(bool),
    DrainProxy,
    RestartControl,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..3u8, 1..3u8).prop_map(|(n, weight)| Event::Add(n, weight)),
        4 => (0..3u8).prop_map(Event::Remove),
        2 => any::<bool>().prop_map(Event::Workload),
        12 => any::<bool>().prop_map(Event::Send),
        18 => any::<bool>().prop_map(Event::Step),
        12 => any::<bool>().prop_map(Event::Acknowledge),
        6 => any::<bool>().prop_map(Event::Connect),
        1 => any::<bool>().prop_map(Event::CutOff),
        2 => any::<bool>().prop_map(Event::Kill),
        1 => Just(Event::DrainProxy),
        1 => Just(Event::RestartControl),
    ]
}

fn agent(proxy: bool) -> AgentName {
    if proxy { Proxy } else { NetfilterAgent }
}

/// What is desired, and with what it is.
type Desired = BTreeMap<ResourceId, (Resource, Vec<ResourceId>)>;

fn happens(bench: &mut Bench, desired: &mut Desired, event: Event) {
    match event {
        Event::Add(n, weight) => {
            for (resource, requires) in service(n, weight) {
                desired.insert(resource.id(), (resource.clone(), requires.clone()));
                bench.desire(resource, requires);
            }
        }
        Event::Remove(n) => {
            for (resource, _) in service(n, 1) {
                desired.remove(&resource.id());
                bench.push.desire(AgentName::of(&resource), resource.id(), None);
            }
        }
        Event::Workload(true) => {
            desired.insert(workload().id(), (workload(), vec![]));
            bench.desire(workload(), vec![]);
        }
        Event::Workload(false) => {
            desired.remove(&workload().id());
            bench.push.desire(NetfilterAgent, workload().id(), None);
        }
        Event::Send(proxy) => bench.send(agent(proxy)),
        Event::Step(proxy) => bench.step(agent(proxy)),
        Event::Acknowledge(proxy) => bench.acknowledge(agent(proxy)),
        Event::Connect(proxy) => {
            if !bench.agent(agent(proxy)).connected {
                bench.connect(agent(proxy));
            }
        }
        Event::CutOff(proxy) => bench.cut_off(agent(proxy)),
        Event::Kill(proxy) => bench.kill(agent(proxy)),
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
