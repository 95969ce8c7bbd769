//! Consul and Docker away: what they said before stands, and when they are back every difference is made good.

use std::time::Duration;

use steppe_testbed::{Cluster, Container, Host, Outcome, Run, eventually, throughout};

use crate::common::{
    SOON, consume,
    stage::{Stage, register},
    vip,
    world::World,
};

/// The issue says a minute. What a longer time could change is a time-out that runs out meanwhile: control's own, of a query to
/// an agent that hangs (within 42 s), only makes it say `stale` and ask again, and the traffic doesn't depend on it.
const AWAY: Duration = Duration::from_secs(2);
/// Gossip and anti-entropy must find together again; the agents' own timers count in seconds.
const CONSUL: Duration = Duration::from_secs(60);

/// Looks all the time that nothing changes.
fn assert_nothing_changes(stage: &Stage<'_>, what: &str) {
    throughout(AWAY, what, || stage.world.compare_while_deaf(stage.host));
    stage.assert_undisturbed();
    stage.assert_refuses_now();
}

fn wait_source(host: &Host, source: &str, state: &str) {
    eventually(CONSUL, &format!("{source} is {state}"), || {
        let status = host.steppe(&["status"]).stdout;
        let line = status.lines().find(|line| line.starts_with(source)).unwrap_or_default().to_owned();
        if line.contains(state) { Ok(()) } else { Err(status) }
    });
}

/// A change that only Consul tells: a new service, a grant of it, and an instance less.
fn change(stage: &mut Stage<'_>, round: usize) {
    let a = stage.host;
    let service = format!("db-{round}");
    let db = a.docker.run(Run::serve(&format!("{service}-1"), 80));
    register(a, &service, &db);
    let client = consume(a, &format!("client-{round}"), &format!("{service}:80"));
    let at = (db.address(), 80).into();
    stage.world.workload(&db).endpoint(&service, at).grant(&client, &service).wait(a, CONSUL);
    assert!(client.connect(vip(a, &service, 80)).outcome.is_ok());
}

#[test]
fn consul_frozen_or_killed_changes_nothing() {
    let cluster = Cluster::hosts(1).start();
    let mut stage = Stage::set(&cluster);
    let a = stage.host;
    let mut held = stage.hold();
    a.consul.daemon.freeze();
    throughout(AWAY, "with an agent that hangs, all stays as it was", || stage.world.compare(a));
    stage.assert_undisturbed();
    held.assert_open();
    a.consul.daemon.thaw();
    change(&mut stage, 0);
    stage.assert_undisturbed();
    for round in 1..=2 {
        a.consul.daemon.kill();
        wait_source(a, "consul", "stale, kept");
        assert_nothing_changes(&stage, "without an agent all stays as it was");
        held.assert_open();
        a.consul.start();
        wait_source(a, "consul", "live");
        change(&mut stage, round);
        stage.assert_undisturbed();
    }
    cluster.assert_no_leak();
}

#[test]
fn consul_leaving_and_coming_back_changes_nothing() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    // Consul's default for a client: whoever restarts it makes it leave, and the catalogue forgets its node with all services.
    a.consul.daemon.terminate(CONSUL);
    a.consul.daemon.arg("-hcl=leave_on_terminate = true");
    a.consul.start();
    let mut stage = Stage::set(&cluster);
    let mut held = stage.hold();
    for round in 1..=2 {
        a.consul.daemon.terminate(CONSUL);
        wait_source(a, "consul", "stale, kept");
        assert_nothing_changes(&stage, "without an agent all stays as it was");
        a.consul.start();
        wait_source(a, "consul", "live");
        change(&mut stage, round);
        held.assert_open();
        stage.assert_undisturbed();
    }
    cluster.assert_no_leak();
}

#[test]
fn consul_without_a_leader_changes_nothing() {
    let cluster = Cluster::hosts(1).start();
    let mut stage = Stage::set(&cluster);
    let a = stage.host;
    let mut held = stage.hold();
    cluster.consul_server.daemon.kill();
    wait_source(a, "consul", "stale, kept");
    assert_nothing_changes(&stage, "without a leader all stays as it was");
    held.assert_open();
    cluster.consul_server.start();
    wait_source(a, "consul", "live");
    change(&mut stage, 1);
    // This server's catalogue is in memory: it is filled anew by the agents.
    held.assert_open();
    stage.assert_undisturbed();
    cluster.assert_no_leak();
}

#[test]
fn docker_killed_keeps_traffic_and_every_difference_is_made_good() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.docker.stop();
    a.docker.daemon.arg("--live-restore");
    a.docker.start();
    let mut stage = Stage::set(&cluster);
    let mut held = stage.hold();
    for round in 1..=2 {
        let gone = consume(a, &format!("gone-{round}"), "web:80");
        stage.world.grant(&gone, "web").wait(a, SOON);
        let pid = gone.inspect()["State"]["Pid"].clone();
        a.docker.daemon.kill();
        wait_source(a, "docker", "stale, kept");
        throughout(AWAY, "without Docker's daemon all stays as it was", || stage.world.compare_while_deaf(a));
        held.assert_open();
        stage.assert_refuses_now();
        // Its containers live on; one of them ends while nobody looks.
        a.sh(&format!("kill -9 {pid}")).ok();
        a.docker.start();
        stage.granted.read_again();
        stage.refused.read_again();
        a.consul.deregister(&gone.name);
        stage.world.forget(&gone.name).wait(a, CONSUL);
        wait_source(a, "docker", "live");
        change(&mut stage, round);
        held.assert_open();
        stage.assert_undisturbed();
    }
    cluster.assert_no_leak();
}

#[test]
fn docker_restarted_takes_its_containers_along_and_the_world_is_listed_again() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let mut api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    let mut web = a.docker.run(Run::serve("web", 80).label("steppe.service", "web:80"));
    let mut stranger = a.docker.run(Run::idle("stranger"));
    let demanded = |api: &Container, web: &Container, stranger: &Container| {
        let mut world = World::default();
        world.grant(api, "web").workload(web).workload(stranger).endpoint("web", (web.address(), 80).into());
        world.wait(a, CONSUL);
    };
    demanded(&api, &web, &stranger);
    let to = vip(a, "web", 80);
    assert!(api.connect(to).outcome.is_ok());
    for (round, graceful) in [true, false, true].into_iter().enumerate() {
        let before = [&api, &web, &stranger].map(Container::address);
        if graceful {
            a.docker.stop();
        } else {
            a.docker.daemon.kill();
        }
        a.docker.start();
        // Each comes back at the address that another had.
        let mut containers = [&mut stranger, &mut api, &mut web];
        containers.rotate_left(round);
        containers.into_iter().for_each(Container::start_again);
        assert_ne!([&api, &web, &stranger].map(Container::address), before);
        demanded(&api, &web, &stranger);
        assert_eq!(api.connect(to).outcome, Outcome::Ok("web".into()));
        assert_eq!(stranger.connect(to).outcome, Outcome::Refused);
    }
    cluster.assert_no_leak();
}
