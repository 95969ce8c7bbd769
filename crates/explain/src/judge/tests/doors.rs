//! Addresses that are no virtual IPs: which door is on the way.

use steppe_api::v1::{
    DoorCount, DoorMode, DoorName, DoorState, Doors, EndpointState, Expose, ListDoorsResponse, Network,
    PublishedPort, Workload, WorkloadState,
};

use super::{world::ID, *};

/// This host's own address, and a peer's.
const HERE: &str = "10.0.0.9";
const PEER: &str = "10.0.0.5";
const ALL: [DoorName; 5] =
    [DoorName::Spoofing, DoorName::Networks, DoorName::Published, DoorName::Leaving, DoorName::Dns];

fn published(port: u32, expose: Expose) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp.into(),
        port,
        expose: expose.into(),
        name: "pg-1".into(),
        user: "bob".into(),
        ..PublishedPort::default()
    }
}

fn workload_at(id: &str, ip: &str, bridge: &str) -> WorkloadState {
    let workload = Workload {
        ip: ip.into(),
        bridge: bridge.into(),
        name: id.into(),
        guarded: true,
        ..Workload::default()
    };
    WorkloadState { id: id.into(), workload: Some(workload), port_name: "veth9".into() }
}

/// Doors in one mode, each of which has refused api 12 packets.
fn asked(mode: DoorMode, workload: &str, address: &str) -> Facts {
    let mut facts = working();
    facts.query = Query { workload: workload.into(), service: address.into() };
    facts.dns = None;
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads[0].workload.as_mut().unwrap().guarded = true;
    firewall.workloads.push(workload_at("near", "172.26.64.7", "docker0"));
    firewall.workloads.push(workload_at("bobs", "10.210.1.3", "steppe-bob"));
    firewall.networks = Some(vec![Network {
        user: "bob".into(),
        bridge: "steppe-bob".into(),
        subnet: "10.210.1.0/24".into(),
        gateway: "10.210.1.1".into(),
    }]);
    let state = |name: DoorName| DoorState { name: name.into(), mode: mode.into(), refused_total: 20 };
    let count = |name: DoorName, workload: &str, port: &str| DoorCount {
        door: name.into(),
        workload: workload.into(),
        port: port.into(),
        packets_total: 12,
        ..DoorCount::default()
    };
    firewall.doors = Some(ListDoorsResponse {
        doors: ALL.map(state).into(),
        counts: vec![
            count(DoorName::Published, "", "24011/tcp"),
            count(DoorName::Published, "", "24012/tcp"),
            count(DoorName::Leaving, ID, ""),
            count(DoorName::Leaving, "another", ""),
            count(DoorName::Networks, ID, ""),
        ],
        settings: Some(Doors {
            doors: Vec::new(),
            peers: vec!["10.0.0.0/24".into()],
            local_uids: vec![100, 60_701],
            first_published_port: 20_000,
            last_published_port: 32_000,
        }),
        published: vec![
            published(24_011, Expose::Proxies),
            published(24_012, Expose::Host),
            published(24_013, Expose::Public),
            PublishedPort { addresses: vec!["127.0.0.1".into()], ..published(24_014, Expose::Proxies) },
        ],
        closed: vec!["24020/tcp".into(), format!("{HERE}:24021/tcp")],
    });
    facts
}

#[track_caller]
fn passes(facts: &Facts, link: &str, text: &str) {
    let explanation = judge(facts);
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    let last = explanation.links.last().unwrap();
    assert_eq!((last.name, &last.state), (link, &State::Ok), "{explanation:#?}");
    assert!(last.text.contains(text), "no `{text}` in {}", last.text);
}

