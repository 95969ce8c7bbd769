//! What the netfilter-agent and the proxy have in force.

use super::*;

#[test]
fn a_workload_whose_port_nobody_looks_for_needs_the_agent() {
    let mut facts =
        planned(|plan| workload(plan).problem = "no bridge port with its address was seen".into());
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Broken, "address", "no grant can be bound", "start steppe-netfilter-agent");
}

#[test]
fn a_workload_without_an_address_is_broken() {
    let mut facts = planned(|plan| {
        workload(plan).attachments.clear();
        workload(plan).problem = "it uses the host's network".into();
    });
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads.clear();
    firewall.grants.clear();
    facts.proxy.as_mut().unwrap()[0].clients.clear();
    expect(&facts, Verdict::Broken, "address", "no grant can be bound", "bridge network of its own");
    // What follows from it is no fault of its own.
    let broken = judge(&facts).links.iter().filter(|link| matches!(link.state, State::Broken(_))).count();
    assert_eq!(broken, 1);
}

#[test]
fn a_workload_that_the_kernel_does_not_know_is_broken() {
    let mut facts = working();
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads.clear();
    firewall.grants.clear();
    expect(&facts, Verdict::Broken, "address", "no grant can be bound", "restart steppe-netfilter-agent");
}

#[test]
fn a_missing_rule_is_broken() {
    let mut facts = working();
    facts.netfilter.as_mut().unwrap().grants.clear();
    expect(&facts, Verdict::Broken, "rule", "rule is not in force", "restart steppe-netfilter-agent");
}

#[test]
fn an_unseen_rule_is_unknown_and_a_known_missing_one_broken() {
    let mut facts = working();
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Unknown, "rule", "netfilter-agent is down", "start steppe-netfilter-agent");
    let pair = &mut facts.control.as_mut().unwrap().pair;
    pair.resources.push(ResourceStatus { agent: "netfilter-agent".into(), ..ResourceStatus::default() });
    expect(&facts, Verdict::Broken, "rule", "netfilter-agent is down", "start steppe-netfilter-agent");
}

#[test]
fn a_proxy_that_is_down_decides_even_though_the_rule_waits_for_it() {
    let mut facts = working();
    not_pushed(&mut facts);
    facts.proxy = Err(down(Process::Proxy));
    expect(&facts, Verdict::Broken, "listener", "the proxy is down", "start steppe-proxy");
}

#[test]
fn a_proxy_that_may_not_be_asked_is_unknown() {
    let mut facts = working();
    facts.proxy = Err(Away { kind: AwayKind::Denied, ..down(Process::Proxy) });
    expect(&facts, Verdict::Unknown, "listener", "may not be asked", "gid 60700");
}

#[test]
fn a_rejected_listener_says_why() {
    let mut facts = planned(|plan| {
        plan.pair.resources.push(ResourceStatus {
            agent: "proxy".into(),
            id: "alice/web:80/tcp".into(),
            in_force: false,
            problem: "169.254.77.54:17007 is in use".into(),
        });
    });
    not_pushed(&mut facts);
    expect(&facts, Verdict::Broken, "listener", "does not listen", "remove what the reason names");
    assert!(judge(&facts).links.iter().any(|link| link.text.contains("17007 is in use")));
}

#[test]
fn a_listener_that_does_not_take_the_workload_is_broken() {
    let mut facts = working();
    facts.proxy.as_mut().unwrap()[0].clients.clear();
    expect(&facts, Verdict::Broken, "listener", "does not take it as a client", "restart steppe-proxy");
}
