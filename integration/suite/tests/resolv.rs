//! resolv.conf leads workloads to dns from their first process on, and nobody else.

use std::thread;

use serde_json::json;
use steppe_testbed::{Cluster, Container, Host, Run, eventually};

use crate::common::SOON;

/// The line that leads to dns, and that with the names.
const OURS: [&str; 2] = ["nameserver 169.254.77.53", "search steppe.internal"];
/// Of each kind; DESIGN.md promises it for all.
const EACH: usize = 4;

/// One host with a network of alice's, and with one that Steppe did not make.
fn start() -> Cluster {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let alice = json!({
        "Name": "steppe-alice", "Driver": "bridge", "Labels": { "steppe.user": "alice" },
        "Options": { "com.docker.network.bridge.name": "steppe-alice" },
        "IPAM": { "Config": [{ "Subnet": "10.208.1.0/24" }] },
    });
    a.docker.call("POST", "/networks/create", &alice);
    a.docker.create_network("app", "172.31.0.0/24");
    cluster
}

fn asks(run: Run) -> Run {
    run.label("steppe.connect_to", "web:80")
}

fn on_alice(run: Run) -> Run {
    asks(run).label("steppe.user", "alice").network("steppe-alice")
}

/// Tells what its first process sees, and stays.
fn tells(name: &str) -> Run {
    Run::new(name, &["sh", "-c", "cat /etc/resolv.conf; echo end; exec probe wait"])
}

/// What the container's first process saw, without comments.
fn first_words(container: &Container) -> Vec<String> {
    let lines = container.lines();
    let mut words = Vec::new();
    loop {
        match lines.next(SOON) {
            line if line == "end" => return words,
            line if line.starts_with('#') => {}
            line => words.push(line),
        }
    }
}

