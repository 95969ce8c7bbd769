//! A world in which everything works, broken in one place at a time.

use steppe_api::v1::{
    Attachment, ControlStatus, EndpointState, Grant, GrantInfo, GrantState, GrantedPort, Instance, Listener,
    ListenerState, Pair, Protocol, ResourceStatus, Service, ServiceKey, ServicePort, SocketAddress,
    SourceState, SourceStatus, VipState, Workload, WorkloadInfo, WorkloadState,
};
use steppe_daemon::Process;

use super::*;
use crate::{AwayKind, Firewall, Plan, Query};

mod past_the_proxy;

const VIP: &str = "247.12.8.41";
const IP: &str = "172.26.64.9";
const ID: &str = "0123456789ab@docker0:7";

fn socket(ip: &str, port: u32) -> SocketAddress {
    SocketAddress { ip: ip.into(), port }
}

fn web() -> ServiceKey {
    ServiceKey { user: "alice".into(), name: "web".into(), tag: String::new() }
}

fn instance(ip: &str, port: u32) -> Instance {
    Instance {
        id: format!("web-{ip}"),
        node: "n18".into(),
        address: Some(socket(ip, port)),
        healthy: true,
        source: "consul".into(),
        weight: 1,
        ..Instance::default()
    }
}

pub(crate) fn working() -> Facts {
    let tcp = i32::from(Protocol::Tcp);
    let grant = GrantInfo {
        text: "web:80".into(),
        origin: "tag of Consul service api-1".into(),
        service: Some(web()),
        protocol: tcp,
        port: 80,
        ..GrantInfo::default()
    };
    let attachment = Attachment {
        id: ID.into(),
        ip: IP.into(),
        mac: "02:42:ac:1a:40:09".into(),
        bridge: "docker0".into(),
        port_name: "veth1a2b3c4".into(),
        in_force: true,
    };
    let workload = WorkloadInfo {
        id: "0123456789abcdef".into(),
        name: "api-3f2a19c0-0000-0000-0000-000000000000".into(),
        user: "alice".into(),
        task: "api".into(),
        alloc: "3f2a19c0-0000-0000-0000-000000000000".into(),
        attachments: vec![attachment],
        grants: vec![grant.clone()],
        ..WorkloadInfo::default()
    };
    let listener_at = socket("169.254.77.54", 17_007);
    let service = Service {
        key: Some(web()),
        vip: VIP.into(),
        ports: vec![GrantedPort {
            protocol: tcp,
            port: 80,
            listener: Some(listener_at.clone()),
            ..GrantedPort::default()
        }],
        instances: vec![instance("10.0.0.5", 24_011), instance("10.0.0.6", 22_790)],
        grants: 1,
        ..Service::default()
    };
    let pair = Pair {
        workload: Some(workload),
        asked: Some(web()),
        protocol: tcp,
        port: 80,
        grant: Some(grant),
        service: Some(service),
        ..Pair::default()
    };
    let source = |name: &str| SourceStatus {
        name: name.into(),
        state: SourceState::Live.into(),
        ..SourceStatus::default()
    };
    let status =
        ControlStatus { sources: vec![source("docker"), source("consul")], ..ControlStatus::default() };
    let kernel_grant = Grant { workload: ID.into(), vip: VIP.into(), protocol: tcp, port: 80 };
    let firewall = Firewall {
        workloads: vec![WorkloadState {
            id: ID.into(),
            workload: Some(Workload {
                ip: IP.into(),
                mac: "02:42:ac:1a:40:09".into(),
                bridge: "docker0".into(),
                port_ifindex: 7,
                name: "api-3f2a19c0-0000-0000-0000-000000000000".into(),
                user: "alice".into(),
                guarded: false,
            }),
            port_name: "veth1a2b3c4".into(),
        }],
        grants: vec![GrantState {
            id: "g".into(),
            grant: Some(kernel_grant),
            ip: IP.into(),
            packets_total: 214,
        }],
        service_ports: vec![ServicePort {
            service: Some(web()),
            vip: VIP.into(),
            protocol: tcp,
            port: 80,
            listener: Some(listener_at.clone()),
            endpoints: Vec::new(),
        }],
        vips: vec![VipState { service: Some(web()), vip: VIP.into(), refused_total: 0 }],
        takeover: false,
    };
    let endpoint = |ip: &str, port| EndpointState {
        address: Some(socket(ip, port)),
        node: "n18".into(),
        connected_total: 3,
        ..EndpointState::default()
    };
    let listener = ListenerState {
        id: "alice/web:80/tcp".into(),
        listener: Some(Listener {
            service: Some(web()),
            protocol: tcp,
            port: 80,
            address: Some(listener_at),
            ..Listener::default()
        }),
        clients: vec![IP.into()],
        accepted_total: 214,
        active: 3,
        endpoints: vec![endpoint("10.0.0.5", 24_011), endpoint("10.0.0.6", 22_790)],
        ..ListenerState::default()
    };
    Facts {
        query: Query { workload: "api".into(), service: "web:80".into() },
        control: Ok(Plan { pair, status }),
        netfilter: Ok(firewall),
        proxy: Ok(vec![listener]),
    }
}

