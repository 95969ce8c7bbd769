//! Instances that go, and instances that are dead although nobody says so: what their clients notice of it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use steppe_testbed::{Attempt, Cluster, Container, Host, Outcome, Run, Service, eventually};

use crate::common::{
    SOON, consume,
    held::{Held, hold},
    reach::reaches,
    vip,
    world::listener,
};

/// Gossip must find out that a host is dead, on a machine that may be busy.
const GOSSIP: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(5);
/// So many connections in a row say that an instance is out of the rotation: with one other it has each second turn.
const ROUNDS: usize = 40;
/// Short, so that the test is; the default is a second.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// What a busy machine may add to it.
const BUSY: Duration = Duration::from_millis(600);

/// An instance whose check the test sets.
fn provide(host: &Host, service: &str, instance: &str) -> Container {
    let container = host.docker.run(Run::serve(instance, 80).publish(80));
    let port = container.published(80);
    host.consul.register(&Service::new(service).id(instance).at(host.address, port).ttl_check());
    container
}

/// Waits until the proxy gives an instance no more connections, and then looks that it gets none.
fn assert_left_out(host: &Host, client: &Container, to: SocketAddr, instance: &str, endpoint: SocketAddr) {
    let began = Instant::now();
    eventually(GOSSIP, &format!("the proxy leaves out {instance}"), || {
        let listener = listener(host, "web").ok_or("no listener")?;
        if listener.endpoints.contains(&endpoint) { Err(format!("{listener:?}")) } else { Ok(()) }
    });
    println!("{instance} left out after {:?}", began.elapsed());
    for attempt in connects(client, to) {
        assert_ne!(attempt.outcome.name(), Some(instance));
    }
}

/// Connects again and again; each must succeed.
fn connects(client: &Container, to: SocketAddr) -> Vec<Attempt> {
    let attempts: Vec<_> = (0..ROUNDS).map(|_| client.connect(to)).collect();
    for attempt in &attempts {
        assert!(attempt.outcome.is_ok(), "{attempt}");
    }
    attempts
}

#[test]
fn an_instance_that_goes_gets_no_new_connection_and_drains() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.start();
    let [web_1, web_2, web_3] = [(a, "web-1"), (b, "web-2"), (b, "web-3")].map(|(h, i)| provide(h, "web", i));
    let at_1 = SocketAddr::from((web_1.address(), 80));
    let [at_2, at_3] = [web_2, web_3].map(|web| SocketAddr::from((b.address, web.published(80))));
    a.consul.wait_passing("web", 3, SOON);
    let api = consume(a, "api", "web:80");
    let web = vip(a, "web", 80);
    eventually(SOON, "the three are served", || {
        let all = listener(a, "web").is_some_and(|listener| listener.endpoints.len() == 3);
        (all && api.connect(web).outcome.is_ok()).then_some(()).ok_or("not yet")
    });

    // Round robin gives each a connection of its own to keep.
    let mut held: Vec<Held> = (0..3).map(|_| hold(&api, web)).collect();
    held.sort_by(|a, b| a.server.cmp(&b.server));
    let [mut to_1, mut to_2, to_3] = <[Held; 3]>::try_from(held).expect("three were made");
    assert_eq!([&*to_1.server, &*to_2.server, &*to_3.server], ["web-1", "web-2", "web-3"]);
    // From here on no connection may fail, whatever happens to instances.
    let loops = a.docker.run(Run::connect("loop", web, INTERVAL));
    a.consul.register(&Service::new("loop").at(loops.address(), 1).tag("connect_to=web:80"));
    let loops = loops.lines();
    loops.attempts_until(SOON, "the loop is granted", |attempt| attempt.outcome.is_ok());

    b.consul.deregister("web-2");
    assert_left_out(a, &api, web, "web-2", at_2);
    a.consul.fail("web-1");
    assert_left_out(a, &api, web, "web-1", at_1);
    to_1.assert_open();
    to_2.assert_open();
    a.consul.pass("web-1");
    eventually(SOON, "web-1 is back", || {
        let attempt = api.connect(web);
        if attempt.outcome.name() == Some("web-1") { Ok(()) } else { Err(attempt.to_string()) }
    });

    // A power failure: nothing is told any more, and nothing answers.
    cluster.lan.cut("b");
    b.crash();
    let (_, last) = loops.attempts_until(SOON, "a connection after the crash", |attempt| {
        attempt.took() >= Duration::from_millis(900)
    });
    println!("the crash was noticed by a connection that took {:?}", last.took());
    assert_left_out(a, &api, web, "web-3", at_3);
    to_1.assert_open();
    for line in loops.drain() {
        let attempt: Attempt = line.parse().expect("a line of the loop");
        assert!(attempt.outcome.is_ok(), "{attempt}");
    }
    cluster.assert_no_leak();
}

