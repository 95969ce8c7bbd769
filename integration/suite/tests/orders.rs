//! The three orders in which a grant can come about, and their reverses, each alone. A connect loop inside a container
//! tells when each is in force, and that nothing unauthorised ever succeeded.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    time::Duration,
};

use serde_json::Value;
use steppe_integration::orders::{Felt, PORT, Stage, WITHIN, Wanted, since};
use steppe_testbed::{Cluster, Container, Host, Lines, Outcome, Run, Service, eventually, now_ns};

use crate::common::{SOON, vip};

const NODE: &str = "/v1/catalog/node/a";

/// A SYN is sent again after a second (RFC 6298, 2.1); the rest is a busy machine's.
const ONE_RETRANSMISSION: Duration = Duration::from_millis(1_900);

#[test]
fn a_container_starts_and_its_very_first_connect_succeeds() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    for nth in 0..5 {
        let started = stage.start(&format!("api-{nth}"));
        let (first, late) = (&started.first, since(started.up_ns, started.in_force_ns));
        assert_eq!(first.outcome, Outcome::Ok("web".into()), "{started:?}");
        assert!(first.took() < ONE_RETRANSMISSION, "{started:?}");
        assert!(late < nanoseconds(WITHIN), "in force {late} ns after it could send: {started:?}");
        started.container.remove();
    }
    let stranger = stage.host.docker.run(Run::connect_tightly("stranger", stage.web));
    let lines = refused_so_far(&stranger);
    nothing_but_refusals(&stranger, stage.web, &lines);
    cluster.assert_no_leak();
}

#[test]
fn a_container_starts_and_its_registration_follows() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let a = stage.host;
    let answers = a.consul.watch(NODE);
    let api = a.docker.run(Run::connect_tightly("api", stage.web));
    let lines = refused_so_far(&api);
    let register = || a.consul.register(&service("api", &api).tag("connect_to=web:80"));
    let felt = stage.change(register, &answers, has_service("api"), &lines, Wanted::Served);
    in_force_in_time(&felt);
    cluster.assert_no_leak();
}

#[test]
fn a_service_appears_to_which_a_running_container_already_connects() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let (a, late, api) = early(&stage);
    let answers = a.consul.watch("/v1/health/service/late");
    let lines = refused_so_far(&api);
    let register = || a.consul.register(&Service::new("late").at(stage.provider.address(), PORT));
    let felt = stage.change(register, &answers, is_not_empty, &lines, Wanted::Served);
    in_force_in_time(&felt);
    assert!(listener(a, "late").is_some());
    assert_eq!(api.connect(stage.web).outcome, Outcome::Refused, "it was granted `late`, not `web` {late}");
    cluster.assert_no_leak();
}

#[test]
fn a_running_service_gains_a_tag() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let a = stage.host;
    let api = a.docker.run(Run::connect_tightly("api", stage.web));
    let other = a.docker.run(Run::connect_tightly("other", stage.web));
    a.consul.register(&service("api", &api));
    a.consul.register(&service("other", &other));
    let answers = a.consul.watch(NODE);
    answers.until(SOON, "both are registered", |node| {
        (has_service("api")(node) && has_service("other")(node)).then_some(())
    });
    let (lines, other_lines) = (refused_so_far(&api), refused_so_far(&other));
    let gain = || a.consul.register(&service("api", &api).tag("connect_to=web:80"));
    let felt = stage.change(gain, &answers, has_tag("api"), &lines, Wanted::Served);
    in_force_in_time(&felt);
    nothing_but_refusals(&other, stage.web, &other_lines);
    cluster.assert_no_leak();
}

#[test]
fn a_container_goes_and_with_it_its_rule_client_and_workload() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let a = stage.host;
    let started = stage.start("api");
    let (address, mac) = (started.container.address(), started.container.mac());
    assert_eq!(started.first.outcome, Outcome::Ok("web".into()));
    assert!(a.nft(&["list", "ruleset"]).contains(&address.to_string()));
    eventually(SOON, "it is a client of web's listener", || is_client(a, address, true));

    let removed = stage.remove(&started.container);
    let late = since(removed.died_ns, removed.gone_ns);
    assert!(late < nanoseconds(WITHIN), "gone {late} ns after Docker's event");
    eventually(WITHIN, "neither a rule nor the proxy knows it", || {
        let rules = a.nft(&["list", "ruleset"]);
        let steppe = rules.lines().filter(|line| line.contains(&format!("{address} "))).collect::<Vec<_>>();
        if steppe.is_empty() { is_client(a, address, false) } else { Err(steppe.join("\n")) }
    });

    let next = a.docker.run(Run::connect_tightly("next", stage.web));
    assert_eq!((next.address(), next.mac()), (address, mac), "Docker gives them to the next container");
    let lines = refused_so_far(&next);
    nothing_but_refusals(&next, stage.web, &lines);
    cluster.assert_no_leak();
}

