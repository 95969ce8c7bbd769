//! What dns is told, and when.

use super::{super::*, *};

/// A bench with a workload that is granted a service, and a netfilter-agent that knows neither.
fn with_asker() -> Bench {
    let mut bench = Bench::new();
    bench.settle();
    bench.desire(workload(), vec![]);
    bench.desire_all(service(0, 1));
    let (asker, requires) = asker(&[0]);
    bench.desire(asker, requires);
    bench
}

#[test]
fn a_name_waits_for_what_it_stands_on() {
    let mut bench = with_asker();
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty());
    bench.settle();
    assert_eq!(bench.dns.in_force.len(), 1);
}

#[test]
fn an_asker_waits_for_its_workload_for_ever_and_for_a_grant_not() {
    let mut bench = with_asker();
    bench.settle_one(Dns);
    // The proxy never says that it has the client, so that the grant is not sent.
    bench.settle_one(NetfilterAgent);
    bench.now += hold::LONGEST;
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty(), "nothing of it is known to the netfilter-agent");
    bench.settle_one(NetfilterAgent);
    assert!(bench.netfilter.in_force.contains_key(&workload().id()));
    bench.settle_one(Dns);
    assert_eq!(bench.dns.in_force.len(), 1);
}

#[test]
fn names_are_gone_at_once_also_without_the_netfilter_agent() {
    let mut bench = with_asker();
    bench.settle();
    bench.cut_off(NetfilterAgent);
    let (asker, _) = asker(&[0]);
    bench.push.desire(Dns, asker.id(), None);
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty());
}

#[test]
fn with_the_netfilter_agent_away_names_stay_and_new_ones_wait() {
    let mut bench = with_asker();
    bench.settle();
    bench.cut_off(NetfilterAgent);
    bench.desire_all(service(1, 1));
    let (more, requires) = asker(&[0, 1]);
    bench.desire(more.clone(), requires);
    bench.settle_one(Dns);
    assert_eq!(bench.dns.in_force.values().collect::<Vec<_>>(), [&asker(&[0]).0]);
    bench.settle();
    assert_eq!(bench.dns.in_force.values().collect::<Vec<_>>(), [&more]);
}

#[test]
fn two_side_by_side_are_told_the_same() {
    let mut bench = with_asker();
    bench.settle();
    let told = |bench: &mut Bench, agent| {
        bench.push.connected(agent, Vec::new(), bench.now);
        kinds(&bench.push.outgoing(agent, bench.now))
    };
    assert_eq!(told(&mut bench, DnsA), ["asker 172.17.0.2"]);
    assert_eq!(told(&mut bench, DnsB), ["asker 172.17.0.2"]);
}

#[test]
fn one_that_is_about_to_stop_is_relieved() {
    let mut bench = with_asker();
    bench.settle();
    bench.push.draining(Dns);
    bench.settle_one(Dns);
    assert!(bench.dns.relieved);
}

/// Another container, with the address that one had before it.
fn successor() -> Resource {
    let Resource::Workload(before) = workload() else { unreachable!() };
    Resource::Workload(steppe_model::Workload {
        id: WorkloadId::new("v"),
        port_ifindex: 8,
        name: "v".into(),
        ..before
    })
}

/// What it is called, and what it stands on.
fn succeeding() -> (Resource, Vec<ResourceId>) {
    let (Resource::Asker(asker), _) = asker(&[]) else { unreachable!() };
    (Resource::Asker(steppe_model::Asker { workload: "v".into(), ..asker }), vec![successor().id()])
}

#[test]
fn who_comes_to_an_address_never_has_the_names_of_who_was_there() {
    let mut bench = with_asker();
    bench.settle();
    assert_eq!(bench.dns.in_force.len(), 1);
    // Both in one breath.
    bench.push.desire(NetfilterAgent, workload().id(), None);
    bench.desire(successor(), vec![]);
    let (asker, requires) = succeeding();
    bench.desire(asker.clone(), requires);
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty());
    bench.settle();
    assert_eq!(bench.dns.in_force.values().collect::<Vec<_>>(), [&asker]);
}

#[test]
fn nor_when_control_was_away_meanwhile() {
    let mut bench = with_asker();
    bench.settle();
    bench.restart_control();
    bench.desire(successor(), vec![]);
    let (asker, requires) = succeeding();
    bench.desire(asker.clone(), requires);
    bench.connect(Dns);
    bench.connect(NetfilterAgent);
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty());
    bench.settle();
    assert_eq!(bench.dns.in_force.values().collect::<Vec<_>>(), [&asker]);
}

#[test]
fn who_can_not_be_let_in_yet_loses_what_its_address_had_when_it_can() {
    let mut bench = with_asker();
    bench.settle();
    bench.cut_off(NetfilterAgent);
    bench.push.desire(NetfilterAgent, workload().id(), None);
    bench.desire(successor(), vec![]);
    let (asker, requires) = succeeding();
    bench.desire(asker, requires);
    // Nobody new is heard while the netfilter-agent is away.
    bench.settle_one(Dns);
    assert_eq!(bench.dns.in_force.len(), 1);
    bench.connect(NetfilterAgent);
    bench.settle_one(Dns);
    assert!(bench.dns.in_force.is_empty());
}