pub(crate) fn down(process: Process) -> Away {
    Away {
        process,
        socket: format!("/run/steppe/{}.sock", process.name()).into(),
        kind: AwayKind::NobodyListens,
    }
}

/// The working world with one thing changed in the plan.
pub(crate) fn planned(change: impl FnOnce(&mut Plan)) -> Facts {
    let mut facts = working();
    change(facts.control.as_mut().unwrap());
    facts
}

fn service(plan: &mut Plan) -> &mut Service {
    plan.pair.service.as_mut().unwrap()
}

fn workload(plan: &mut Plan) -> &mut WorkloadInfo {
    plan.pair.workload.as_mut().unwrap()
}

/// Takes the rule, the port and the client away, as when none of them was ever pushed.
fn not_pushed(facts: &mut Facts) {
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.grants.clear();
    firewall.service_ports.clear();
    facts.proxy = Ok(Vec::new());
}

pub(crate) fn ungranted() -> Facts {
    let mut facts = planned(|plan| {
        plan.pair.grant = None;
        plan.pair.service = None;
        let origin = "tag of Consul service api-1".to_owned();
        let redis =
            GrantInfo { text: "redis:6379".into(), origin, service: Some(web()), ..GrantInfo::default() };
        workload(plan).grants = vec![redis];
    });
    not_pushed(&mut facts);
    facts
}

#[track_caller]
fn expect(facts: &Facts, verdict: Verdict, link: &str, reason: &str, fix: &str) {
    let explanation = judge(facts);
    let broken = explanation.links.iter().find(|link| link.fault().is_some());
    let deciding = explanation
        .links
        .iter()
        .find(|link| link.fault().is_some_and(|fault| Some(&fault.summary) == explanation.reason.as_ref()));
    let deciding = deciding.unwrap_or_else(|| panic!("no link decides: {explanation:#?}"));
    assert_eq!(explanation.verdict, verdict, "{explanation:#?}");
    assert_eq!(deciding.name, link, "{broken:#?}");
    let fault = deciding.fault().unwrap();
    assert!(fault.summary.contains(reason), "{} has no `{reason}`", fault.summary);
    assert!(fault.fix.contains(fix), "{} has no `{fix}`", fault.fix);
}

#[test]
fn a_working_pair_is_a_yes_with_every_link_ok() {
    let explanation = judge(&working());
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    let names: Vec<_> = explanation.links.iter().map(|link| link.name).collect();
    assert_eq!(names, ["grant", "name", "address", "rule", "listener", "endpoint"]);
}

#[test]
fn a_question_without_a_port_means_the_grants_port() {
    let facts = planned(|plan| plan.pair.port = 0);
    let explanation = judge(&facts);
    assert_eq!((explanation.verdict, &*explanation.service), (Verdict::Yes, "alice/web:80"));
}

#[test]
fn a_grant_for_every_port_covers_the_one_asked_for() {
    let mut facts = planned(|plan| {
        plan.pair.grant.as_mut().unwrap().port = 0;
        service(plan).ports[0].port = 0;
    });
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.grants[0].grant.as_mut().unwrap().port = 0;
    firewall.service_ports[0].port = 0;
    facts.proxy.as_mut().unwrap()[0].listener.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Yes);
}

