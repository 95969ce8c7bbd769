//! Each of Steppe's processes killed, twice in a row, and started again, alone: what the others do meanwhile, and that
//! everything is as it should be afterwards without a person.

use std::time::{Duration, Instant};

use steppe_testbed::{Attempt, Cluster, Outcome, Run, Service};

use crate::common::{SOON, stage::Stage};

/// A SYN that is dropped is sent again after a second.
const RETRANSMISSION: Duration = Duration::from_secs(1);

#[test]
fn control_killed_changes_nothing_and_it_catches_up() {
    let cluster = Cluster::hosts(1).start();
    let mut stage = Stage::set(&cluster);
    let (a, control) = (stage.host, &stage.host.suite.control);
    let mut held = stage.hold();
    for round in 1..=2 {
        control.kill();
        held.assert_open();
        stage.assert_undisturbed();
        stage.assert_refuses_now();
        let explained = a.steppe(&["explain", "api", "web:80"]);
        assert!([0, 4].contains(&explained.code), "{}{}", explained.stdout, explained.stderr);

        // What changes while it is away is in force once it is back.
        let late = a.docker.run(Run::idle(&format!("late-{round}")));
        a.consul.register(&Service::new(&late.name).at(late.address(), 1).tag("connect_to=web:80"));
        let early = late.enter(|| Attempt::make(stage.web, Duration::from_millis(200)));
        assert_eq!(early.outcome, Outcome::Timeout, "nobody can have granted it yet");
        control.start();
        stage.world.grant(&late, "web").wait(a, SOON);
        assert!(late.connect(stage.web).outcome.is_ok());
        stage.assert_undisturbed();
    }
    held.assert_open();
    cluster.assert_no_leak();
}

#[test]
fn netfilter_agent_killed_leaves_its_rules_and_adopts_them() {
    let cluster = Cluster::hosts(1).start();
    let mut stage = Stage::set(&cluster);
    let (a, agent) = (stage.host, &stage.host.suite.netfilter_agent);
    let mut held = stage.hold();
    for round in 1..=2 {
        agent.kill();
        held.assert_open();
        stage.assert_undisturbed();
        stage.assert_refuses_now();

        let late = a.docker.run(Run::idle(&format!("late-{round}")));
        a.consul.register(&Service::new(&late.name).at(late.address(), 1).tag("connect_to=web:80"));
        let early = late.enter(|| Attempt::make(stage.web, Duration::from_millis(200)));
        assert_eq!(early.outcome, Outcome::Timeout, "nobody can have granted it yet");
        agent.start();
        stage.world.grant(&late, "web").wait(a, SOON);
        assert!(late.connect(stage.web).outcome.is_ok());
        held.assert_open();
        stage.assert_undisturbed();
    }
    cluster.assert_no_leak();
}

#[test]
fn proxy_killed_takes_its_connections_along_and_serves_again_as_soon_as_it_is_back() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::set(&cluster);
    let (a, proxy) = (stage.host, &stage.host.suite.proxy);
    stage.assert_undisturbed();
    for _ in 0..2 {
        let mut held = stage.hold();
        proxy.kill();
        let end = held.wait_cut(SOON);
        assert!([Outcome::Reset, Outcome::Eof].contains(&end), "{end:?}");
        stage.assert_refuses_now();

        // Who connects while it is away is not refused, but answered once it is back.
        let api = &stage.api;
        let (attempt, back) = std::thread::scope(|scope| {
            let waits = scope.spawn(|| api.enter(|| Attempt::make(stage.web, SOON)));
            // Its first SYN is on its way for as long as this takes.
            stage.assert_refuses_now();
            let back = Instant::now();
            proxy.start();
            (waits.join().expect("no panic"), back)
        });
        assert!(attempt.outcome.is_ok(), "{attempt}");
        println!("answered {:?} after the proxy's start, {:?} in all", back.elapsed(), attempt.took());
        stage.world.wait(a, SOON);
        // Those under way are cut with it; whoever came later was served.
        let tried = stage.granted.tried();
        let failed: Vec<_> = tried.iter().filter(|attempt| !attempt.outcome.is_ok()).collect();
        assert!(failed.len() <= 1, "{failed:?}");
        assert!(failed.iter().all(|attempt| attempt.outcome != Outcome::Refused), "{failed:?}");
        let slowest = tried.iter().map(Attempt::took).max().unwrap_or_default();
        println!("of {} connects the slowest took {slowest:?}", tried.len());
        assert!(attempt.took() < 4 * RETRANSMISSION, "{attempt}");
        stage.assert_refusing();
    }
    cluster.assert_no_leak();
}
