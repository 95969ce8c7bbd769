//! Containers with `steppe.attach=true` are moved to their users' networks, or it is said why not.

use std::{net::Ipv4Addr, time::Duration};

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, Outcome, Run, eventually};

use super::{PATIENCE, member, wait_network};
use crate::common::SOON;

fn asks(run: Run) -> Run {
    run.label("steppe.user", "alice").label("steppe.attach", "true")
}

/// The networks of a container with its addresses.
fn networks(container: &Container) -> Vec<(String, String)> {
    let networks = container.inspect()["NetworkSettings"]["Networks"].clone();
    let networks = networks.as_object().into_iter().flatten();
    networks
        .map(|(name, on)| (name.clone(), on["IPAddress"].as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Its interfaces with their addresses, and its routes.
fn inside(container: &Container) -> String {
    ["addr", "route"].map(|what| container.exec(&["ip", "-4", "-o", what, "show"]).ok()).concat()
}

/// Waits until it is on alice's network alone, and returns its address there.
#[track_caller]
fn wait_attached(container: &Container) -> Ipv4Addr {
    eventually(PATIENCE, &format!("{} is attached", container.name), || match &networks(container)[..] {
        [(name, ip)] if name == "steppe-alice" && !ip.is_empty() => {
            Ok::<_, String>(ip.parse().expect("Docker tells an address"))
        }
        other => Err(format!("{other:?}")),
    })
}

/// Waits until `steppe workloads` says why a container is not attached.
#[track_caller]
fn wait_not_attached(host: &Host, name: &str, why: &str) {
    eventually(PATIENCE, &format!("{name} is reported"), || {
        let said = host.steppe(&["workloads"]).stdout;
        let is_said = said.lines().any(|line| line.starts_with(name) && line.contains(why));
        if is_said { Ok(()) } else { Err(said) }
    });
}

#[test]
fn a_container_that_runs_is_moved_with_its_published_port_and_its_default_route() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users").arg("alice");
    a.suite.start();
    wait_network(a, "alice");
    let web = a.docker.run(asks(Run::serve("web", 80).publish_at(80, "24011")));
    let ip = wait_attached(&web);
    assert!(ip.octets()[3] > 128, "{ip} is of control's half");
    assert_eq!(a.connect((a.address, 24011), SOON).outcome, Outcome::Ok("web".to_owned()));
    let routes = web.enter(|| std::fs::read_to_string("/proc/thread-self/net/route").expect("proc"));
    assert_eq!(
        routes.lines().filter(|line| line.split('\t').nth(1) == Some("00000000")).count(),
        1,
        "{routes}"
    );
    let other = a.docker.run(member("other", "alice"));
    eventually(SOON, "members reach it", || match other.connect((ip, 80)).outcome {
        Outcome::Ok(name) if name == "web" => Ok(()),
        outcome => Err(outcome),
    });
    // The address is its own, also after a control that has forgotten it.
    web.remove();
    a.suite.restart(&a.suite.control);
    let again = a.docker.run(asks(Run::serve("web", 80).publish_at(80, "24011")));
    assert_eq!(wait_attached(&again), ip);
    let second = a.docker.run(asks(Run::serve("web-2", 80)));
    assert_ne!(wait_attached(&second), ip);
    cluster.assert_no_leak();
}

#[test]
fn a_container_is_moved_before_it_starts() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users").arg("alice");
    a.suite.start();
    wait_network(a, "alice");
    let labels = ["--label", "steppe.user=alice", "--label", "steppe.attach=true"];
    for (name, runtime) in [("runc", "runc"), ("gvisor", "runsc")] {
        let create = ["create", "--name", name, "--runtime", runtime];
        let run = ["steppe-probe", "probe", "serve", "--port", "80", "--name", name];
        a.exec("docker", &[&create[..], &labels, &run].concat()).ok();
    }
    let only = |name: &str| {
        let container = a.docker.container(name);
        let on = networks(&container);
        if matches!(&on[..], [(network, _)] if network == "steppe-alice") {
            Ok(())
        } else {
            Err(format!("{on:?}"))
        }
    };
    for name in ["runc", "gvisor"] {
        eventually(PATIENCE, &format!("{name} will start on it"), || only(name));
        a.exec("docker", &["start", name]).ok();
    }
    let other = a.docker.run(member("other", "alice"));
    for name in ["runc", "gvisor"] {
        let ip = wait_attached(&a.docker.container(name));
        eventually(PATIENCE, &format!("{name} is reached"), || match other.connect((ip, 80)).outcome {
            Outcome::Ok(said) if said == name => Ok(()),
            outcome => Err(outcome),
        });
    }
    cluster.assert_no_leak();
}

#[test]
fn what_would_break_stays_as_it_is_and_is_reported() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.docker.create_network("own", "10.99.0.0/24");
    // All of them run before anybody could move them.
    let gvisor = a.docker.run(asks(Run::serve("gvisor", 80).runsc()));
    let floating = a.docker.run(asks(Run::serve("floating", 80).publish(80)));
    let placed = a.docker.run(asks(Run::serve("placed", 80).network("own")));
    let hosted = a.docker.run(asks(Run::idle("hosted").network("host")));
    let shares = a.docker.run(asks(Run::idle("shares").network("container:placed")));
    let all = [&gvisor, &floating, &placed, &hosted, &shares];
    let before = all.map(networks);
    let apart = [&floating, &placed];
    let interfaces = apart.map(inside);
    let port = floating.published(80);
    a.suite.start();
    wait_not_attached(a, "gvisor", "under runsc");
    wait_not_attached(a, "floating", "which Docker chose");
    wait_not_attached(a, "placed", "network own");
    wait_not_attached(a, "hosted", "host");
    wait_not_attached(a, "shares", "its network mode is container:");
    let status = a.steppe(&["status"]).stdout;
    assert!(status.contains("5 not on their user's network"), "{status}");
    assert_eq!(all.map(networks), before);
    assert_eq!(apart.map(inside), interfaces);
    assert_eq!(a.connect((a.address, port), SOON).outcome, Outcome::Ok("floating".to_owned()));
    assert_eq!(a.connect((gvisor.address(), 80), SOON).outcome, Outcome::Ok("gvisor".to_owned()));

    // What the message says helps.
    let mut gvisor = gvisor;
    gvisor.stop();
    eventually(Duration::from_secs(30), "it will start on alice's network", || {
        let on = gvisor.inspect()["NetworkSettings"]["Networks"].clone();
        if on["bridge"] == Value::Null && on["steppe-alice"] != Value::Null { Ok(()) } else { Err(on) }
    });
    gvisor.start_again();
    let ip = wait_attached(&gvisor);
    let other = a.docker.run(member("other", "alice"));
    eventually(PATIENCE, "it is reached there", || match other.connect((ip, 80)).outcome {
        Outcome::Ok(said) if said == "gvisor" => Ok(()),
        outcome => Err(outcome),
    });
    cluster.assert_no_leak();
}

#[test]
fn control_killed_while_it_attaches_finishes_what_it_began() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users").arg("alice");
    a.suite.start();
    wait_network(a, "alice");
    let mut all = Vec::new();
    for round in 0..3 {
        let names = ["x", "y"].map(|name| format!("{name}-{round}"));
        all.extend(names.map(|name| a.docker.run(asks(Run::serve(&name, 80)))));
        a.suite.restart(&a.suite.control);
    }
    let mut addresses: Vec<_> = all.iter().map(wait_attached).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), all.len());
    // Interrupted between Docker's two requests.
    a.suite.control.kill();
    let half = a.docker.run(asks(Run::serve("half", 80)));
    a.exec("docker", &["network", "connect", "steppe-alice", "half"]).ok();
    a.suite.control.start();
    wait_attached(&half);
    cluster.assert_no_leak();
}