#[test]
fn a_grant_for_every_port_does_not_use_the_way_of_another_workloads_exact_one() {
    let mut facts = planned(|plan| plan.pair.grant.as_mut().unwrap().port = 0);
    facts.netfilter.as_mut().unwrap().grants[0].grant.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn an_exact_grant_does_not_use_the_way_of_every_port() {
    let mut facts = working();
    facts.netfilter.as_mut().unwrap().service_ports[0].port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn a_workload_whose_port_nobody_looks_for_needs_the_agent() {
    let mut facts =
        planned(|plan| workload(plan).problem = "no bridge port with its address was seen".into());
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Broken, "address", "no grant can be bound", "start steppe-netfilter-agent");
}

#[test]
fn a_udp_question_is_not_answered_by_a_tcp_rule() {
    let mut facts = planned(|plan| {
        plan.pair.protocol = Protocol::Udp.into();
        plan.pair.grant.as_mut().unwrap().protocol = Protocol::Udp.into();
    });
    facts.netfilter.as_mut().unwrap().grants[0].grant.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn no_grant_is_refused_and_names_the_tags_place() {
    expect(
        &ungranted(),
        Verdict::Refused,
        "grant",
        "no grant",
        "add tag connect_to=web:80 to Consul service api-1",
    );
    assert_eq!(judge(&ungranted()).links.len(), 1);
}

#[test]
fn no_grant_of_a_docker_workload_keeps_the_labels_other_grants() {
    let mut facts = ungranted();
    let plan = facts.control.as_mut().unwrap();
    plan.status.sources.retain(|source| source.name == "docker");
    workload(plan).grants[0].origin = "label of container api".into();
    workload(plan).name = "api".into();
    expect(
        &facts,
        Verdict::Refused,
        "grant",
        "no grant",
        "recreate container api with the label steppe.connect_to=redis:6379,web:80",
    );
    let fault = judge(&facts).links[0].fault().unwrap().clone();
    assert!(!fault.fix.contains("Consul"));
}

#[test]
fn no_grant_of_a_nomad_workload_names_job_and_group() {
    let mut facts = ungranted();
    let workload = workload(facts.control.as_mut().unwrap());
    (workload.job, workload.group) = ("worker".into(), "w".into());
    expect(&facts, Verdict::Refused, "grant", "no grant", "add tag connect_to=web:80 to job worker, group w");
}

#[test]
fn a_malformed_grant_is_corrected() {
    let mut facts = ungranted();
    workload(facts.control.as_mut().unwrap()).grants.push(GrantInfo {
        text: "web:80x".into(),
        origin: "tag of Consul service api-1".into(),
        problem: "port `80x` is not a number from 1 to 65535".into(),
        ..GrantInfo::default()
    });
    expect(&facts, Verdict::Refused, "grant", "malformed", "write connect_to=web:80 in its place");
}

#[test]
fn a_missing_grant_is_not_believed_while_a_source_is_silent() {
    let mut facts = ungranted();
    let source = &mut facts.control.as_mut().unwrap().status.sources[1];
    source.state = SourceState::Stale.into();
    source.last_error = "500 No cluster leader".into();
    expect(&facts, Verdict::Unknown, "grant", "a source is not heard", "see that consul answers");
}

#[test]
fn another_users_service_needs_its_leave() {
    let facts = planned(|plan| {
        let bobs = ServiceKey { user: "bob".into(), name: "pg".into(), tag: String::new() };
        plan.pair.asked = Some(bobs.clone());
        let grant = plan.pair.grant.as_mut().unwrap();
        (grant.service, grant.text) = (Some(bobs), "bob/pg:80".into());
        grant.problem = "bob/pg allows: carol".into();
    });
    expect(&facts, Verdict::Refused, "allow", "bob does not allow alice", "provider tag steppe.allow=alice");
    assert_eq!(judge(&facts).links.len(), 2);
}

#[test]
fn a_port_without_a_listener_left_needs_a_larger_range() {
    let facts = empty(|service| {
        service.ports[0].problem =
            "no listener port is left in --listener-ports: choose a larger range".into();
    });
    expect(&facts, Verdict::Broken, "port", "leads nowhere", "a larger range as --listener-ports");
}

#[test]
fn an_ambiguous_port_names_the_tags() {
    let facts = empty(|service| {
        service.ports[0].problem = "several ports are registered and none is this one".into();
        for (instance, tag) in service.instances.iter_mut().zip(["admin", "http"]) {
            instance.workload = "c1".into();
            instance.tags = vec!["v1".into(), tag.into()];
        }
    });
    expect(
        &facts,
        Verdict::Broken,
        "port",
        "port 80 leads nowhere",
        "write connect_to=web#admin:80 or connect_to=web#http:80 in the place of connect_to=web:80",
    );
    let faults = judge(&facts).links.iter().filter(|link| link.fault().is_some()).count();
    assert_eq!(faults, 1);
}

#[test]
fn a_service_without_a_virtual_ip_is_broken() {
    let facts = planned(|plan| plan.pair.service = None);
    expect(&facts, Verdict::Broken, "name", "no virtual IP", "ask again");
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

/// No endpoint, and therefore neither listener nor rule.
fn empty(change: impl FnOnce(&mut Service)) -> Facts {
    let mut facts = planned(|plan| {
        let service = service(plan);
        service.ports[0].listener = None;
        change(service);
    });
    not_pushed(&mut facts);
    facts
}

#[test]
fn a_service_without_instances_is_broken_at_its_endpoints_alone() {
    let facts = empty(|service| service.instances.clear());
    expect(&facts, Verdict::Broken, "endpoint", "no instance is registered", "register an instance of web");
}

#[test]
fn failing_checks_are_quoted() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.healthy, instance.problem) = (false, "HTTP 503".into());
        }
    });
    expect(&facts, Verdict::Broken, "endpoint", "passes its check", "pass its check: \"HTTP 503\"");
}

