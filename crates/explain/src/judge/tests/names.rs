//! What dns tells the workload, and whether it asks dns.

use steppe_api::v1::{QueryResponse, QuestionResult, ResolverState, WorkloadNames};

use super::{world::answered, *};
use crate::Told;

/// The working world in which dns says something else.
fn told(answer: crate::Answer<QueryResponse>) -> Facts {
    Facts { dns: Some(Told { name: "web".into(), answer }), ..working() }
}

fn unknown() -> QueryResponse {
    QueryResponse {
        result: QuestionResult::NoName.into(),
        rcode: "NXDOMAIN".into(),
        reason: "no such name for api".into(),
        ..QueryResponse::default()
    }
}

#[test]
fn a_name_that_dns_does_not_tell_is_broken_and_says_what_dns_said() {
    expect(&told(Ok(unknown())), Verdict::Broken, "name", "dns does not know", "restart steppe-dns");
    let text = judge(&told(Ok(unknown()))).links[1].text.clone();
    assert_eq!(text, "dns says NXDOMAIN of web: no such name for api");
    let other = told(Ok(answered(QuestionResult::Forwarded, "192.0.2.1")));
    expect(&other, Verdict::Broken, "name", "dns does not know", "restart steppe-dns");
}

#[test]
fn a_name_that_waits_for_the_workloads_address_is_not_what_is_broken() {
    let mut facts = told(Ok(unknown()));
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads.clear();
    firewall.grants.clear();
    expect(&facts, Verdict::Broken, "address", "no grant can be bound", "");
}

#[test]
fn a_control_that_does_not_know_dns_breaks_nothing() {
    let mut facts = told(Ok(unknown()));
    facts.control.as_mut().unwrap().status.agents.clear();
    let explanation = judge(&facts);
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    assert!(matches!(explanation.links[1].state, State::Watched(_)), "{explanation:#?}");
}

#[test]
fn what_control_says_of_the_name_is_said() {
    let mut facts = told(Ok(unknown()));
    facts.control.as_mut().unwrap().pair.resources.push(ResourceStatus {
        agent: "dns-a".into(),
        id: "asker 172.26.64.9".into(),
        in_force: false,
        problem: "waits for the netfilter-agent's 247.1.2.3".into(),
    });
    expect(&facts, Verdict::Broken, "name", "dns does not know", "ask again in a second");
    let text = judge(&facts).links[1].text.clone();
    assert!(text.ends_with("asker 172.26.64.9: waits for the netfilter-agent's 247.1.2.3"), "{text}");
}

#[test]
fn dns_that_is_down_is_broken_and_one_that_never_ran_is_only_said() {
    expect(&told(Err(down(Process::Dns))), Verdict::Broken, "name", "dns is down", "start steppe-dns");
    let never = told(Err(Away { kind: AwayKind::NoSocket, ..down(Process::Dns) }));
    let explanation = judge(&never);
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    assert!(matches!(explanation.links[1].state, State::Watched(_)), "{explanation:#?}");
    let slow = told(Err(Away { kind: AwayKind::Slow, ..down(Process::DnsA) }));
    expect(&slow, Verdict::Unknown, "name", "dns-a does not answer", "");
    let older = told(Err(Away { kind: AwayKind::Older, ..down(Process::Dns) }));
    expect(&older, Verdict::Unknown, "name", "dns is older", "upgrade steppe-dns");
}

#[test]
fn a_resolver_that_its_author_chose_is_broken() {
    let elsewhere = |why: &str| {
        planned(|plan| {
            workload(plan).names = Some(WorkloadNames {
                resolver: ResolverState::Elsewhere.into(),
                resolver_problem: why.into(),
                ..WorkloadNames::default()
            });
        })
    };
    let facts = elsewhere("its author named 192.0.2.53");
    expect(&facts, Verdict::Broken, "name", "its resolver is not dns", "name 169.254.77.53 first");
    let text = judge(&facts).links[1].text.clone();
    assert!(text.contains("its author named 192.0.2.53"), "{text}");
    let unseen = elsewhere("/var/lib/docker/containers is not there: say --containers-dir");
    expect(&unseen, Verdict::Broken, "name", "its resolver is not dns", "into control's container");
}

#[test]
fn whoever_asks_by_the_address_needs_no_name() {
    let mut facts = Facts { dns: None, ..working() };
    facts.query.service = format!("{VIP}:80");
    assert_eq!(judge(&facts).verdict, Verdict::Yes);
    assert_eq!(crate::names::question(&facts), None);
    assert_eq!(crate::names::question(&working()), Some((IP.into(), "web".into())));
}
