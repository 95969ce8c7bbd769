use steppe_api::v1::{
    About, AgentState, AgentStatus, ControlStatus, DnsStatus, DoorMode, DoorName, DoorState, Ignored,
    ListDoorsResponse, MissingNetwork, MovedNetwork, NetfilterStatus, ProxyStatus, Reject, SourceStatus,
    Upstream,
};
use steppe_daemon::Process;
use steppe_explain::{Away, AwayKind};

use super::*;

fn about(version: &str, hours: u64, in_force_version: u64) -> Option<About> {
    Some(About { version: version.into(), uptime_seconds: hours * 3600, in_force_version, synced: true })
}

fn agent(name: &str, sent: u64, acked: u64, behind_ms: u64) -> AgentStatus {
    let state = AgentState::Live.into();
    AgentStatus {
        name: name.into(),
        state,
        sent_version: sent,
        acked_version: acked,
        behind_ms,
        ..AgentStatus::default()
    }
}

fn answers() -> Answers {
    let live = SourceState::Live.into();
    let stale = SourceState::Stale.into();
    let last_error = "500 No cluster leader".to_owned();
    let dns = AgentStatus {
        name: "dns".into(),
        state: AgentState::Down.into(),
        for_ms: 42_000,
        ..AgentStatus::default()
    };
    Answers {
        control: Ok(ControlStatus {
            about: about("1.2.0", 76, 0),
            node: "n17".into(),
            agents: vec![agent("proxy", 8812, 8812, 0), agent("netfilter-agent", 8812, 8810, 1300), dns],
            sources: vec![
                SourceStatus { name: "docker".into(), state: live, ..SourceStatus::default() },
                SourceStatus { name: "consul".into(), state: stale, age_ms: 252_000, last_error },
            ],
            workloads: 41,
            workloads_without_address: 3,
            services: 2,
            services_empty: 1,
            ignored: vec![Ignored {
                origin: "tag of Consul service api-1".into(),
                text: "connect_to=web:x".into(),
                reason: "port".into(),
            }],
            ..ControlStatus::default()
        }),
        proxy: Ok(ProxyStatus { about: about("1.2.0", 76, 8812), ..ProxyStatus::default() }),
        netfilter: Ok(NetfilterStatus { about: about("1.1.4", 217, 8810), ..NetfilterStatus::default() }),
        dns: DNS.map(|process| (process, Err(down(process)))).into(),
        doors: None,
    }
}

fn down(process: Process) -> Away {
    Away { process, socket: format!("/run/steppe/{}.sock", process.name()).into(), kind: AwayKind::NoSocket }
}

#[test]
fn everything_that_is_wrong_is_shown() {
    let status = Status::from(answers());
    assert_eq!(status.exit_code(), 1);
    assert_eq!(
        status.render(Paint::Plain),
        "\
n17  DEGRADED
COMPONENT        VERSION  UP    IN FORCE  STATE
control          1.2.0    3d4h  -         ok
proxy            1.2.0    3d4h  r8812     ok
netfilter-agent  1.1.4    9d1h  r8810     behind 2 (1.3s)
dns              -        -     -         DOWN 42s: names fail, traffic unaffected (there is no /run/steppe/dns.sock)
SOURCE  STATE        AGE    LAST ERROR
docker  live         0s     -
consul  stale, kept  4m12s  500 No cluster leader
workloads 41 (3 without an address)  services 2 (1 empty)  ignored tags 1
ignored: `connect_to=web:x` (tag of Consul service api-1): port
next: see the log of steppe-netfilter-agent
"
    );
}

#[test]
fn all_well_has_nothing_next() {
    let mut answers = answers();
    let control = answers.control.as_mut().unwrap();
    *control = ControlStatus {
        about: control.about.clone(),
        node: "n17".into(),
        agents: vec![agent("proxy", 3, 3, 0), agent("netfilter-agent", 4, 3, 10)],
        workloads: 1,
        ..ControlStatus::default()
    };
    let status = Status::from(answers);
    assert_eq!((status.exit_code(), &status.next), (0, &None));
    assert!(status.render(Paint::Plain).starts_with("n17  OK\n"));
}

#[test]
fn control_that_has_not_planned_yet_is_not_well() {
    let mut answers = answers();
    let control = answers.control.as_mut().unwrap();
    control.about.as_mut().unwrap().synced = false;
    control.sources[1].state = SourceState::Starting.into();
    let text = Status::from(answers).render(Paint::Plain);
    assert!(
        text.contains("-         waits for its sources: consul has not given its first listing"),
        "{text}"
    );
    assert!(text.contains("next: see that consul answers steppe-control"), "{text}");
}