#[test]
fn a_service_goes_and_its_port_refuses() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let (a, late, api) = early(&stage);
    let answers = a.consul.watch("/v1/health/service/late");
    let lines = api.lines();
    let register = || a.consul.register(&Service::new("late").at(stage.provider.address(), PORT));
    stage.change(register, &answers, is_not_empty, &lines, Wanted::Served);
    let at = listener(a, "late").expect("it has one");
    assert!(a.nft(&["list", "map", "inet", "steppe", "listeners"]).contains(&at.port().to_string()));

    let felt = stage.change(
        || a.consul.deregister("late"),
        &answers,
        |answer| !is_not_empty(answer),
        &lines,
        Wanted::Refused,
    );
    gone_in_time(&felt);
    eventually(WITHIN, "its listener is gone", || match listener(a, "late") {
        None => Ok(()),
        Some(at) => Err(at),
    });
    assert_eq!(a.connect(at, SOON).outcome, Outcome::Refused, "nobody listens there any more");
    let listeners = a.nft(&["list", "map", "inet", "steppe", "listeners"]);
    assert!(!listeners.contains(&late.ip().to_string()), "{listeners}");
    nothing_but_refusals(&api, late, &lines);
    cluster.assert_no_leak();
}

#[test]
fn a_tag_goes_and_live_connections_are_cut_on_both_ends() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let a = stage.host;
    // A server of the test's own, inside a container, that tells when it sees a connection end.
    let home = a.docker.run(Run::idle("db"));
    let server = home.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))).expect("a port is free");
    let port = server.local_addr().expect("it is bound").port();
    server.set_nonblocking(true).expect("fcntl");
    a.consul.register(&Service::new("db").at(home.address(), port));
    let api = a.docker.run(Run::idle("api"));
    let other = a.docker.run(Run::idle("other"));
    a.consul.register(&service("api", &api).tag("connect_to=db:5432"));
    a.consul.register(&service("other", &other).tag("connect_to=db:5432"));
    let db = vip(a, "db", 5432);
    let answers = a.consul.watch(NODE);
    answers.until(SOON, "api is registered", |node| has_tag("api")(node).then_some(()));

    let hold = |from: &Container| {
        let mut client = eventually(SOON, &format!("{} reaches db", from.name), || {
            from.enter(|| std::net::TcpStream::connect_timeout(&db, SOON))
        });
        let (mut accepted, _) = eventually(SOON, "the server sees it", || server.accept());
        accepted.set_nonblocking(false).expect("fcntl");
        client.write_all(b"?").expect("write");
        accepted.read_exact(&mut [0]).expect("read");
        for end in [&client, &accepted] {
            end.set_read_timeout(Some(SOON)).expect("a time-out");
        }
        (client, accepted)
    };
    let (client, accepted) = hold(&api);
    let (mut client_kept, mut accepted_kept) = hold(&other);

    a.consul.register(&service("api", &api));
    let (answered_ns, ()) =
        answers.until(SOON, "its tag is gone", |node| (!has_tag("api")(node)).then_some(()));
    for (what, mut end) in [("the client", client), ("the server", accepted)] {
        let seen = end.read(&mut [0]);
        let late = since(answered_ns, now_ns());
        assert!(late < nanoseconds(WITHIN), "{what} saw the end {late} ns after Consul's answer");
        match (what, seen) {
            (_, Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            ("the server", Ok(0)) => {}
            (_, other) => panic!("{what} saw {other:?}"),
        }
    }
    // The proxy may be faster than the rule, and resets a connection that it still leads there.
    let refused_ns = eventually(SOON, "a new one is refused", || match api.connect(db).outcome {
        Outcome::Refused => Ok(now_ns()),
        Outcome::Reset => Err("reset by the proxy"),
        other => panic!("a new connection: {other}"),
    });
    assert!(since(answered_ns, refused_ns) < nanoseconds(WITHIN), "new ones are refused late");
    accepted_kept.write_all(b"!").expect("write");
    client_kept.read_exact(&mut [0]).expect("another's connection stays");
    cluster.assert_no_leak();
}

