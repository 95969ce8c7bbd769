//! Upgrades that nobody notices: a load of new connections, and long ones, between containers placed in all four ways, while each
//! part of Steppe is replaced or killed.

mod places;

use std::time::{Duration, Instant};

use steppe_testbed::{Cluster, Outcome, Run, Signal, now_ns};

use self::places::Places;
use crate::common::{
    SOON,
    load::{End, Tally},
};

/// New connections at each place in each test.
const CONNECTIONS: usize = 10_000;
/// Between the end of the old proxy and the start of the new one.
const AWAY: Duration = Duration::from_secs(5);
/// A SYN is sent again after a second.
const ONE_RETRANSMISSION: Duration = Duration::from_millis(1100);
/// Grants in force in the test that has many: what a workload can have, times this many workloads.
const MANY: usize = 40;
/// Grants that a workload can have.
const EACH: usize = 256;

#[track_caller]
fn assert_nothing_lost(tallies: &[Tally]) {
    for tally in tallies {
        println!("{tally}");
        assert!(tally.tried.len() >= CONNECTIONS, "{tally}");
        assert_eq!(tally.lost().count(), 0, "{tally}");
    }
}

/// Waits until the load has gone on for so long.
fn go_on(places: &Places<'_>, duration: Duration) {
    let began = Instant::now();
    while began.elapsed() < duration {
        places.wait_more(100);
    }
}

/// Some time after the proxy has gone another is started, and the load goes on until there is enough of it. What was begun
/// meanwhile goes on past the hand-back, and strangers are refused all the while.
fn the_next_one_takes_over(places: &Places<'_>) {
    let proxy = &places.host.suite.proxy;
    let mut across = places.hold_all();
    go_on(places, AWAY);
    Places::say("the next one starts");
    proxy.start();
    places.host.suite.wait_socket(proxy);
    places.wait_proxied();
    Places::say("it has its connections back");
    places.wait_each(CONNECTIONS);
    across.iter_mut().for_each(|held| held.assert_open());
    places.assert_strangers_refused();
}

#[test]
fn a_proxy_that_is_replaced_loses_no_connection() {
    let cluster = Cluster::hosts(2).start();
    let places = Places::set(&cluster);
    let proxy = &places.host.suite.proxy;
    let mut long = places.hold_all();
    places.wait_more(1000);
    Places::say("the proxy is told to stop");
    let drained = std::thread::scope(|scope| {
        let ends = scope.spawn(|| proxy.terminate(Duration::from_secs(60)));
        // It goes on for those who are connected, for as long as they like within its time.
        places.wait_more(500);
        long.iter_mut().for_each(|held| held.assert_open());
        drop(long);
        ends.join().expect("it does not panic")
    });
    assert!(drained.success(), "{drained}");
    Places::say("it has ended");
    the_next_one_takes_over(&places);
    assert_nothing_lost(&places.finish());
    cluster.assert_no_leak();
}

#[test]
fn a_proxy_that_is_killed_is_missed_for_one_retransmission_with_ten_thousand_grants_in_force() {
    let cluster = Cluster::hosts(2).start();
    let names: Vec<_> = (0..EACH).map(|n| format!("service-{n}:80")).collect();
    for n in 0..MANY {
        let run = Run::idle(&format!("many-{n}")).label("steppe.connect_to", &names.join(","));
        cluster.all::<2>()[0].docker.run(run);
    }
    let places = Places::set(&cluster);
    places.wait_grants(MANY * EACH);
    let proxy = &places.host.suite.proxy;
    places.wait_more(1000);
    proxy.kill();
    let killed_ns = now_ns();
    places.wait_more(1000);
    the_next_one_takes_over(&places);
    let tallies = places.finish();
    for tally in &tallies {
        println!("{tally}");
    }
    for tally in &tallies {
        assert!(tally.tried.len() >= CONNECTIONS, "{tally}");
        // What the proxy had taken in went with it; nobody who came later noticed more than a delay.
        for lost in tally.lost() {
            assert!(matches!(lost.end, End::Broken(_)) && lost.start_ns < killed_ns, "{lost:?}, {tally}");
        }
        assert!(tally.worst() < ONE_RETRANSMISSION, "{tally}");
    }
    cluster.assert_no_leak();
}

#[test]
fn control_and_netfilter_agent_are_replaced_in_every_order_without_a_loss() {
    let cluster = Cluster::hosts(2).start();
    let places = Places::set(&cluster);
    let suite = &places.host.suite;
    let mut long = places.hold_all();
    for order in [[&suite.control, &suite.netfilter_agent], [&suite.netfilter_agent, &suite.control]] {
        for part in order {
            places.wait_more(500);
            let ended = part.terminate(SOON);
            assert!(ended.success(), "{}: {ended}", part.name());
            places.wait_more(500);
            part.start();
            suite.wait_socket(part);
        }
        // And both at once.
        for part in order {
            part.terminate(SOON);
        }
        places.wait_more(500);
        order.iter().for_each(|part| part.start());
        order.iter().for_each(|part| suite.wait_socket(part));
        places.wait_proxied();
    }
    places.wait_each(CONNECTIONS);
    long.iter_mut().for_each(|held| held.assert_open());
    places.assert_strangers_refused();
    assert_nothing_lost(&places.finish());
    cluster.assert_no_leak();
}

/// As whoever gives a job all its new versions in one run.
#[test]
fn control_and_proxy_are_replaced_at_the_same_time_without_a_loss() {
    let cluster = Cluster::hosts(2).start();
    let places = Places::set(&cluster);
    let suite = &places.host.suite;
    places.wait_more(500);
    Places::say("both are told to stop");
    for part in [&suite.control, &suite.proxy] {
        part.signal(Signal::SIGTERM);
    }
    for part in [&suite.control, &suite.proxy] {
        assert!(part.wait_exit(SOON).success(), "{}", part.name());
    }
    Places::say("both have ended");
    places.wait_more(1000);
    for part in [&suite.control, &suite.proxy] {
        part.start();
        suite.wait_socket(part);
    }
    places.wait_proxied();
    places.wait_each(CONNECTIONS);
    places.assert_strangers_refused();
    assert_nothing_lost(&places.finish());
    cluster.assert_no_leak();
}

/// If this passed without a loss, the tests above would show nothing.
#[test]
fn without_the_takeover_the_same_load_loses_connections() {
    let cluster = Cluster::hosts(2).start();
    cluster.all::<2>()[0].suite.control.arg("--takeover").arg("off");
    let places = Places::set(&cluster);
    let proxy = &places.host.suite.proxy;
    places.wait_more(500);
    proxy.terminate(SOON);
    // That the draining proxy resets what it has not taken in yet is no news.
    let timed_out = End::NotConnected(Outcome::Timeout.to_string());
    println!("{:?}", places.first(&timed_out));
    proxy.start();
    places.host.suite.wait_socket(proxy);
    places.wait_more(500);
    let tallies = places.finish();
    tallies.iter().for_each(|tally| println!("{tally}"));
    assert!(tallies.iter().any(|tally| tally.lost().any(|lost| lost.end == timed_out)), "nobody noticed");
    cluster.assert_no_leak();
}
