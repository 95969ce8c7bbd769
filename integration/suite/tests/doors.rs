//! Doors by traffic: a check of Consul's under a uid of its own, Docker with a docker-proxy and without, and who claims to be
//! another user's.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, Outcome, Run, Service, eventually, now_ns};

use crate::common::{
    SOON,
    networks::of_user,
    reach::{reaches, refused, vip_of},
};

/// Whom Consul runs as.
const CONSUL: u32 = 60_798;
/// A user of a host who is nobody in particular.
const NOBODY: u32 = 60_799;
/// From those that Nomad takes.
const PORT: u16 = 24_012;
const DOCKER0: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

/// alice's container, published on every address of the host.
fn published() -> Run {
    let run = Run::serve_all("web-1", 80).label("steppe.service", "web:80");
    of_user(run, "alice").publish_both(80, None, PORT)
}

/// What comes of dialling PORT at an address, from a process of a host.
fn dial(host: &Host, uid: u32, protocol: &str, at: Ipv4Addr) -> Outcome {
    parse(&host.probe(uid, &["dial", "--timeout-ms", "1500", &format!("{protocol}/{at}:{PORT}")]).ok())
}

fn parse(told: &str) -> Outcome {
    let outcome = told.split_once(' ').map_or("", |(_, outcome)| outcome.trim());
    outcome.parse().unwrap_or_else(|error| panic!("{told}: {error}"))
}

/// Waits until the door is in force.
fn wait_shut(host: &Host, uid: u32, at: Ipv4Addr) {
    eventually(SOON, &format!("{at} is closed to {uid}"), || match dial(host, uid, "tcp", at) {
        Outcome::Refused => Ok(()),
        other => Err(other),
    });
}

/// What the door of published ports has refused.
fn refused_total(host: &Host) -> u64 {
    let method = "steppe.v1.NetfilterAgent/ListDoors";
    let told = host.grpcurl(&host.suite.netfilter_agent, &["-d", "{}"], &[method]).ok();
    let told: Value = serde_json::from_str(&told).unwrap_or_else(|e| panic!("{e}: {told}"));
    let mut doors = told["doors"].as_array().into_iter().flatten();
    let door = doors.find(|door| door["name"] == "DOOR_NAME_PUBLISHED").unwrap_or_else(|| panic!("{told}"));
    assert_eq!(door["mode"], "DOOR_MODE_ENFORCE");
    // A 64 bit number is a text in JSON, and 0 is left out.
    door["refusedTotal"].as_str().map_or(0, |count| count.parse().expect("a number"))
}

