//! Users' networks: they come and go with those who need them, and containers are attached to them.

mod attach;
mod orders;

use std::time::Duration;

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Host, Outcome, Run, eventually};

use crate::common::SOON;

/// Docker makes a network in a fraction of a second; a busy machine takes some.
const PATIENCE: Duration = Duration::from_secs(20);

/// A user's network as Docker has it; null when there is none.
fn network(host: &Host, user: &str) -> Value {
    let list = host.docker.call("GET", "/networks", &Value::Null);
    let name = format!("steppe-{user}");
    list.as_array()
        .into_iter()
        .flatten()
        .find(|network| network["Name"] == *name)
        .cloned()
        .unwrap_or_default()
}

fn subnet(network: &Value) -> String {
    network["IPAM"]["Config"][0]["Subnet"].as_str().unwrap_or_default().to_owned()
}

/// Waits until a user has a network, and returns it.
#[track_caller]
fn wait_network(host: &Host, user: &str) -> Value {
    eventually(PATIENCE, &format!("{user} has a network"), || {
        let network = network(host, user);
        if network.is_null() { Err("there is none") } else { Ok(network) }
    })
}

#[track_caller]
fn wait_no_network(host: &Host, user: &str) {
    eventually(PATIENCE, &format!("{user} has no network"), || {
        let network = network(host, user);
        if network.is_null() { Ok(()) } else { Err(network) }
    });
}

/// A server on a user's network.
fn member(name: &str, user: &str) -> Run {
    Run::serve(name, 80).network(&format!("steppe-{user}")).label("steppe.user", user)
}

#[test]
fn networks_of_two_users_come_and_go_with_the_same_addresses_on_two_hosts() {
    let cluster = Cluster::hosts(2).without_consul().start();
    let [a, b] = cluster.all();
    for host in [a, b] {
        host.suite.control.arg("--network-idle").arg("1s").arg("--users").arg("alice");
        host.suite.start();
    }
    // The order on the second host is another.
    b.docker.run(Run::idle("of-bob").label("steppe.user", "bob"));
    wait_network(b, "bob");
    a.docker.run(Run::idle("of-bob").label("steppe.user", "bob"));
    for user in ["alice", "bob"] {
        let [on_a, on_b] = [a, b].map(|host| wait_network(host, user));
        assert_eq!(subnet(&on_a), subnet(&on_b));
        assert_eq!((&on_a["EnableIPv6"], &on_a["Internal"]), (&json!(false), &json!(false)));
    }
    let one = a.docker.run(member("one", "alice"));
    let two = a.docker.run(member("two", "alice"));
    let at = (two.address(), 80);
    eventually(SOON, "members reach each other", || match one.connect(at).outcome {
        Outcome::Ok(name) if name == "two" => Ok(()),
        other => Err(other),
    });
    // Whoever needs it for its label is gone, and so is the network after a while. Hers stays: `--users` names her.
    a.docker.container("of-bob").remove();
    wait_no_network(a, "bob");
    assert!(!network(b, "bob").is_null() && !network(a, "alice").is_null());
    cluster.assert_no_leak();
}

#[test]
fn a_network_makes_way_and_says_for_what() {
    let cluster = Cluster::hosts(2).without_consul().start();
    let [a, b] = cluster.all();
    for host in [a, b] {
        host.suite.control.arg("--users").arg("alice,bob");
    }
    a.suite.start();
    let [alice, bob] = ["alice", "bob"].map(|user| subnet(&wait_network(a, user)));
    // On the second host something real has these addresses.
    b.docker.create_network("own", &alice);
    b.sh(&format!("ip link add site type bridge && ip link set site up && ip route add {bob} dev site")).ok();
    b.suite.start();
    for (user, usual, in_the_way) in [("alice", &alice, "own"), ("bob", &bob, "site")] {
        let moved = wait_network(b, user);
        assert_ne!(subnet(&moved), *usual, "{user}");
        let says = |words: &[&str]| b.steppe(words).stdout;
        let line = says(&["network", "ls"]).lines().find(|line| line.starts_with(user)).map(str::to_owned);
        let line = line.unwrap_or_default();
        assert!(line.contains("in the way") && line.contains(in_the_way), "{line}");
        eventually(SOON, "status says so", || {
            let status = says(&["status", "--json"]);
            if status.contains(&subnet(&moved)) { Ok(()) } else { Err(status) }
        });
        // It stays where it is, also when nothing is in the way any more and control starts anew.
        let before = moved["Id"].clone();
        b.suite.restart(&b.suite.control);
        b.steppe(&["network", "ls"]).ok();
        assert_eq!(network(b, user)["Id"], before);
    }
}

#[test]
fn a_network_that_somebody_removes_comes_back_and_docker_may_restart() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users").arg("alice");
    a.suite.start();
    let first = wait_network(a, "alice");
    a.docker.remove_network("steppe-alice");
    let second = wait_network(a, "alice");
    assert_ne!(first["Id"], second["Id"]);
    assert_eq!(subnet(&first), subnet(&second));
    a.docker.daemon.kill();
    a.docker.start();
    assert_eq!(network(a, "alice")["Id"], second["Id"]);
    // It is followed again.
    eventually(PATIENCE, "it is followed again", || {
        let listed = a.steppe(&["network", "ls"]);
        if listed.code == 0 && listed.stdout.contains("alice") { Ok(()) } else { Err(listed.stdout) }
    });
    a.docker.remove_network("steppe-alice");
    wait_network(a, "alice");
}
