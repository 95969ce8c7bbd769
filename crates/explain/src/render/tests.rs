use proptest::prelude::*;
use steppe_api::v1::{
    DoorState, Doors, EndpointState, GrantInfo, Instance, ListenerState, Pair, PublishedPort, ResourceStatus,
    ServiceKey, SourceStatus, WorkloadInfo,
};

use super::*;
use crate::{
    Facts, judge,
    judge::tests::{down, planned, ungranted, working},
};

fn text(facts: &Facts) -> String {
    render(&judge(facts), Paint::Plain)
}

#[test]
fn a_yes() {
    assert_eq!(
        text(&working()),
        "\
YES api 3f2a19c0 (172.26.64.9, alice) -> alice/web:80
 ok    grant     tag connect_to=web:80 (Consul service api-1)
 ok    name      web -> 247.12.8.41
 ok    address   172.26.64.9 on docker0, port veth1a2b3c4
 ok    rule      172.26.64.9 -> 169.254.77.54:17007, 214 hits
 ok    listener  169.254.77.54:17007, 214 connections, 3 open
 ok    endpoint  10.0.0.5:24011 passing | 10.0.0.6:22790 passing
"
    );
}

#[test]
fn a_broken_link_has_its_fix_below_it() {
    let mut facts = planned(|plan| {
        let instances = &mut plan.pair.service.as_mut().unwrap().instances;
        instances[1].healthy = false;
        instances[1].problem = "HTTP 503".into();
    });
    facts.proxy = Err(down(steppe_daemon::Process::Proxy));
    assert_eq!(
        text(&facts),
        "\
NO  api 3f2a19c0 (172.26.64.9, alice) -> alice/web:80: the proxy is down
 ok    grant     tag connect_to=web:80 (Consul service api-1)
 ok    name      web -> 247.12.8.41
 ok    address   172.26.64.9 on docker0, port veth1a2b3c4
 ok    rule      172.26.64.9 -> 169.254.77.54:17007, 214 hits
 FAIL  listener  proxy is down: nobody listens on /run/steppe/proxy.sock
 fix             start steppe-proxy (systemctl start steppe-proxy, or nomad job run system.hcl)
 ok    endpoint  10.0.0.5:24011 passing | 10.0.0.6:22790 CRITICAL \"HTTP 503\"
"
    );
}

#[test]
fn a_refusal_ends_where_it_is_decided() {
    let mut facts = ungranted();
    let workload = facts.control.as_mut().unwrap().pair.workload.as_mut().unwrap();
    (workload.job, workload.group, workload.task) = ("worker".into(), "w".into(), "worker".into());
    workload.alloc = "9c1e77aa".into();
    workload.attachments[0].ip = "172.17.0.5".into();
    assert_eq!(
        text(&facts),
        "\
NO  worker 9c1e77aa (172.17.0.5, alice) -> alice/web:80: no grant
 FAIL  grant     this workload's grants: redis:6379
 fix             add tag connect_to=web:80 to job worker, group w
"
    );
}

#[test]
fn a_provider_that_does_not_allow_it() {
    let facts = planned(|plan| {
        let bobs = ServiceKey { user: "bob".into(), name: "pg".into(), tag: String::new() };
        plan.pair.asked = Some(bobs.clone());
        plan.pair.port = 5432;
        let grant = plan.pair.grant.as_mut().unwrap();
        (grant.service, grant.text) = (Some(bobs), "bob/pg:5432".into());
        grant.problem = "bob/pg allows: carol".into();
    });
    assert_eq!(
        text(&facts),
        "\
NO  api 3f2a19c0 (172.26.64.9, alice) -> bob/pg:5432: bob does not allow alice
 ok    grant     tag connect_to=bob/pg:5432 (Consul service api-1)
 FAIL  allow     bob/pg allows: carol
 fix             provider tag steppe.allow=alice
"
    );
}

#[test]
fn control_down() {
    let mut facts = working();
    facts.control = Err(down(steppe_daemon::Process::Control));
    facts.query.service = "redis:6379".into();
    assert_eq!(
        text(&facts).lines().next(),
        Some(
            "?   api-3f2a19c0-0000-0000-0000-000000000000 01234567 (172.26.64.9, alice) -> alice/redis:6379: can't tell: \
             control is down, and no grant is in force"
        )
    );
}

#[test]
fn colour_is_around_the_words_alone() {
    let coloured = render(&judge(&working()), Paint::Colour);
    assert!(coloured.starts_with("\x1b[32mYES\x1b[0m api"));
    assert!(coloured.contains(" \x1b[32mok\x1b[0m    grant     tag"));
}

// Boxed: a strategy of strategies by value is larger than a test's stack.
fn any_text() -> BoxedStrategy<String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,4}",
        Just("172.26.64.9".to_owned()),
        Just("127.0.0.1:24011".to_owned()),
        Just("10.0.0.5:24011/udp".to_owned()),
        Just("169.254.77.54:1".to_owned()),
        "\\PC{0,20}",
        "[\\x00-\\x7f]{0,9}"
    ]
    .boxed()
}