#[test]
fn rejections_are_listed() {
    let mut answers = answers();
    let control = answers.control.as_mut().unwrap();
    control.sources.clear();
    let rejected = vec![Reject { version: 0, id: "web:80/tcp".into(), reason: "in use".into() }];
    control.agents = vec![AgentStatus { rejected, ..agent("proxy", 3, 3, 0) }];
    let text = Status::from(answers).render(Paint::Plain);
    assert!(text.contains("rejects 1\n"), "{text}");
    assert!(text.contains("rejected by proxy: web:80/tcp: in use\n"), "{text}");
    assert!(text.contains("next: remove the reasons"), "{text}");
}

#[test]
fn with_control_down_the_agents_speak_for_themselves() {
    let mut answers = answers();
    answers.control = Err(down(Process::Control));
    answers.proxy = Err(down(Process::Proxy));
    let status = Status::from(answers);
    assert_eq!(status.exit_code(), 1);
    let text = status.render(Paint::Plain);
    assert!(
        text.contains("DOWN: traffic goes on, changes wait (there is no /run/steppe/control.sock)"),
        "{text}"
    );
    assert!(text.contains("DOWN: connections to services fail"), "{text}");
    assert!(text.contains("netfilter-agent  1.1.4    9d1h  r8810     ok\n"), "{text}");
    assert!(text.contains("next: start steppe-control"), "{text}");
    assert!(!text.contains("workloads"), "{text}");
}

#[test]
fn what_becomes_of_connections_without_the_proxy_is_shown() {
    let state = |proxy: Answer<ProxyStatus>, seen: AgentStatus, takeover_in_force: bool| {
        let control = ControlStatus { agents: vec![seen], takeover_in_force, ..ControlStatus::default() };
        let mut answers = Answers { control: Ok(control), proxy, ..answers() };
        if let Ok(proxy) = &mut answers.proxy {
            proxy.about = about("1.2.0", 1, 1);
        }
        Status::from(answers).components.swap_remove(1).state
    };
    let away = |for_ms| AgentStatus {
        state: AgentState::Down.into(),
        error: "refused".into(),
        for_ms,
        ..agent("proxy", 0, 0, 0)
    };
    let live = || agent("proxy", 1, 1, 0);
    let drains = || ProxyStatus { draining: true, active_connections: 3, ..ProxyStatus::default() };

    let text = state(Err(down(Process::Proxy)), away(4000), true);
    assert!(text.starts_with("DOWN 4s: the kernel carries new connections (there is no"), "{text}");
    let text = state(Err(down(Process::Proxy)), away(4000), false);
    assert!(text.starts_with("DOWN 4s: connections to services fail"), "{text}");
    let text = state(Ok(drains()), live(), true);
    assert_eq!(text, "draining: the kernel carries new connections, 3 are open here");
    let text = state(Ok(drains()), live(), false);
    assert_eq!(text, "draining: it has been told to stop, 3 connections are open");
    let syncing = AgentStatus { state: AgentState::Syncing.into(), ..live() };
    let text = state(Ok(ProxyStatus::default()), syncing, true);
    assert_eq!(text, "syncing: the kernel carries new connections");
    let text = state(Ok(ProxyStatus::default()), away(1000), true);
    assert_eq!(text, "not connected to control for 1s: the kernel carries new connections (refused)");
    let text = state(Ok(ProxyStatus::default()), live(), true);
    assert_eq!(text, "ready: the kernel carries new connections still");
    assert_eq!(state(Ok(ProxyStatus::default()), live(), false), "ok");
}

#[test]
fn a_flood_of_ignored_items_leaves_the_advice_on_the_screen() {
    let mut answers = answers();
    let ignored = |n: u32| Ignored { origin: format!("label of container {n:03}"), ..Ignored::default() };
    if let Ok(control) = &mut answers.control {
        control.ignored = (0..500).rev().map(ignored).collect();
    }
    let text = Status::from(answers).render(Paint::Plain);
    assert!(text.lines().count() < 40, "{text}");
    assert!(text.contains("container 000") && text.contains("ignored: 480 more"), "{text}");
}