/// What Consul's agent says of the only check of a service.
fn check(host: &Host, service: &str) -> String {
    let checks = host.consul.call("GET", "/v1/agent/checks", &Value::Null);
    let all = checks.as_object().into_iter().flat_map(|checks| checks.values());
    let mut found = all.filter(|check| check["ServiceID"] == service);
    found.next().and_then(|check| check["Status"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_check_of_consuls_under_its_own_uid_passes_the_closed_door() {
    let cluster = Cluster::hosts(1).consul_uid(CONSUL).start();
    let a = cluster.one();
    a.suite.control.arg("--door=published=enforce");
    a.suite.start();
    let web = a.docker.run(published());
    let places = [("at-host", a.address), ("at-loopback", Ipv4Addr::LOCALHOST)];
    for (_, at) in places {
        wait_shut(a, NOBODY, at);
    }
    // Registered behind the closed door: each check is made from here on.
    let seen = places.map(|(service, at)| {
        let at = SocketAddr::from((at, PORT));
        a.consul.register(&Service::new(service).at(a.address, PORT).tcp_check(at));
        (service, a.consul.watch(&format!("/v1/health/checks/{service}")))
    });
    let came = web.lines();
    for (_, at) in places {
        // docker-proxy, which dials from docker0, is who takes what is sent to 127.0.0.1.
        let from = if at.is_loopback() { DOCKER0 } else { at };
        let line = format!("tcp {from}");
        for nth in ["first", "second", "third"] {
            came.until(SOON, &format!("the {nth} check of {at}"), |told| told.contains(&line).then_some(()));
        }
    }
    let before = refused_total(a);
    for (service, at) in places {
        assert_eq!(dial(a, NOBODY, "tcp", at), Outcome::Refused, "{at}");
        assert_eq!(check(a, service), "passing", "{service}");
    }
    assert!(refused_total(a) >= before + 2, "{before}, then {}", refused_total(a));

    let taken_away = now_ns();
    a.suite.control.arg(format!("--local-allow={NOBODY}"));
    a.suite.restart(&a.suite.control);
    for ((service, states), (_, at)) in seen.iter().zip(places) {
        // The first failure ever.
        let (failed, ()) = states.until(SOON, &format!("the check {service} fails"), |checks| {
            let mut checks = checks.as_array().into_iter().flatten();
            checks.any(|check| check["Status"] == "critical").then_some(())
        });
        assert!(failed > taken_away, "the check {service} failed behind a door that let Consul in");
        assert_eq!(dial(a, NOBODY, "tcp", at), Outcome::Ok("web-1".into()), "{at}");
    }
    cluster.assert_no_leak();
}

/// Who reaches a published port, at each address of the host.
fn published_ports(cluster: &Cluster) {
    let [a, b] = cluster.all();
    a.suite.control.arg("--door=published=enforce");
    a.suite.start();
    let _web = a.docker.run(published());
    let stranger = a.docker.run(Run::idle("stranger"));
    let all = [Ipv4Addr::LOCALHOST, a.address, DOCKER0];
    let served = Outcome::Ok("web-1".into());
    for at in all {
        wait_shut(a, NOBODY, at);
    }
    let before = refused_total(a);
    for protocol in ["tcp", "udp"] {
        for at in all {
            let outcome = dial(a, NOBODY, protocol, at);
            assert!(!outcome.is_ok() && outcome != Outcome::Timeout, "{protocol} {at}: {outcome}");
            assert_eq!(dial(a, 0, protocol, at), served, "{protocol} {at}, root");
        }
        for at in [a.address, DOCKER0] {
            let target = format!("{protocol}/{at}:{PORT}");
            let outcome = parse(&stranger.exec(&["probe", "dial", "--timeout-ms", "1500", &target]).ok());
            assert!(!outcome.is_ok() && outcome != Outcome::Timeout, "{target}, a stranger: {outcome}");
        }
        assert_eq!(dial(b, NOBODY, protocol, a.address), served, "{protocol}, a peer");
    }
    // Three addresses and two, by two protocols.
    assert!(refused_total(a) >= before + 10, "{before}, then {}", refused_total(a));
    cluster.assert_no_leak();
}

/// Whether a docker-proxy runs for a port.
fn has_docker_proxy(host: &Host) -> bool {
    let words = format!("-host-port {PORT}");
    host.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout.contains(&words)
}

#[test]
fn a_published_port_is_closed_with_a_docker_proxy() {
    let cluster = Cluster::hosts(2).without_consul().start();
    published_ports(&cluster);
    assert!(has_docker_proxy(cluster.all::<2>()[0]));
}

#[test]
fn a_published_port_is_closed_without_a_docker_proxy() {
    let cluster = Cluster::hosts(2).without_consul().start();
    let [a, _] = cluster.all();
    a.docker.daemon.arg("--userland-proxy=false");
    a.docker.stop();
    a.docker.start();
    published_ports(&cluster);
    assert!(!has_docker_proxy(a));
}

/// An instance of redis, of a user or of nobody.
fn redis(host: &Host, name: &str, user: Option<&str>) -> Container {
    let run = Run::serve(name, 1).label("steppe.service", "redis:1");
    host.docker.run(match user {
        Some(user) => of_user(run, user),
        None => run,
    })
}

/// A container that asks by label; `open` is nobody's and for everybody.
fn asks(run: Run, for_what: &str) -> Run {
    run.label("steppe.connect_to", &format!("{for_what}, open:80"))
}

#[test]
fn who_offers_or_claims_what_is_another_users_gets_nothing() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let _open = a.docker.run(Run::serve("open-1", 80).label("steppe.service", "open:80"));
    let own = redis(a, "alices", Some("alice"));
    let consumer = a.docker.run(of_user(asks(Run::idle("consumer"), "redis:1"), "alice"));
    let alices = vip_of(a, "alice", "redis", 1);
    assert_eq!(reaches(&consumer, alices), "alices");

    // Others offer what has the same name; they serve those who mean theirs.
    let _bobs = redis(a, "bobs", Some("bob"));
    let _nobodys = redis(a, "nobodys", None);
    let of_bob = a.docker.run(of_user(asks(Run::idle("of-bob"), "redis:1"), "bob"));
    let of_nobody = a.docker.run(asks(Run::idle("of-nobody"), "redis:1"));
    let bobs = vip_of(a, "bob", "redis", 1);
    let nobodys = vip_of(a, "", "redis", 1);
    assert_eq!(reaches(&of_bob, bobs), "bobs");
    assert_eq!(reaches(&of_nobody, nobodys), "nobodys");
    for _ in 0..20 {
        assert_eq!(consumer.connect(alices).outcome, Outcome::Ok("alices".into()));
    }

    // A claim by label, of bob's and of nobody's; one by a tag; one by labels that nobody reads.
    let bobs_claim = a.docker.run(of_user(asks(Run::idle("bobs-claim"), "alice/redis:1"), "bob"));
    let claim = a.docker.run(asks(Run::idle("claim"), "alice/redis:1"));
    let by_tag = a.docker.run(Run::idle("by-tag"));
    let registered = Service::new("by-tag").at(by_tag.address(), 1);
    a.consul.register(&registered.tag("connect_to=alice/redis:1").tag("connect_to=open:80"));
    let mut posing = asks(Run::idle("posing"), "redis:1");
    for label in ["user", "namespace", "steppe_user", "com.hashicorp.nomad.namespace"] {
        posing = posing.label(label, "alice");
    }
    let posing = a.docker.run(posing);
    for (claims, user) in [(&bobs_claim, "bob"), (&claim, ""), (&by_tag, ""), (&posing, "")] {
        // The rest of what it says is in force: its user's name for what is nobody's.
        let open = vip_of(a, user, "open", 80);
        assert_eq!(reaches(claims, open), "open-1", "{}", claims.name);
        refused(claims, alices);
    }
    assert_eq!(reaches(&posing, nobodys), "nobodys");

    own.remove();
    eventually(SOON, "alice has no redis", || match consumer.connect(alices).outcome {
        Outcome::Refused => Ok(()),
        Outcome::Ok(name) => panic!("alice's consumer was served by {name}"),
        other => Err(other),
    });
    for _ in 0..20 {
        refused(&consumer, alices);
    }
    for claims in [&consumer, &bobs_claim, &claim, &by_tag, &posing] {
        refused(claims, alices);
    }
    cluster.assert_no_leak();
}
