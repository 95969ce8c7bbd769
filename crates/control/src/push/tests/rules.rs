//! Rules and the listeners that they lead to.

use std::collections::BTreeMap;

use super::{super::*, *};

#[test]
fn nothing_is_sent_before_the_gate_opens() {
    let now = Instant::now();
    let mut push = Push::new(true, now);
    push.connected(Proxy, Vec::new(), now);
    assert!(push.outgoing(Proxy, now).is_empty());
    push.open();
    assert_eq!(push.outgoing(Proxy, now).len(), 2);
}

#[test]
fn a_rule_waits_for_the_proxy() {
    let mut bench = Bench::with_takeover(false);
    bench.connect(NetfilterAgent);
    bench.desire_all(service(0, 1));
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
    bench.desire_all(service(0, 1));
    bench.settle();
    bench.kill(Proxy);
    bench.settle_one(NetfilterAgent);
    assert_eq!(bench.netfilter.in_force.len(), 3, "a takeover, and all that was there");
    bench.settle();
    assert_eq!(bench.proxy.in_force.len(), 2);
    assert_eq!(bench.netfilter.in_force.len(), 2);
}

#[test]
fn control_that_starts_anew_takes_no_listener_from_a_rule() {
    let mut bench = Bench::new();
    bench.desire_all(service(0, 1));
    bench.settle();
    // Nothing of it is desired by the next life of control.
    bench.restart_control();
    AGENTS.into_iter().for_each(|agent| bench.connect(agent));
    bench.settle();
    assert!(bench.proxy.in_force.is_empty() && bench.netfilter.in_force.is_empty());
}

#[test]
fn a_rule_stays_as_it_is_until_its_new_listener_is_there() {
    let mut bench = Bench::new();
    bench.desire_all(service(0, 1));
    bench.settle();
    bench.kill(Proxy);
    bench.restart_control();
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
    // The proxy is there, and has not put it in force yet.
    AGENTS.into_iter().for_each(|agent| bench.connect(agent));
    bench.settle_one(NetfilterAgent);
    assert_eq!(bench.netfilter.in_force, before);
    bench.settle();
    assert_eq!(bench.in_force(), desired);
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