#[test]
fn undialable_instances_are_to_be_published() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.address, instance.problem) = (None, "a container's address: publish its port".into());
        }
    });
    expect(&facts, Verdict::Broken, "endpoint", "can be dialled", "publish the port");
}

#[test]
fn an_instance_that_is_registered_wrongly_is_to_be_registered_anew() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.address, instance.problem) = (None, "it is registered without a port".into());
        }
    });
    expect(
        &facts,
        Verdict::Broken,
        "endpoint",
        "can be dialled",
        "this host can dial: it is registered without a port",
    );
}

#[test]
fn instances_that_take_no_connection_are_broken() {
    let mut facts = working();
    let endpoints = &mut facts.proxy.as_mut().unwrap()[0].endpoints;
    endpoints[0].ejected_for_ms = 11_200;
    endpoints[0].last_error = "connection refused".into();
    assert_eq!(judge(&facts).verdict, Verdict::Yes);
    let endpoints = &mut facts.proxy.as_mut().unwrap()[0].endpoints;
    (endpoints[1].connected_total, endpoints[1].failed_total) = (0, 1);
    expect(&facts, Verdict::Broken, "endpoint", "takes connections", "listens on 10.0.0.5:24011");
    let text = &judge(&facts).links.last().unwrap().text.clone();
    assert!(text.contains("ejected for 12 s because connection refused"), "{text}");
}

#[test]
fn with_control_down_what_is_in_force_is_a_yes() {
    let mut facts = working();
    facts.control = Err(down(Process::Control));
    for (workload, service) in [
        ("api", "web:80"),
        ("api", "web"),
        (IP, "alice/web"),
        ("3f2a", "247.12.8.41:80"),
        ("0123456789ab", "247.12.8.41"),
    ] {
        facts.query = Query { workload: workload.into(), service: service.into() };
        let explanation = judge(&facts);
        assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
        assert_eq!(explanation.service, "alice/web:80");
    }
}

#[test]
fn with_control_down_what_is_not_in_force_is_unknown() {
    let mut facts = working();
    facts.control = Err(down(Process::Control));
    facts.query.service = "redis".into();
    expect(&facts, Verdict::Unknown, "grant", "control is down", "start steppe-control");
    facts.query.workload = "nobody".into();
    expect(&facts, Verdict::Unknown, "workload", "control is down", "start steppe-control");
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Unknown, "control", "control is down", "start steppe-control");
}

#[test]
fn nonsense_is_a_usage_error_with_and_without_control() {
    let mut facts = planned(|plan| plan.pair.service_problem = "`web:x`: port `x` is not a number".into());
    assert_eq!(judge(&facts).verdict, Verdict::Usage);
    facts.query.service = "web:x".into();
    facts.control = Err(down(Process::Control));
    assert_eq!(judge(&facts).verdict, Verdict::Usage);
}

#[test]
fn an_unknown_workload_points_to_the_list() {
    let facts =
        planned(|plan| plan.pair = Pair { workload_problem: "no workload is `x`".into(), ..Pair::default() });
    expect(&facts, Verdict::Unknown, "workload", "no workload is `x`", "steppe workloads");
}

#[test]
fn the_host_gets_no_grant() {
    let mut facts = working();
    facts.query.workload = "host".into();
    expect(&facts, Verdict::Refused, "grant", "get no grant", "steppe.connect_to=web:80");
}
