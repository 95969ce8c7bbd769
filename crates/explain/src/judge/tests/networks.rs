//! Networks of users: who is on the wrong one, on none, and who are siblings.

use steppe_api::v1::{ListDoorsResponse, Network, QueryResponse, QuestionResult, Workload, WorkloadState};

use super::{world::answered, *};
use crate::{Plan, Told};

const DB: &str = "10.209.7.3";
const BRIDGE: &str = "steppe-alice";

#[test]
fn a_workload_on_another_users_network_is_told_whose() {
    let mut facts = planned(|plan| {
        let workload = workload(plan);
        workload.network = "bob".into();
        workload.problem = "it is on the network of bob: nobody there hears it".into();
        workload.fix = "run it with --network steppe-alice".into();
    });
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads.clear();
    firewall.grants.clear();
    expect(&facts, Verdict::Broken, "network", "it is on the network of bob", "--network steppe-alice");
}

fn not_attached(change: impl FnOnce(&mut Plan)) -> Facts {
    planned(|plan| {
        workload(plan).not_attached = "runsc was running already".into();
        change(plan);
    })
}

#[test]
fn who_could_not_be_attached_has_its_own_grants_all_the_same() {
    let facts = not_attached(|_| {});
    let explanation = judge(&facts);
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    assert!(explanation.links[0].text.contains("runsc was running already"), "{explanation:#?}");
}

#[test]
fn who_could_not_be_attached_has_none_of_its_networks_grants() {
    let facts = not_attached(|plan| plan.pair.grant = None);
    expect(
        &facts,
        Verdict::Broken,
        "network",
        "not on the network of alice",
        "docker run --network steppe-alice",
    );
}

/// Workloads api and db are on the network of alice, and db is no service.
fn siblings() -> Facts {
    let mut facts = planned(|plan| {
        plan.pair.grant = None;
        plan.pair.service = None;
        plan.pair.asked.as_mut().unwrap().name = "db".into();
        (plan.pair.port, plan.pair.protocol) = (5432, Protocol::Tcp.into());
        let workload = workload(plan);
        workload.network = "alice".into();
        workload.attachments[0].bridge = BRIDGE.into();
    });
    facts.query.service = "db:5432".into();
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads[0].workload.as_mut().unwrap().bridge = BRIDGE.into();
    let db = Workload { ip: DB.into(), bridge: BRIDGE.into(), name: "db".into(), ..Workload::default() };
    firewall.workloads.push(WorkloadState { id: "db".into(), workload: Some(db), port_name: "veth2".into() });
    firewall.networks = Some(vec![Network {
        user: "alice".into(),
        bridge: BRIDGE.into(),
        subnet: "10.209.7.0/24".into(),
        gateway: "10.209.7.1".into(),
    }]);
    firewall.doors = Some(ListDoorsResponse::default());
    facts.dns = Some(Told { name: "db".into(), answer: Ok(answered(QuestionResult::Member, DB)) });
    facts
}

#[test]
fn siblings_reach_each_other_directly() {
    let explanation = judge(&siblings());
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    let texts: Vec<_> = explanation.links.iter().map(|link| (link.name, link.text.as_str())).collect();
    assert_eq!(
        texts,
        [
            ("name", "db -> 10.209.7.3, a member of the network of alice"),
            ("address", "172.26.64.9 on steppe-alice, port veth1a2b3c4"),
            ("networks", "10.209.7.3 is db, and both are on the network of alice: direct"),
        ]
    );
    assert_eq!(explanation.service, "alice/db:5432");
}

#[test]
fn siblings_are_found_without_dns_but_not_by_name() {
    let mut facts = siblings();
    facts.dns.as_mut().unwrap().answer = Err(down(Process::Dns));
    expect(&facts, Verdict::Broken, "name", "dns is down", "start steppe-dns");
    facts.netfilter.as_mut().unwrap().workloads.pop();
    expect(&facts, Verdict::Refused, "grant", "no grant", "connect_to=db:5432");
}

#[test]
fn who_is_not_on_its_network_is_told_to_go_there_for_what_is_no_service() {
    let mut facts = siblings();
    workload(facts.control.as_mut().unwrap()).attachments[0].bridge = "docker0".into();
    facts.netfilter.as_mut().unwrap().workloads[0].workload.as_mut().unwrap().bridge = "docker0".into();
    facts.dns.as_mut().unwrap().answer = Ok(QueryResponse::default());
    expect(
        &facts,
        Verdict::Broken,
        "network",
        "not on the network of alice",
        "docker run --network steppe-alice",
    );
}

#[test]
fn a_member_that_is_not_in_force_is_broken() {
    let mut facts = siblings();
    facts.netfilter.as_mut().unwrap().workloads.pop();
    expect(&facts, Verdict::Broken, "networks", "nobody has the address", "steppe workloads");
}