/// A container that is granted `late`, which doesn't exist yet, and connects to it again and again.
fn early<'a>(stage: &Stage<'a>) -> (&'a Host, SocketAddr, Container) {
    let a = stage.host;
    let keeper = a.docker.run(Run::idle("early").label("steppe.connect_to", "late:80"));
    let late = vip(a, "late", PORT);
    let api = a.docker.run(Run::connect_tightly("api", late).label("steppe.connect_to", "late:80"));
    keeper.remove();
    (a, late, api)
}

/// What a loop prints after its first attempt, which was refused.
#[track_caller]
fn refused_so_far(container: &Container) -> Lines {
    let lines = container.lines();
    assert_eq!(lines.attempt(SOON).outcome, Outcome::Refused, "{}", container.name);
    lines
}

/// Before the change it was refused, and within a second after Consul's answer it is served.
#[track_caller]
fn in_force_in_time(felt: &Felt) {
    assert!(felt.before.iter().all(|attempt| attempt.outcome == Outcome::Refused), "{felt:?}");
    assert!(felt.first.end_ns > felt.asked_ns, "a success before the change was asked for: {felt:?}");
    assert!(felt.lag_ns() < nanoseconds(WITHIN), "{felt:?}");
}

/// Within a second after Consul's answer it is refused.
#[track_caller]
fn gone_in_time(felt: &Felt) {
    assert!(felt.first.end_ns > felt.asked_ns, "{felt:?}");
    assert!(felt.lag_ns() < nanoseconds(WITHIN), "{felt:?}");
}

/// The loop has seen nothing else since, and neither do twenty attempts more.
#[track_caller]
fn nothing_but_refusals(container: &Container, to: SocketAddr, lines: &Lines) {
    for _ in 0..20 {
        assert_eq!(container.connect(to).outcome, Outcome::Refused);
    }
    assert_eq!(lines.drain(), Vec::<String>::new(), "the loop prints what changes");
}

fn service(name: &str, container: &Container) -> Service {
    Service::new(name).at(container.address(), 1)
}

fn has_service(id: &'static str) -> impl Fn(&Value) -> bool {
    move |node| node["Services"][id].is_object()
}

fn has_tag(id: &'static str) -> impl Fn(&Value) -> bool {
    move |node| node["Services"][id]["Tags"].as_array().is_some_and(|tags| !tags.is_empty())
}

fn is_not_empty(answer: &Value) -> bool {
    answer.as_array().is_some_and(|instances| !instances.is_empty())
}

/// The proxy's listeners of one service.
fn listeners(host: &Host, service: &str) -> Vec<Value> {
    let request = format!("{{\"service\":\"{service}\"}}");
    let answer = host.grpcurl(&host.suite.proxy, &["-d", &request], &["steppe.v1.Proxy/ListListeners"]).ok();
    let answer: Value = serde_json::from_str(&answer).expect("grpcurl prints JSON");
    answer["listeners"].as_array().cloned().unwrap_or_default()
}

/// Where the proxy listens for a service, if it does.
fn listener(host: &Host, service: &str) -> Option<SocketAddr> {
    let listeners = listeners(host, service);
    let address = &listeners.first()?["listener"]["address"];
    let ip: Ipv4Addr = address["ip"].as_str()?.parse().ok()?;
    Some((ip, u16::try_from(address["port"].as_u64()?).ok()?).into())
}

/// Whether the proxy's listener for `web` takes connections of an address.
fn is_client(host: &Host, address: Ipv4Addr, wanted: bool) -> Result<(), String> {
    let listeners = listeners(host, "web");
    let clients = listeners.iter().flat_map(|listener| listener["clients"].as_array().into_iter().flatten());
    let found = clients.into_iter().any(|client| *client == address.to_string().as_str());
    if found == wanted { Ok(()) } else { Err(format!("{listeners:?}")) }
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