#[test]
fn a_dead_instance_that_consul_calls_healthy_costs_the_client_nothing() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.proxy.arg(format!("--connect-timeout={}ms", CONNECT_TIMEOUT.as_millis()));
    a.suite.start();
    // No checks, and all registered on a, whose agent goes on: Consul never learns that any of them is dead.
    let instance = |service: &str, host: &Host, name: &str| {
        let container = host.docker.run(Run::serve(name, 80).publish(80));
        let at = SocketAddr::from((host.address, container.published(80)));
        a.consul.register(&Service::new(service).id(name).at(host.address, at.port()));
        (container, at)
    };
    let (_web_1, _) = instance("web", a, "web-1");
    let (web_2, web_2_at) = instance("web", b, "web-2");
    let (_db_1, _) = instance("db", a, "db-1");
    let (_db_2, db_2_at) = instance("db", b, "db-2");
    let api = consume(a, "api", "web:80, db:80");
    let [web, db] = ["web", "db"].map(|service| vip(a, service, 80));
    for (vip, name) in [(web, "web-2"), (db, "db-2")] {
        eventually(SOON, &format!("{name} is served"), || {
            let attempt = api.connect(vip);
            if attempt.outcome.name() == Some(name) { Ok(()) } else { Err(attempt.to_string()) }
        });
    }

    // Its port answers with a reset: nothing is lost, and hardly any time.
    web_2.kill();
    let attempts = connects(&api, web);
    let slowest = attempts.iter().map(Attempt::took).max().unwrap_or_default();
    println!("a killed instance: the slowest of {} connects took {slowest:?}", attempts.len());
    assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Ok("web-1".into())));
    assert!(slowest < CONNECT_TIMEOUT, "{slowest:?}");
    assert_ejected(a, &api, "web", web_2_at);

    // Nothing answers at all: the time-out is the price, until it is ejected.
    cluster.lan.cut("b");
    let attempts = connects(&api, db);
    let slowest = attempts.iter().map(Attempt::took).max().unwrap_or_default();
    let slow = attempts.iter().filter(|attempt| attempt.took() >= CONNECT_TIMEOUT).count();
    println!("a silent instance: {slow} of {} connects waited, the slowest {slowest:?}", attempts.len());
    assert!(attempts.iter().all(|attempt| attempt.outcome == Outcome::Ok("db-1".into())));
    assert!(slowest < CONNECT_TIMEOUT + BUSY, "{slowest:?}");
    assert_eq!(slow, 5, "five failures eject it, and then nobody waits");
    assert_ejected(a, &api, "db", db_2_at);
    cluster.assert_no_leak();
}

/// The proxy has ejected the endpoint, the people are told so, and nobody waits for it any more.
fn assert_ejected(host: &Host, client: &Container, service: &str, endpoint: SocketAddr) {
    let listener = listener(host, service).expect("it is in force");
    assert_eq!(listener.ejected, [endpoint], "{listener:?}");
    let explained = host.steppe(&["explain", &client.name, &format!("{service}:80")]);
    assert_eq!(explained.code, 0, "{}", explained.stdout);
    assert!(explained.stdout.contains(&format!("{endpoint} ejected")), "{}", explained.stdout);
    for attempt in connects(client, vip(host, service, 80)) {
        assert!(attempt.took() < CONNECT_TIMEOUT, "{attempt}");
    }
}

#[test]
fn the_last_instance_that_goes_drains_as_well_and_a_revoked_grant_cuts_what_is_left() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let _web = provide(a, "web", "web-1");
    let [kept, revoked] = ["kept", "revoked"].map(|name| consume(a, name, "web:80"));
    let web = vip(a, "web", 80);
    for client in [&kept, &revoked] {
        reaches(client, web);
    }
    let [mut to_kept, mut to_revoked] = [&kept, &revoked].map(|client| hold(client, web));
    a.consul.deregister("web-1");
    eventually(SOON, "the service is gone", || {
        let outcome = kept.connect(web).outcome;
        if outcome == Outcome::Refused && listener(a, "web").is_none() { Ok(()) } else { Err(outcome) }
    });
    to_kept.assert_open();
    to_revoked.assert_open();
    a.consul.register(&Service::new("revoked").at(revoked.address(), 1));
    assert_ne!(to_revoked.wait_cut(SOON), Outcome::Eof);
    to_kept.assert_open();
    cluster.assert_no_leak();
}
