//! A container that is replaced by another while nobody looks: Docker gives the newcomer the same address and the same MAC, and
//! it must have none of the old one's rights.

use std::time::Duration;

use steppe_testbed::{Attempt, Cluster, Container, Run, Service};

use crate::common::{
    SOON, consume,
    held::hold,
    stage::{Stage, register},
    vip,
};

const INTERVAL_MS: &str = "5";
const TIMEOUT_MS: &str = "100";
const SHORT: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, PartialEq)]
enum Away {
    Control,
    ControlAndNetfilterAgent,
}

/// Replaces `old` by a container that tries the old one's service from its first instant on.
fn replace(stage: &Stage<'_>, old: Container, name: &str) -> Container {
    let (address, mac) = (old.address(), old.mac());
    old.remove();
    let to = stage.web.to_string();
    let tries =
        ["probe", "connect", &to, "--forever", "--interval-ms", INTERVAL_MS, "--timeout-ms", TIMEOUT_MS];
    let newcomer = stage.host.docker.run(Run::new(name, &tries));
    assert_eq!((newcomer.address(), newcomer.mac()), (address, mac), "as Docker does it");
    newcomer
}

fn replaced_while_away(away: Away) {
    let cluster = Cluster::hosts(1).start();
    let mut stage = Stage::set(&cluster);
    let (a, suite) = (stage.host, &stage.host.suite);
    // What the newcomer will be granted.
    let db = a.docker.run(Run::serve("db-1", 80));
    register(a, "db", &db);
    let other = consume(a, "other", "db:80");
    stage.world.workload(&db).endpoint("db", (db.address(), 80).into()).grant(&other, "db");
    let mut old = consume(a, "old-0", "web:80");
    stage.world.grant(&old, "web").wait(a, SOON);
    let to_db = vip(a, "db", 80);

    // Twice in a row: the second newcomer takes the place of the first.
    for round in 1..=2 {
        let (old_name, name) = (old.name.clone(), format!("newcomer-{round}"));
        // It must not be of use to the newcomer either.
        let _kept_open = (round == 1).then(|| hold(&old, stage.web));
        suite.control.kill();
        if away == Away::ControlAndNetfilterAgent {
            suite.netfilter_agent.kill();
        }
        let newcomer = replace(&stage, old, &name);
        a.consul.deregister(&old_name);
        let nothing = |what: &str| {
            for to in [stage.web, to_db] {
                let attempt = newcomer.enter(|| Attempt::make(to, SHORT));
                assert!(!attempt.outcome.is_ok(), "{what}: {to}: {attempt}");
            }
        };
        nothing("before anybody knows it");
        if away == Away::ControlAndNetfilterAgent {
            suite.netfilter_agent.start();
            suite.wait_socket(&suite.netfilter_agent);
            nothing("the agent is back, control is not");
        }
        a.consul.register(&Service::new(&name).at(newcomer.address(), 1).tag("connect_to=db:80"));
        nothing("registered, and control is not back");
        suite.control.start();
        stage.world.forget(&old_name).grant(&newcomer, "db").wait(a, SOON);
        assert!(newcomer.connect(to_db).outcome.is_ok(), "its own grant");
        let tries = newcomer.lines();
        let began = tries.attempt(SOON).start_ns;
        let (before, _) = tries.attempts_until(SOON, "it tries on", |attempt| {
            assert!(!attempt.outcome.is_ok(), "with the old one's right: {attempt}");
            attempt.start_ns > began + 1_000_000 && attempt.start_ns > steppe_testbed::now_ns() - 100_000_000
        });
        println!("{} attempts of {name} for what its predecessor was granted: none succeeded", before.len());
        stage.assert_undisturbed();
        // For the second round it takes over the role of the one with a right to `web`.
        a.consul.register(&Service::new(&name).at(newcomer.address(), 1).tag("connect_to=web:80"));
        stage.world.forget(&name).grant(&newcomer, "web").wait(a, SOON);
        old = newcomer;
    }
    cluster.assert_no_leak();
}

#[test]
fn a_newcomer_with_the_same_address_and_mac_has_none_of_the_old_ones_grants() {
    replaced_while_away(Away::Control);
}

#[test]
fn a_newcomer_has_none_of_the_old_ones_grants_with_the_netfilter_agent_killed_too() {
    replaced_while_away(Away::ControlAndNetfilterAgent);
}