/// dns as it is when all is well.
fn dns() -> DnsStatus {
    DnsStatus {
        about: about("1.2.0", 1, 9),
        listening: vec!["169.254.77.53:53".into()],
        upstreams: vec![Upstream::default()],
        ..DnsStatus::default()
    }
}

#[test]
fn names_are_answered_by_one_or_by_two() {
    let rows = |control: &[AgentStatus], says: [Answer<DnsStatus>; 3]| {
        let mut answers = answers();
        answers.control.as_mut().unwrap().agents = control.to_vec();
        answers.dns = DNS.into_iter().zip(says).collect();
        let rows = Status::from(answers).components.split_off(3);
        rows.into_iter().map(|row| (row.name, row.ok, row.state)).collect::<Vec<_>>()
    };
    let none = |process| Err(down(process));
    let [alone, a, b] = DNS;
    assert_eq!(rows(&[], [none(alone), none(a), none(b)]), []);
    let live = |name: &str| agent(name, 9, 9, 0);
    let one = rows(&[live("dns")], [Ok(dns()), none(a), none(b)]);
    assert_eq!(one, [("dns".to_owned(), true, "ok".to_owned())]);
    let gone = AgentStatus { state: AgentState::Down.into(), for_ms: 3000, ..live("dns-b") };
    let died = Err(Away { kind: AwayKind::NobodyListens, ..down(b) });
    let two = rows(&[live("dns-a"), gone], [none(alone), Ok(dns()), died]);
    assert_eq!(two[0], ("dns-a".to_owned(), true, "ok".to_owned()));
    assert!(!two[1].1 && two[1].2.starts_with("DOWN 3s: the other answers for names"), "{two:?}");
    let state = |status: DnsStatus| rows(&[live("dns")], [Ok(status), none(a), none(b)]).swap_remove(0).2;
    assert_eq!(state(DnsStatus { draining: true, ..dns() }), "draining: it has been told to stop");
    let nowhere = state(DnsStatus { listening: Vec::new(), ..dns() });
    assert_eq!(nowhere, "listens nowhere: names fail, traffic unaffected");
    assert!(state(DnsStatus { upstreams: Vec::new(), ..dns() }).starts_with("knows no resolver"));
}

#[test]
fn doors_networks_and_who_is_not_on_one_are_told() {
    let mut answers = answers();
    let door = |name: DoorName, mode: DoorMode| DoorState {
        name: name.into(),
        mode: mode.into(),
        refused_total: 412,
    };
    answers.doors = Some(ListDoorsResponse {
        doors: vec![door(DoorName::Dns, DoorMode::Enforce), door(DoorName::Published, DoorMode::Audit)],
        ..ListDoorsResponse::default()
    });
    let control = answers.control.as_mut().unwrap();
    control.agents = vec![agent("proxy", 3, 3, 0), agent("netfilter-agent", 4, 4, 0)];
    (control.sources, control.ignored) = (Vec::new(), Vec::new());
    (control.services_empty, control.workloads_without_address) = (0, 0);
    control.moved_networks = vec![MovedNetwork {
        user: "alice".into(),
        subnet: "10.209.8.0/24".into(),
        reason: "10.209.7.0/24 is routed to eth1".into(),
    }];
    let text = |answers: &Answers| Status::from(answers.clone()).render(Paint::Plain);
    let said = text(&answers);
    let line =
        "workloads 41  services 2  ignored tags 0  doors: published audit, would have refused 412 packets\n";
    assert!(said.contains(line), "{said}");
    assert!(
        said.contains("moved: network of alice is 10.209.8.0/24 here: 10.209.7.0/24 is routed to eth1\n"),
        "{said}"
    );
    assert!(said.ends_with("next: steppe doctor --audit\n"), "{said}");
    answers.control.as_mut().unwrap().workloads_not_attached = 1;
    let said = text(&answers);
    assert!(said.contains("workloads 41 (1 not on their user's network)"), "{said}");
    assert!(said.ends_with("next: steppe workloads\n"), "{said}");
    answers.control.as_mut().unwrap().missing_networks =
        vec![MissingNetwork { user: "bob".into(), reason: "no /24 of 10.208.0.0/12 is free".into() }];
    let said = text(&answers);
    assert!(said.contains("no network: bob gets none: no /24 of 10.208.0.0/12 is free\n"), "{said}");
    assert!(said.ends_with("next: steppe network ls\n"), "{said}");
    answers.control = Err(down(Process::Control));
    assert!(text(&answers).contains("\ndoors: published audit, would have refused 412 packets\n"));
}
