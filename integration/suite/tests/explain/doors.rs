//! Addresses that are no virtual IPs: the door that is on the way is named with its rule and what it counted, and doing what `fix`
//! says makes the traffic flow.

use std::net::Ipv4Addr;

use steppe_testbed::Outcome;

use super::*;

/// A user of a host who is nobody in particular.
const NOBODY: u32 = 60_799;
/// From those that Nomad takes.
const PORT: u16 = 24_011;

/// Starts Steppe with the doors of published ports shut.
fn start_shut(host: &Host) {
    host.suite.control.arg("--door=published=enforce").arg("--door=leaving=enforce");
    host.suite.start();
}

/// Where bob's pg is published.
fn pg(host: &Host) -> SocketAddr {
    (host.address, PORT).into()
}

/// bob's container, published on the host.
fn run_pg() -> Run {
    Run::serve("pg-1", 5432)
        .label("steppe.user", "bob")
        .label("steppe.service", "pg:5432")
        .publish_at(5432, &PORT.to_string())
}

fn local(host: &Host, to: SocketAddr) -> Outcome {
    let told = host.probe(NOBODY, &["dial", "--timeout-ms", "1500", &format!("tcp/{to}")]).ok();
    let outcome = told.split_once(' ').map_or("", |(_, outcome)| outcome.trim());
    outcome.parse().unwrap_or_else(|error| panic!("{told}: {error}"))
}

#[track_caller]
fn closed(reason: &'static str, link: &'static str, fix: &'static str) -> Expected<'static> {
    Expected { code: 1, reason, link, fix }
}

/// Waits until the answer's text has all of these.
#[track_caller]
fn says(host: &Host, workload: &str, address: &str, code: i32, parts: &[&str]) {
    eventually(SOON, &format!("{workload} -> {address}: {parts:?}"), || {
        let asked = Explained::ask(host, workload, address);
        let told = asked.code == code && parts.iter().all(|part| asked.text.contains(part));
        told.then_some(()).ok_or(format!("code {}\n{}", asked.code, asked.text))
    });
}

#[test]
fn a_published_port_that_is_closed_is_opened_as_fix_says() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    start_shut(a);
    let first = a.docker.run(run_pg());
    let stranger = a.docker.run(Run::idle("stranger"));
    let (at, loopback) = (pg(a).to_string(), SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));

    let shut = closed("published ports are closed to workloads", "published", "steppe.expose=host");
    broken(a, "stranger", &at, &shut);
    refused(&stranger, pg(a));
    let rule = "inet steppe dialled; ";
    says(a, "stranger", &at, 1, &["is published for pg-1", rule, "1 packet refused so far"]);
    assert_eq!(local(a, loopback), Outcome::Refused);
    let shut = closed("published ports are closed to local processes", "published", "--local-allow UID");
    broken(a, "host", &loopback.to_string(), &shut);
    says(a, "host", &loopback.to_string(), 1, &["inet steppe dialled_locally; ", "root"]);

    // Its port stays closed when it goes.
    first.remove();
    let gone = closed("the container that had the port is gone", "published", "in two minutes");
    broken(a, "stranger", &at, &gone);
    let _again = a.docker.run(run_pg().label("steppe.expose", "host"));
    reaches(&stranger, pg(a));
    works(a, "stranger", &at);
    assert_eq!(local(a, loopback), Outcome::Ok("pg-1".into()));
    works(a, "host", &loopback.to_string());
    cluster.assert_no_leak();
}

#[test]
fn a_door_that_watches_lets_pass_and_its_audit_says_what_it_would_cut() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    eventually(SOON, "nothing would be cut yet", || {
        let audit = a.steppe(&["doctor", "--audit"]);
        let told =
            audit.stdout.contains(": nothing would have been refused; watched for ") && audit.code == 0;
        told.then_some(()).ok_or(audit.stdout)
    });

    let _pg = a.docker.run(run_pg());
    let stranger = a.docker.run(Run::idle("stranger"));
    let at = pg(a).to_string();
    says(a, "stranger", &at, 0, &[" warn  published ", "audit: it passes", "steppe.expose=host"]);
    assert_eq!(reaches(&stranger, pg(a)), "pg-1");
    says(a, "stranger", &at, 0, &["1 packet counted so far"]);

    let audit = a.steppe(&["doctor", "--audit"]);
    assert_eq!(audit.code, 1, "{}", audit.stdout);
    let row = audit.stdout.lines().find(|line| line.starts_with("published ")).unwrap_or_default();
    let row: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(row, ["published", "audit", "1", "bob", "pg-1", "24011/tcp"], "{}", audit.stdout);
    assert!(audit.stdout.contains("steppe-control --door published=enforce"), "{}", audit.stdout);
    let json: Value = serde_json::from_str(&a.steppe(&["--json", "doctor", "--audit"]).stdout).expect("JSON");
    assert_eq!(json["cut"][0]["port"], "24011/tcp");
    let status = a.steppe(&["status"]).stdout;
    let line = "doors: published, leaving audit, would have refused 1 packet";
    assert!(status.contains(line), "{status}");
    assert!(status.ends_with("next: steppe doctor --audit\n"), "{status}");
    cluster.assert_no_leak();
}