fn any_key() -> BoxedStrategy<Option<ServiceKey>> {
    let key = (any_text(), any_text(), any_text());
    prop::option::of(key.prop_map(|(user, name, tag)| ServiceKey { user, name, tag })).boxed()
}

prop_compose! {
    fn any_grant()(text in any_text(), origin in any_text(), service in any_key(), protocol in -1..4, port: u32,
                   problem in any_text(), fix in any_text()) -> GrantInfo {
        GrantInfo { text, origin, service, protocol, port, problem, fix }
    }
}

prop_compose! {
    fn any_pair()(known: bool, name in any_text(), alloc in any_text(), task in any_text(), problem in any_text(),
                  grants in prop::collection::vec(any_grant().boxed(), 0..3), workload_problem in any_text(), asked in any_key(),
                  protocol in -1..4, port: u32, service_problem in any_text(), grant in prop::option::of(any_grant().boxed()),
                  resource in any_text()) -> Pair {
        let mut pair = match working().control { Ok(plan) => plan.pair, Err(_) => Pair::default() };
        let workload = WorkloadInfo { name, alloc, task, problem, grants, ..pair.workload.unwrap_or_default() };
        pair.workload = known.then_some(workload);
        pair.resources = vec![ResourceStatus { agent: "proxy".into(), problem: resource, ..ResourceStatus::default() }];
        Pair { workload_problem, asked, protocol, port, service_problem, grant, ..pair }
    }
}

prop_compose! {
    fn any_facts()(pair in any_pair().boxed(), away in 0..8_u8, workload in any_text(), service in any_text(), state in -1..5,
                   instances in prop::collection::vec((any_text(), any::<bool>(), any::<bool>()), 0..20),
                   ejected: u64, error in any_text(), clients in any_text(), drop_ports: bool,
                   (record, mode, result) in (any_text(), -1..5, -1..9), (network, not_attached) in (any_text(), any_text()))
                   -> Facts {
        let mut facts = working();
        if let Some(Ok(answer)) = facts.dns.as_mut().map(|told| &mut told.answer) {
            answer.result = result;
            answer.records.push(record.clone());
        }
        if let Ok(plan) = &mut facts.control && let Some(workload) = &mut plan.pair.workload {
            (workload.network, workload.not_attached) = (network, not_attached);
        }
        if let Some(doors) = facts.netfilter.as_mut().ok().and_then(|firewall| firewall.doors.as_mut()) {
            let name = result;
            doors.doors.push(DoorState { name, mode, refused_total: ejected });
            doors.published.push(PublishedPort { port: 24_011, protocol: 1, name: record.clone(), ..PublishedPort::default() });
            doors.settings = Some(Doors { peers: vec![record, "10.0.0.0/24".into()], last_published_port: 32_000, ..Doors::default() });
        }
        facts.query = crate::Query { workload, service };
        if let Ok(plan) = &mut facts.control {
            let own = plan.pair.workload.take();
            plan.pair = pair;
            if let (Some(own), Some(workload)) = (own, &mut plan.pair.workload) {
                (workload.network, workload.not_attached) = (own.network, own.not_attached);
            }
            plan.status.sources.push(SourceStatus { state, last_error: error.clone(), ..SourceStatus::default() });
            if let Some(service) = &mut plan.pair.service {
                service.instances.extend(instances.into_iter().map(|(text, healthy, dialable)| Instance {
                    id: text.clone(), problem: text.clone(), tags: vec![text], healthy,
                    address: dialable.then(Default::default), ..Instance::default()
                }));
                if drop_ports { service.ports.clear(); }
            }
        }
        if let Ok(listeners) = &mut facts.proxy {
            listeners.push(ListenerState { clients: vec![clients], ..ListenerState::default() });
            listeners[0].endpoints.push(EndpointState { ejected_for_ms: ejected, last_error: error, ..EndpointState::default() });
        }
        use steppe_daemon::Process;
        if away & 1 != 0 { facts.control = Err(down(Process::Control)); }
        if away & 2 != 0 { facts.netfilter = Err(down(Process::NetfilterAgent)); }
        if away & 4 != 0 { facts.proxy = Err(down(Process::Proxy)); }
        facts
    }
}

proptest! {
    #[test]
    fn any_facts_have_an_explanation(facts in any_facts()) {
        let explanation = judge(&facts);
        let text = render(&explanation, Paint::Plain);
        // One line for the answer, one for each link, one for each fix: nothing that others wrote breaks a line.
        let faults = explanation.links.iter().filter(|link| link.fault().is_some()).count();
        prop_assert_eq!(text.lines().count(), 1 + explanation.links.len() + faults);
        prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
        for fault in explanation.links.iter().filter_map(crate::Link::fault) {
            prop_assert!(!fault.fix.is_empty() && !fault.summary.is_empty());
        }
        prop_assert_eq!(explanation.verdict == Verdict::Yes, explanation.reason.is_none());
        serde_json::to_string(&explanation).map_err(|error| TestCaseError::fail(error.to_string()))?;
    }
}