#[test]
fn a_published_port_is_closed_to_workloads_and_names_its_rule_and_count() {
    let address = format!("{HERE}:24011");
    let facts = asked(DoorMode::Enforce, "api", &address);
    expect(&facts, Verdict::Refused, "published", "closed to workloads", "steppe.expose=host");
    let explanation = judge(&facts);
    assert_eq!(
        (explanation.workload.as_str(), explanation.service),
        ("api 3f2a19c0 (172.26.64.9, alice)", address)
    );
    let text = &explanation.links[1].text;
    for part in [
        "24011/tcp is published for pg-1",
        "10.0.0.0/24",
        "uids 100, 60701",
        "inet steppe",
        "12 packets refused",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
}

#[test]
fn a_door_that_only_watches_lets_pass_and_says_what_it_would_do() {
    let facts = asked(DoorMode::Audit, "api", &format!("{HERE}:24011"));
    let explanation = judge(&facts);
    assert_eq!((explanation.verdict, &explanation.reason), (Verdict::Yes, &None), "{explanation:#?}");
    let link = &explanation.links[1];
    assert!(
        matches!(&link.state, State::Watched(fault) if fault.fix.contains("steppe.expose=host")),
        "{link:#?}"
    );
    assert!(link.text.starts_with("audit: ") && link.text.contains("12 packets counted"), "{}", link.text);
    passes(&asked(DoorMode::Off, "api", &format!("{HERE}:24011")), "published", "off");
}

#[test]
fn a_port_that_is_exposed_is_open() {
    passes(&asked(DoorMode::Enforce, "api", &format!("{HERE}:24012")), "published", "steppe.expose=host");
    passes(&asked(DoorMode::Enforce, "host", "127.0.0.1:24013"), "published", "steppe.expose=public");
    passes(&asked(DoorMode::Enforce, "api", "127.0.0.1:24011"), "door", "the workload itself");
    passes(&asked(DoorMode::Enforce, "api", &format!("{HERE}:8080")), "door", "published for no workload");
}

#[test]
fn a_port_has_its_door_where_it_is_published() {
    let alone = "published for pg-1 at 127.0.0.1 alone";
    passes(&asked(DoorMode::Enforce, "api", &format!("{HERE}:24014")), "door", alone);
    let facts = asked(DoorMode::Enforce, "host", "127.0.0.1:24014");
    expect(&facts, Verdict::Refused, "published", "closed to local processes", "--local-allow UID");
    let facts = asked(DoorMode::Enforce, "api", &format!("{HERE}:24021"));
    expect(&facts, Verdict::Refused, "published", "gone", "two minutes");
    passes(&asked(DoorMode::Enforce, "host", "127.0.0.1:24021"), "door", "published for no workload");
}

#[test]
fn the_hosts_own_processes_are_told_by_uid() {
    let facts = asked(DoorMode::Enforce, "host", "127.0.0.1:24011");
    expect(&facts, Verdict::Refused, "published", "closed to local processes", "--local-allow UID");
    let text = judge(&facts).links[0].text.clone();
    assert!(text.contains("root and the uids 100, 60701"), "{text}");
}

#[test]
fn the_port_of_a_container_that_is_gone_stays_closed() {
    let facts = asked(DoorMode::Enforce, "api", &format!("{HERE}:24020"));
    expect(&facts, Verdict::Refused, "published", "is gone", "two minutes");
}

#[test]
fn a_peers_published_port_is_reached_by_grant() {
    let mut facts = asked(DoorMode::Enforce, "api", &format!("{PEER}:24099"));
    expect(&facts, Verdict::Refused, "leaving", "other hosts are closed to workloads", "connect_to=NAME");
    let text = judge(&facts).links[1].text.clone();
    assert!(text.contains("12 packets refused"), "{text}");
    // Somebody's grant leads there: its name is known.
    let there = EndpointState { address: Some(socket(PEER, 24_099)), ..EndpointState::default() };
    facts.proxy.as_mut().unwrap()[0].endpoints.push(there);
    expect(&facts, Verdict::Refused, "leaving", "closed to workloads", "connect_to=web");
    expect(
        &asked(DoorMode::Enforce, "host", &format!("{PEER}:24099")),
        Verdict::Refused,
        "leaving",
        "closed to local processes",
        "--local-allow",
    );
    passes(&asked(DoorMode::Enforce, "api", &format!("{PEER}:5432")), "door", "none of its published ports");
    passes(&asked(DoorMode::Enforce, "api", "192.0.2.1:24099"), "door", "no door of Steppe's");
    let mut unguarded = asked(DoorMode::Enforce, "api", &format!("{PEER}:24099"));
    unguarded.netfilter.as_mut().unwrap().workloads[0].workload.as_mut().unwrap().guarded = false;
    passes(&unguarded, "leaving", "not kept for it");
}

#[test]
fn a_port_is_needed_where_ports_have_doors() {
    for ip in [HERE, PEER] {
        let facts = asked(DoorMode::Enforce, "api", ip);
        let explanation = judge(&facts);
        assert_eq!(explanation.verdict, Verdict::Usage, "{explanation:#?}");
        assert!(explanation.reason.is_some_and(|reason| reason.contains("name a port")));
    }
    for ip in ["169.254.77.53", "127.0.0.1", "10.210.1.3", "192.0.2.1"] {
        assert_ne!(judge(&asked(DoorMode::Off, "api", ip)).verdict, Verdict::Usage, "{ip}");
    }
}

#[test]
fn networks_are_kept_apart() {
    let facts = asked(DoorMode::Enforce, "api", "10.210.1.3:80");
    expect(&facts, Verdict::Refused, "networks", "kept apart", "connect_to=NAME");
    let text = judge(&facts).links[1].text.clone();
    assert!(text.contains("between the network of bob and other bridges"), "{text}");
    passes(&asked(DoorMode::Enforce, "api", "172.26.64.7"), "networks", "both are on docker0");
    let host = asked(DoorMode::Enforce, "host", "10.210.1.3:80");
    expect(&host, Verdict::Refused, "networks", "closed to local processes", "--local-allow");
    passes(&asked(DoorMode::Enforce, "host", "172.26.64.7:80"), "door", "on no user's network");
    let nobody = asked(DoorMode::Enforce, "api", "10.210.1.77:80");
    expect(&nobody, Verdict::Broken, "networks", "nobody has the address", "steppe workloads");
}

#[test]
fn a_guarded_workload_sends_ipv4_alone() {
    let mut facts = asked(DoorMode::Enforce, "api", "[fd00::9]:24012");
    facts.local.push("fd00::9".parse().unwrap());
    expect(&facts, Verdict::Refused, "spoofing", "IPv4 alone", "dial it by IPv4");
    facts.netfilter.as_mut().unwrap().workloads[0].workload.as_mut().unwrap().guarded = false;
    passes(&facts, "published", "steppe.expose=host");
}

#[test]
fn who_is_not_bound_on_a_network_is_not_heard_there() {
    let mut facts = asked(DoorMode::Enforce, "api", "10.210.1.3:80");
    facts.netfilter.as_mut().unwrap().workloads.remove(0);
    let spy = workload(facts.control.as_mut().unwrap());
    spy.attachments[0].bridge = "steppe-bob".into();
    (spy.problem, spy.fix) = ("it belongs to alice".into(), "--network steppe-alice".into());
    expect(&facts, Verdict::Broken, "networks", "nobody on the network hears it", "--network steppe-alice");
}

#[test]
fn bridges_that_docker_keeps_apart_are_not_steppes_business() {
    let mut facts = asked(DoorMode::Enforce, "api", "172.30.0.2:80");
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.workloads.push(workload_at("far", "172.30.0.2", "br-1"));
    expect(&facts, Verdict::Unknown, "door", "Docker keeps its bridges apart", "connect_to=NAME");
}

#[test]
fn steppes_own_addresses() {
    let listener = asked(DoorMode::Off, "api", "169.254.77.54:17007");
    expect(&listener, Verdict::Refused, "listener", "through a grant alone", "connect_to=alice/web");
    let nobodys = asked(DoorMode::Enforce, "host", "169.254.77.54:1");
    expect(&nobodys, Verdict::Refused, "listener", "through a grant alone", "connect_to=NAME");
    passes(&asked(DoorMode::Enforce, "api", "169.254.77.53:53/udp"), "dns", "port veth1a2b3c4");
    let host = asked(DoorMode::Enforce, "host", "169.254.77.53");
    expect(&host, Verdict::Refused, "dns", "closed to local processes", "steppe dns query");
    let other = asked(DoorMode::Enforce, "api", "169.254.77.53:80");
    expect(&other, Verdict::Refused, "dns", "nothing else", "169.254.77.53:53");
    let mut unbound = asked(DoorMode::Enforce, "api", "169.254.77.53:53/udp");
    unbound.netfilter.as_mut().unwrap().workloads.remove(0);
    expect(&unbound, Verdict::Refused, "dns", "does not hear it", "steppe workloads");
}

#[test]
fn what_can_not_be_asked_is_unknown() {
    let mut facts = asked(DoorMode::Enforce, "api", &format!("{HERE}:24011"));
    facts.netfilter.as_mut().unwrap().doors = None;
    expect(&facts, Verdict::Unknown, "doors", "older than this", "upgrade steppe-netfilter-agent");
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Unknown, "doors", "netfilter-agent is down", "start steppe-netfilter-agent");
    let mut nobody = asked(DoorMode::Enforce, "nobody", &format!("{HERE}:24011"));
    nobody.control.as_mut().unwrap().pair =
        Pair { workload_problem: "no workload is it".into(), ..Pair::default() };
    expect(&nobody, Verdict::Unknown, "workload", "no workload is it", "steppe workloads");
    let mut hosts = asked(DoorMode::Enforce, "api", &format!("{HERE}:24011"));
    workload(hosts.control.as_mut().unwrap()).attachments.clear();
    expect(&hosts, Verdict::Unknown, "address", "no address of its own", "ask about `host`");
}

#[test]
fn doors_are_known_without_control() {
    let mut facts = asked(DoorMode::Enforce, IP, &format!("{HERE}:24011"));
    facts.control = Err(down(Process::Control));
    expect(&facts, Verdict::Refused, "published", "closed to workloads", "steppe.expose=host");
    facts.query.service = format!("{HERE}:x");
    assert_eq!(judge(&facts).verdict, Verdict::Usage);
}