#[test]
fn another_hosts_published_port_is_reached_by_grant() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    for host in [a, b] {
        start_shut(host);
    }
    let web = b.docker.run(Run::serve("web-1", 80).publish_at(80, &PORT.to_string()));
    b.consul.register(&Service::new("web").id("web-1").at(b.address, PORT));
    let at = pg(b);
    assert_eq!(web.published(80), PORT);
    let api = consume(a, "api", "none:80");
    let expected =
        closed("published ports of other hosts are closed to workloads", "leaving", "connect_to=NAME");
    broken(a, "api", &at.to_string(), &expected);
    refused(&api, at);
    says(a, "api", &at.to_string(), 1, &["inet steppe leaving_in; ", "1 packet refused so far"]);
    tagged(a, &api, "api", &["connect_to=web:80"]);
    assert_eq!(reaches(&api, vip(a, "web", 80)), "web-1");
    let expected = Expected { fix: "connect_to=web", ..expected };
    broken(a, "api", &at.to_string(), &expected);
    assert_eq!(local(a, at), Outcome::Refused);
    says(a, "host", &at.to_string(), 1, &["inet steppe leaving_out; ", "local processes"]);
    cluster.assert_no_leak();
}

#[test]
fn members_of_a_network_reach_each_other_and_nobody_else() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users=alice").arg("--users=bob");
    a.suite.start();
    networks_of(a, &["alice", "bob"]);
    let on = |name: &str, user: &str| {
        Run::serve(name, 5432).label("steppe.user", user).network(&format!("steppe-{user}"))
    };
    let (db, api) = (a.docker.run(on("db", "alice")), a.docker.run(on("api", "alice")));
    let eve = a.docker.run(on("eve", "bob"));
    let at = SocketAddr::from((db.address(), 5432));
    assert_eq!(reaches(&api, at), "db");
    let yes = works(a, "api", "db:5432");
    assert!(
        yes.text.contains(&format!("db -> {}, a member of the network of alice", db.address())),
        "{}",
        yes.text
    );
    works(a, "api", &at.to_string());

    let shut = closed("networks are kept apart", "networks", "connect_to=NAME");
    broken(a, "eve", &at.to_string(), &shut);
    assert!(!eve.connect(at).outcome.is_ok());
    says(
        a,
        "eve",
        &at.to_string(),
        1,
        &["between the network of bob and the network of alice", "inet steppe crossing"],
    );
    broken(
        a,
        "host",
        &at.to_string(),
        &closed("networks are closed to local processes", "networks", "--local-allow"),
    );
    assert_eq!(local(a, at), Outcome::Refused);

    // On somebody else's network nobody is heard.
    let spy = a.docker.run(Run::idle("spy").label("steppe.user", "bob").network("steppe-alice"));
    let reason = "it is on the network of alice";
    let fix = broken(
        a,
        "spy",
        "db:5432",
        &Expected { code: 3, reason, link: "network", fix: "--network steppe-bob" },
    );
    says(a, "spy", &at.to_string(), 3, &["nobody on the network hears it", "--network steppe-bob"]);
    assert!(!spy.connect(at).outcome.is_ok(), "{fix}");
    cluster.assert_no_leak();
}

#[test]
fn steppes_own_addresses_are_reached_by_grant() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    let stranger = a.docker.run(Run::idle("stranger"));
    let web = vip(a, "web", 80);
    reaches(&api, web);
    let yes = works(a, "api", "web:80");
    let listener = between(&yes.text, "listener  ", ",").to_owned();
    let shut = closed("a listener is reached through a grant alone", "listener", "connect_to=web");
    broken(a, "stranger", &listener, &shut);
    refused(&stranger, listener.parse().expect("an address"));

    works(a, "api", "169.254.77.53:53/udp");
    let shut = closed("dns is closed to local processes", "dns", "steppe dns query --as");
    broken(a, "host", "169.254.77.53:53", &shut);
    let nothing = Explained::ask(a, "api", "192.0.2.1:80");
    assert_eq!(nothing.code, 0, "{}", nothing.text);

    // Names, while dns is away, and afterwards.
    a.suite.dns.kill();
    let expected = Expected { code: 3, reason: "dns is down", link: "name", fix: "start steppe-dns " };
    broken(a, "api", "web:80", &expected);
    works(a, "api", &web.to_string());
    a.suite.dns.start();
    works(a, "api", "web:80");
    cluster.assert_no_leak();
}
