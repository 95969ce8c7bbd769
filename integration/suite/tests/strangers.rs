//! Strangers who touch the tables: with the kernel's protection nothing happens to them, without it they are put back.

use std::time::{Duration, Instant};

use steppe_testbed::{Cluster, Host, Outcome, Run, eventually};

use crate::common::{SOON, stage::Stage};

/// What is promised for a flush.
const RESTORED: Duration = Duration::from_millis(100);

/// What a stranger may try, one after the other. `{web}` is the service's virtual IP, `{stranger}` a container without a grant,
/// `{api}` one with.
const EDITS: [&str; 6] = [
    "nft delete element inet steppe grants '{ {api} . {web} . tcp . 80 }'",
    "nft add element inet steppe grants '{ {stranger} . {web} . tcp . 80 }'",
    "nft insert rule inet steppe guard accept",
    "nft flush chain inet steppe guard",
    "nft delete table inet steppe",
    "nft delete table bridge steppe",
];

fn edits(stage: &Stage<'_>) -> Vec<String> {
    let names = [
        ("{web}", stage.web.ip().to_string()),
        ("{api}", stage.api.address().to_string()),
        ("{stranger}", stage.stranger.address().to_string()),
    ];
    let fill = |edit: &str| names.iter().fold(edit.to_owned(), |edit, (name, is)| edit.replace(name, is));
    EDITS.iter().map(|edit| fill(edit)).collect()
}

/// The rules and elements, without what counts and what passes.
pub fn listing(host: &Host) -> String {
    let tables = [["list", "table", "inet", "steppe"], ["list", "table", "bridge", "steppe"]];
    let text: String = tables.iter().map(|table| host.exec("nft", table).stdout).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut kept = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        kept.push(word);
        if ["packets", "bytes", "expires"].contains(&word) {
            words.next();
        }
    }
    kept.join(" ")
}

#[test]
fn a_strangers_flush_and_edits_pass_by_tables_that_the_kernel_protects() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::set(&cluster);
    let a = stage.host;
    let mut held = stage.hold();
    let before = listing(a);
    for _ in 0..2 {
        a.nft(&["flush", "ruleset"]);
        assert_eq!(listing(a), before);
        held.assert_open();
        stage.assert_refuses_now();
    }
    for edit in edits(&stage) {
        let tried = a.sh(&edit);
        assert!(tried.stderr.contains("Operation not permitted"), "{edit}: {tried:?}");
        assert_eq!(listing(a), before, "{edit}");
    }
    held.assert_open();
    stage.world.compare(a).unwrap_or_else(|difference| panic!("{difference}"));
    stage.assert_undisturbed();
    cluster.assert_no_leak();
}

#[test]
fn without_the_kernels_protection_a_strangers_flush_and_edits_are_put_back_and_named() {
    let cluster = Cluster::hosts(1).start();
    cluster.one().suite.netfilter_agent.arg("--table-owner=off");
    let stage = Stage::set(&cluster);
    let (a, agent) = (stage.host, &stage.host.suite.netfilter_agent);
    let mut held = stage.hold();
    let before = listing(a);

    let mut took = Vec::new();
    for _ in 0..5 {
        let began = Instant::now();
        let began_ns = steppe_testbed::now_ns();
        a.nft(&["flush", "ruleset"]);
        eventually(SOON, "the tables are back", || {
            if listing(a) == before { Ok(began.elapsed()) } else { Err("not yet") }
        });
        // The clients' view is finer than that of a program that lists tables.
        let tried = stage.granted.tried();
        let failed = tried.iter().filter(|attempt| attempt.start_ns > began_ns && !attempt.outcome.is_ok());
        let last = failed.map(|attempt| attempt.end_ns).max().unwrap_or(began_ns);
        took.push(Duration::from_nanos(last - began_ns));
        held.assert_open();
        stage.assert_refuses_now();
    }
    took.sort();
    println!("a flush was put back after {took:?}");
    assert!(took[2] < RESTORED, "{took:?}");
    agent.wait_log("changed by a stranger", SOON);
    let line = agent.wait_log("nft", SOON);
    assert!(line.contains("put back"), "{line}");

    for edit in edits(&stage) {
        a.sh(&edit).ok();
        eventually(SOON, &format!("`{edit}` is put back"), || {
            let now = listing(a);
            if now == before { Ok(()) } else { Err(now) }
        });
        stage.assert_refuses_now();
        assert!(stage.api.connect(stage.web).outcome.is_ok());
    }
    held.assert_open();
    stage.world.wait(a, SOON);
    cluster.assert_no_leak();
}

#[test]
fn what_a_stranger_did_while_the_agent_was_away_is_put_right_when_it_starts() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::set(&cluster);
    let (a, agent) = (stage.host, &stage.host.suite.netfilter_agent);
    let before = listing(a);
    for edit in edits(&stage) {
        agent.kill();
        // Nobody owns the tables now.
        a.sh(&edit).ok();
        assert_ne!(listing(a), before, "{edit}");
        agent.start();
        eventually(SOON, &format!("`{edit}` is put right"), || {
            let now = listing(a);
            if now == before { Ok(()) } else { Err(now) }
        });
        stage.world.wait(a, SOON);
        stage.assert_refuses_now();
        assert!(stage.api.connect(stage.web).outcome.is_ok());
    }
    cluster.assert_no_leak();
}

#[test]
fn while_no_rule_is_loaded_nothing_for_a_virtual_ip_leaves_the_host() {
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::set(&cluster);
    let (a, agent) = (stage.host, &stage.host.suite.netfilter_agent);
    for _ in 0..2 {
        agent.kill();
        // Nobody owns the tables now, so they go as well.
        a.nft(&["flush", "ruleset"]);
        assert_eq!(listing(a), "");
        for from in [&stage.api, &stage.stranger] {
            let attempt = from.connect(stage.web);
            assert_eq!(attempt.outcome, Outcome::Unreachable, "{}: {attempt}", from.name);
        }
        let attempt = a.connect(stage.web, SOON);
        assert_eq!(attempt.outcome, Outcome::Unreachable, "the host itself: {attempt}");
        // A container of this moment, which no rule ever knew, and any address of the range.
        let late = a.docker.run(Run::idle("late"));
        let attempt = late.connect(([247, 200, 1, 1], 443));
        assert_eq!(attempt.outcome, Outcome::Unreachable, "{attempt}");
        late.remove();
        cluster.assert_no_leak();

        agent.start();
        stage.world.wait(a, SOON);
        assert!(stage.api.connect(stage.web).outcome.is_ok());
        stage.assert_refuses_now();
        stage.assert_refusing();
    }
    cluster.assert_no_leak();
}
