//! What an operator orders, and what is refused.

use steppe_testbed::{Cluster, Identity, Run, eventually, programs, throughout};

use super::{PATIENCE, member, network, subnet, wait_network};
use crate::common::SOON;

/// Another than dns has when nobody says otherwise, and the proxy's own.
const DNS: &str = "169.254.77.60";
const LISTENER: &str = "169.254.77.54";

#[test]
fn an_operator_makes_and_removes_networks_and_nothing_in_use_goes() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--network-idle").arg("1s");
    a.suite.start();
    let ensured = a.steppe(&["network", "ensure", "alice"]);
    assert_eq!(ensured.code, 0, "{ensured:?}");
    let made = network(a, "alice");
    assert!(ensured.stdout.contains(&subnet(&made)), "{ensured:?}");
    // It is kept with nothing attached, also by a control that knows nothing of the order.
    a.suite.restart(&a.suite.control);
    let listed = a.steppe(&["network", "ls"]).stdout;
    assert!(listed.contains("ensured"), "{listed}");
    assert_eq!(network(a, "alice")["Id"], made["Id"]);

    // A container that is stopped and one that has never started name it as well.
    let one = a.docker.run(member("one", "alice"));
    let refused = |names: &str| {
        let order = a.steppe(&["network", "rm", "alice"]);
        assert_eq!(order.code, 1, "{order:?}");
        assert!(order.stdout.contains(names), "{order:?}");
    };
    refused("one");
    one.stop();
    refused("one");
    one.remove();
    a.exec("docker", &["create", "--name", "two", "--network", "steppe-alice", "steppe-probe"]).ok();
    refused("two");
    a.exec("docker", &["rm", "two"]).ok();
    let removed = a.steppe(&["network", "rm", "alice"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert!(network(a, "alice").is_null());
    let none = a.steppe(&["network", "rm", "alice"]);
    assert_eq!(none.code, 1, "{none:?}");
    assert!(none.stdout.contains("alice has no network"), "{none:?}");

    // A member of the group may look, and no more.
    let socket = &a.suite.control;
    let listed = a.grpcurl(socket, &["-d", "{}"], &["steppe.v1.Networks/ListNetworks"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    let program = format!("{}/grpcurl", programs().rsplit(':').next().unwrap_or_default());
    let words = ["-unix", "-plaintext", "-d", r#"{"user":"alice"}"#, "/run/steppe/control.sock"];
    let ordered =
        a.exec_as(Identity::PROXY, &program, &[&words[..], &["steppe.v1.Networks/EnsureNetwork"]].concat());
    assert!(ordered.stderr.contains("only root may change networks"), "{ordered:?}");
    assert!(network(a, "alice").is_null());
}

#[test]
fn what_steppe_did_not_make_is_left_alone_and_said() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.docker.create_network("steppe-alice", "10.99.0.0/24");
    let foreign = network(a, "alice");
    a.suite.control.arg("--network-idle").arg("1s").arg("--users").arg("alice,bob");
    for daemon in [&a.suite.control, &a.suite.netfilter_agent, &a.suite.dns] {
        daemon.arg(format!("--dns-address={DNS}"));
    }
    a.suite.start();
    wait_network(a, "bob");
    let listed = a.steppe(&["network", "ls"]).stdout;
    assert!(listed.contains("a Docker network steppe-alice that Steppe did not make"), "{listed}");
    let rm = a.steppe(&["network", "rm", "alice"]);
    assert_eq!(rm.code, 1, "{rm:?}");
    let wanted = a.steppe(&["network", "rm", "bob"]);
    assert_eq!(wanted.code, 1, "{wanted:?}");
    assert!(wanted.stdout.contains("would come back"), "{wanted:?}");
    assert_eq!(network(a, "alice"), foreign);
    let waits = Run::idle("waits").label("steppe.user", "alice").label("steppe.attach", "true");
    let waits = a.docker.run(waits);
    for command in [&["status"][..], &["workloads"], &["explain", "waits", "anything"]] {
        eventually(SOON, "who has no network is told", || {
            let said = a.steppe(command).stdout;
            let is_told = said.contains("alice get") && said.contains("that Steppe did not make");
            if is_told { Ok(()) } else { Err(said) }
        });
    }
    // It goes, and hers comes.
    a.docker.remove_network("steppe-alice");
    assert_ne!(subnet(&wait_network(a, "alice")), "10.99.0.0/24");
    eventually(PATIENCE, "it is moved there", || match waits.inspect()["NetworkSettings"]["Networks"] {
        ref on if on["steppe-alice"].is_null() => Err(on.to_string()),
        _ => Ok(()),
    });
    waits.remove();

    // Nothing of Steppe is left afterwards but what is in use.
    let one = a.docker.run(member("one", "bob"));
    for daemon in a.suite.all() {
        daemon.terminate(PATIENCE);
    }
    let addresses = || a.sh("ip -4 -brief addr show dev lo").ok();
    assert!([DNS, LISTENER].iter().all(|own| addresses().contains(own)), "{}", addresses());
    let dns_address = format!("--dns-address={DNS}");
    let left = a.steppe(&["uninstall", &dns_address]);
    assert_eq!(left.code, 1, "{left:?}");
    assert!(left.stdout.contains("FAIL network steppe-bob: in use by one"), "{left:?}");
    assert!(network(a, "alice").is_null() && !network(a, "bob").is_null());
    assert!(![DNS, LISTENER].iter().any(|own| addresses().contains(own)), "{}", addresses());
    one.remove();
    let clean = a.steppe(&["uninstall", &dns_address]);
    assert_eq!(clean.code, 0, "{clean:?}");
    assert!(network(a, "bob").is_null());
}

#[test]
fn control_killed_at_any_moment_leaves_one_network_for_each_user() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let users: Vec<String> = (0..12).map(|n| format!("user-{n}")).collect();
    a.suite.control.arg("--network-idle").arg("1s").arg("--users").arg(users.join(","));
    a.suite.start();
    let count = || {
        let list = a.docker.call("GET", "/networks", &serde_json::Value::Null);
        let names = list.as_array().into_iter().flatten().filter_map(|network| network["Name"].as_str());
        names.filter(|name| name.starts_with("steppe-")).count()
    };
    for stage in [1, 4, 8] {
        eventually(PATIENCE, "some of the networks are there", || {
            let there = count();
            if there >= stage { Ok(()) } else { Err(there) }
        });
        a.suite.restart(&a.suite.control);
    }
    for user in &users {
        wait_network(a, user);
    }
    assert_eq!(count(), users.len());
    throughout(SOON / 2, "they stay", || if count() == users.len() { Ok(()) } else { Err(count()) });
}
