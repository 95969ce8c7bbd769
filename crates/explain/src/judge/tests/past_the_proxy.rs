//! New connections that go from the kernel to an endpoint.

use steppe_api::v1::{Endpoint, ServicePath};

use super::*;

fn endpoints() -> Vec<Endpoint> {
    let one = |ip: &str, port| Endpoint { address: Some(socket(ip, port)), weight: 1, node: "n18".into() };
    vec![one("10.0.0.5", 24_011), one("10.0.0.6", 22_790)]
}

/// A service of which every instance says `steppe.path=kernel`.
fn kernel_path() -> Facts {
    let mut facts = planned(|plan| {
        let service = service(plan);
        service.ports[0].listener = None;
        service.path = ServicePath::Kernel.into();
    });
    let port = &mut facts.netfilter.as_mut().unwrap().service_ports[0];
    (port.listener, port.endpoints) = (None, endpoints());
    facts.proxy = Ok(Vec::new());
    facts
}

fn taken_over() -> Facts {
    let mut facts = working();
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.takeover = true;
    firewall.service_ports[0].endpoints = endpoints();
    facts.proxy = Err(down(Process::Proxy));
    facts
}

#[track_caller]
fn works(facts: &Facts, names: &[&str], said: &str) {
    let explanation = judge(facts);
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    let seen: Vec<_> = explanation.links.iter().map(|link| link.name).collect();
    assert_eq!(seen, names, "{explanation:#?}");
    assert!(explanation.links.iter().any(|link| link.text.contains(said)), "{explanation:#?}");
}

const WITH_LISTENER: [&str; 6] = ["grant", "name", "address", "rule", "listener", "endpoint"];
const WITHOUT: [&str; 5] = ["grant", "name", "address", "rule", "endpoint"];

#[test]
fn a_service_on_the_kernel_path_needs_no_listener_and_no_proxy() {
    let mut facts = kernel_path();
    works(&facts, &WITHOUT, "172.26.64.9 -> an endpoint, past the proxy, 214 hits");
    facts.proxy = Err(down(Process::Proxy));
    works(&facts, &WITHOUT, "past the proxy");
    facts.control = Err(down(Process::Control));
    works(&facts, &WITHOUT, "10.0.0.5:24011 in use | 10.0.0.6:22790 in use");
}

#[test]
fn a_grant_for_every_port_leads_past_the_proxy_by_the_dialled_ports_own_endpoints() {
    let mut facts = kernel_path();
    let plan = facts.control.as_mut().unwrap();
    plan.pair.grant.as_mut().unwrap().port = 0;
    service(plan).ports[0].port = 0;
    facts.netfilter.as_mut().unwrap().grants[0].grant.as_mut().unwrap().port = 0;
    works(&facts, &WITHOUT, "past the proxy");
    facts.control.as_mut().unwrap().pair.port = 81;
    expect(&facts, Verdict::Broken, "rule", "not in force", "restart steppe-netfilter-agent");
}

#[test]
fn a_missing_rule_of_the_kernel_path_does_not_wait_for_a_listener() {
    let mut facts = kernel_path();
    facts.netfilter.as_mut().unwrap().service_ports.clear();
    expect(&facts, Verdict::Broken, "rule", "not in force", "restart steppe-netfilter-agent");
}

#[test]
fn a_takeover_carries_what_the_proxy_does_not() {
    let mut facts = taken_over();
    works(&facts, &WITH_LISTENER, "the kernel carries new connections until the proxy is back");
    facts.proxy = Ok(Vec::new());
    works(&facts, &WITH_LISTENER, "the kernel carries new connections until the proxy is ready");
    facts.proxy = Err(down(Process::Proxy));
    facts.control = Err(down(Process::Control));
    works(&facts, &WITH_LISTENER, "10.0.0.5:24011 in use | 10.0.0.6:22790 in use");
}

#[test]
fn a_takeover_does_not_carry_who_wants_to_be_told_who_called() {
    let mut facts = taken_over();
    facts.netfilter.as_mut().unwrap().service_ports[0].endpoints.clear();
    expect(&facts, Verdict::Broken, "listener", "the proxy is down", "start steppe-proxy");
}

#[test]
fn endpoints_beside_a_listener_carry_nothing_without_a_takeover() {
    let mut facts = taken_over();
    facts.netfilter.as_mut().unwrap().takeover = false;
    expect(&facts, Verdict::Broken, "listener", "the proxy is down", "start steppe-proxy");
}
