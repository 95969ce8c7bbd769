//! A world in which everything works, and helpers that break one thing of it.

use std::net::Ipv4Addr;

use steppe_api::v1::{
    AgentStatus, Attachment, ControlStatus, EndpointState, Grant, GrantInfo, GrantState, GrantedPort,
    Instance, ListDoorsResponse, Listener, ListenerState, Pair, Protocol, QueryResponse, QuestionResult,
    Service, ServiceKey, ServicePort, SocketAddress, SourceState, SourceStatus, VipState, Workload,
    WorkloadInfo, WorkloadState,
};
use steppe_daemon::Process;

use crate::{Addresses, Away, AwayKind, Facts, Firewall, Plan, Query, Told, Verdict, judge};

pub(super) const VIP: &str = "247.12.8.41";
pub(super) const IP: &str = "172.26.64.9";
pub(super) const ID: &str = "0123456789ab@docker0:7";

pub(super) fn socket(ip: &str, port: u32) -> SocketAddress {
    SocketAddress { ip: ip.into(), port }
}

pub(super) fn web() -> ServiceKey {
    ServiceKey { user: "alice".into(), name: "web".into(), tag: String::new() }
}

pub(super) fn instance(ip: &str, port: u32) -> Instance {
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

/// As dns says that a name has an address.
pub(super) fn answered(result: QuestionResult, ip: &str) -> QueryResponse {
    QueryResponse {
        result: result.into(),
        rcode: "NOERROR".into(),
        records: vec![format!("web.steppe.internal. 5 IN A {ip}")],
        ..QueryResponse::default()
    }
}

fn addresses() -> Addresses {
    Addresses {
        services: "247.0.0.0/8".parse().unwrap(),
        listener: Ipv4Addr::new(169, 254, 77, 54),
        dns: Ipv4Addr::new(169, 254, 77, 53),
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
    let status = ControlStatus {
        sources: vec![source("docker"), source("consul")],
        agents: vec![AgentStatus { name: "dns".into(), ..AgentStatus::default() }],
        ..ControlStatus::default()
    };
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
        doors: Some(ListDoorsResponse::default()),
        networks: Some(Vec::new()),
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
        dns: Some(Told { name: "web".into(), answer: Ok(answered(QuestionResult::Service, VIP)) }),
        addresses: addresses(),
        local: vec!["10.0.0.9".parse().unwrap(), Ipv4Addr::LOCALHOST.into()],
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

pub(super) fn service(plan: &mut Plan) -> &mut Service {
    plan.pair.service.as_mut().unwrap()
}

pub(super) fn workload(plan: &mut Plan) -> &mut WorkloadInfo {
    plan.pair.workload.as_mut().unwrap()
}

/// Takes the rule, the port and the client away, as when none of them was ever pushed.
pub(super) fn not_pushed(facts: &mut Facts) {
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
pub(super) fn expect(facts: &Facts, verdict: Verdict, link: &str, reason: &str, fix: &str) {
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

/// No endpoint, and therefore neither listener nor rule.
pub(super) fn empty(change: impl FnOnce(&mut Service)) -> Facts {
    let mut facts = planned(|plan| {
        let service = service(plan);
        service.ports[0].listener = None;
        change(service);
    });
    not_pushed(&mut facts);
    facts
}