/// What is in the container now, without comments.
fn now(container: &Container) -> Vec<String> {
    let text = container.exec(&["cat", "/etc/resolv.conf"]).ok();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[track_caller]
fn becomes(container: &Container, what: &str, is: impl Fn(&[String]) -> bool) {
    eventually(SOON, &format!("{} {what}", container.name), || {
        let words = now(container);
        if is(&words) { Ok(()) } else { Err(words.join(" | ")) }
    });
}

fn leads_to_us(words: &[String]) -> bool {
    words.starts_with(&OURS.map(str::to_owned))
}

#[track_caller]
fn led(container: &Container) {
    becomes(container, "is led to dns", leads_to_us);
}

/// What Docker writes for a container that nobody cares for.
fn untouched(host: &Host) -> String {
    host.sh("cat /etc/resolv.conf").ok()
}

#[test]
fn a_containers_first_process_asks_dns() {
    let cluster = start();
    let a = cluster.one();
    let mut late = Vec::new();
    for number in 0..EACH {
        for (kind, under) in [("runc", (|run| run) as fn(Run) -> Run), ("gvisor", Run::runsc)] {
            let bridge = a.docker.run(under(asks(tells(&format!("{kind}-bridge-{number}")))));
            let alice = a.docker.run(under(on_alice(tells(&format!("{kind}-alice-{number}")))));
            for container in [bridge, alice] {
                let words = first_words(&container);
                if !leads_to_us(&words) {
                    late.push(format!("{}: {}", container.name, words.join(" | ")));
                }
                container.remove();
            }
        }
    }
    assert!(late.is_empty(), "{} of {} were late:\n{}", late.len(), 4 * EACH, late.join("\n"));
}

#[test]
fn many_at_once_are_in_time() {
    let cluster = start();
    let a = cluster.one();
    let runs: Vec<_> = (0..6)
        .flat_map(|number| {
            [asks(tells(&format!("bridge-{number}"))), on_alice(tells(&format!("alice-{number}")))]
        })
        .collect();
    let started: Vec<Container> = thread::scope(|scope| {
        let threads: Vec<_> = runs.into_iter().map(|run| scope.spawn(|| a.docker.run(run))).collect();
        threads.into_iter().map(|thread| thread.join().expect("Docker starts it")).collect()
    });
    for container in started {
        let words = first_words(&container);
        assert!(leads_to_us(&words), "{}: {}", container.name, words.join(" | "));
    }
}

#[test]
fn dockers_later_words_are_not_the_last() {
    let cluster = start();
    let a = cluster.one();
    let bridge = a.docker.run(asks(Run::idle("bridge")));
    let alice = a.docker.run(on_alice(Run::idle("alice")));
    led(&bridge);
    led(&alice);
    assert!(now(&alice).contains(&"options ndots:0".to_owned()), "Docker's options are kept");
    for container in [&bridge, &alice] {
        a.docker.call("POST", &format!("/containers/{}/restart?t=0", container.id), &json!(null));
        led(container);
    }

    // A user's network keeps leading to us; where Docker has names of its own it gets its word back.
    let connect = |network: &str, verb: &str, container: &Container| {
        let body = json!({ "Container": container.id });
        a.docker.call("POST", &format!("/networks/{network}/{verb}"), &body);
    };
    connect("steppe-alice", "connect", &bridge);
    led(&bridge);
    connect("app", "connect", &alice);
    becomes(&alice, "asks Docker", |words| words == ["nameserver 127.0.0.11", "options ndots:0"]);
    connect("app", "disconnect", &alice);
    led(&alice);

    // The daemon restarts, and control afterwards.
    a.docker.stop();
    a.docker.start();
    a.docker.call("POST", &format!("/containers/{}/start", alice.id), &json!(null));
    led(&alice);
    a.suite.restart(&a.suite.control);
    led(&alice);
}

#[test]
fn nobody_elses_is_touched() {
    let cluster = start();
    let a = cluster.one();
    let own = untouched(a);
    let stranger = a.docker.run(tells("stranger"));
    assert_eq!(first_words(&stranger).join("\n"), own.trim_end());

    let chosen = a.docker.run(asks(Run::idle("chosen")).host_config("Dns", json!(["10.9.9.9"])));
    let inside = a.docker.run(asks(Run::idle("inside")));
    led(&inside);
    inside.exec(&["sh", "-c", "echo nameserver 10.8.8.8 >/etc/resolv.conf"]).ok();
    let compose = a.docker.run(asks(Run::idle("compose")).network("app"));
    for (container, says) in
        [(&chosen, "10.9.9.9"), (&inside, "something in the container"), (&compose, "network app")]
    {
        eventually(SOON, &format!("{} is explained", container.name), || {
            let told = a.steppe(&["workloads", "--json"]).stdout;
            if told.contains(says) { Ok(()) } else { Err(told) }
        });
    }
    assert_eq!(now(&chosen), ["nameserver 10.9.9.9"]);
    assert_eq!(now(&inside), ["nameserver 10.8.8.8"]);
    assert_eq!(now(&compose), ["nameserver 127.0.0.11", "options ndots:0"]);
    assert_eq!(now(&stranger).join("\n"), own.trim_end());
}

#[test]
fn who_is_not_led_any_more_has_what_docker_wrote() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let own = untouched(a);
    let [stays, goes] = ["stays", "goes"].map(|name| {
        let container = a.docker.run(Run::idle(name));
        let service = steppe_testbed::Service::new(name).at(container.address(), 1);
        a.consul.register(&service.tag("connect_to=web:80"));
        container
    });
    led(&stays);
    led(&goes);
    // With control up, and without.
    a.consul.deregister("goes");
    becomes(&goes, "has Docker's", |words| words.join("\n") == own.trim_end());
    a.suite.control.kill();
    a.consul.deregister("stays");
    a.suite.control.start();
    becomes(&stays, "has Docker's", |words| words.join("\n") == own.trim_end());
}

#[test]
fn a_container_that_writes_without_end_is_left_alone_and_holds_up_nobody() {
    let cluster = start();
    let a = cluster.one();
    let flood = "while :; do echo nameserver 127.0.0.11 >/etc/resolv.conf; done";
    a.docker.run(asks(Run::new("hostile", &["sh", "-c", flood])));
    for number in 0..EACH {
        let words = first_words(&a.docker.run(on_alice(tells(&format!("alice-{number}")))));
        assert!(leads_to_us(&words), "{}", words.join(" | "));
    }
    eventually(SOON, "the quarrel is explained", || {
        let told = a.steppe(&["workloads", "--json"]).stdout;
        if told.contains("again and again") { Ok(()) } else { Err(told) }
    });
}
