//! Grants from jobs: before the first packet, for containers and for allocations with a network of their own, and not where a
//! task has no address.

use steppe_testbed::{Cluster, Outcome, eventually};

use super::{
    container,
    jobs::{Job, PORT, web_service},
    not_run, running, serving, text, version, web,
};
use crate::common::{SOON, reach::reaches};

/// Tries once, at its start, and says what came of it; then waits to be looked at.
const ASKS_FOR_WEB: &str = "service {\n  name = \"api\"\n  tags = [\"connect_to=web:80\"]\n}";

#[test]
fn a_jobs_grant_is_there_before_its_first_packet() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.start_nomad();
    a.suite.start();
    let service = web_service("", "");
    let provider = Job {
        name: "web",
        host: "a",
        group: PORT,
        task: &service,
        config: "ports = [\"http\"]",
        probe: &["serve", "--port", "80", "--name", "web"],
    };
    a.nomad.run(&provider.hcl());
    serving(a, "web");
    // One that waits, so that the address is known.
    let first = Job { name: "first", host: "a", task: ASKS_FOR_WEB, probe: &["wait"], ..Job::default() };
    a.nomad.run(&first.hcl());
    let to = web(a);
    let alloc = running(a, "first");
    let first = container(a, "first", &alloc);
    assert_eq!(reaches(&first, to), "web");

    let at_once = ["connect", &to.to_string(), "--forever", "--interval-ms", "200", "--timeout-ms", "4000"];
    let asks = [
        ("tag", "", ASKS_FOR_WEB),
        ("task-meta", "", "meta {\n  connect_to = \"web:80\"\n}"),
        ("group-meta", "meta {\n  connect_to = \"web:80\"\n}", ""),
    ];
    for (name, group, task) in asks {
        a.nomad.run(&Job { name, host: "a", group, task, probe: &at_once, ..Job::default() }.hcl());
        let alloc = running(a, name);
        let attempt = container(a, name, &alloc).lines().attempt(SOON);
        println!("{name}: {attempt}, took {:?}", attempt.took());
        assert!(attempt.outcome.is_ok(), "{name}: {attempt}");
    }
    let nothing = Job { name: "nothing", host: "a", probe: &at_once, ..Job::default() };
    a.nomad.run(&nothing.hcl());
    let alloc = running(a, "nothing");
    let attempt = container(a, "nothing", &alloc).lines().attempt(SOON);
    assert!(!attempt.outcome.is_ok(), "nobody granted it: {attempt}");

    for workload in ["tag", "tag/tag", "tag/tag/tag"] {
        let explained = a.steppe(&["explain", workload, "web:80"]);
        assert_eq!(explained.code, 0, "{}{}", explained.stdout, explained.stderr);
        let told = explained.stdout;
        assert!(told.contains("tag connect_to=web:80 (service api (job tag, group tag))"), "{told}");
    }
    cluster.assert_no_leak();
}

#[test]
fn an_allocation_in_bridge_mode_is_granted_for_all_its_tasks() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.start_nomad();
    if version(a) < (1, 3) {
        return not_run("it pulls its pause image from a registry, also where Docker has it");
    }
    a.suite.start();
    let service = web_service("", "");
    let provider = Job {
        name: "web",
        host: "a",
        // Bridge mode for the provider as well: its port is published by Nomad, not by Docker.
        group: &format!(
            "network {{\n  mode = \"bridge\"\n  port \"http\" {{\n    to = 80\n  }}\n}}\n{service}"
        ),
        probe: &["serve", "--port", "80", "--name", "web"],
        ..Job::default()
    };
    a.nomad.run(&provider.hcl());
    serving(a, "web");
    let group =
        "network {\n  mode = \"bridge\"\n}\nservice {\n  name = \"api\"\n  tags = [\"connect_to=web:80\"]\n}";
    a.nomad.run(&Job { name: "api", host: "a", group, probe: &["wait"], ..Job::default() }.hcl());
    let to = web(a);
    let alloc = running(a, "api");
    let api = container(a, "api", &alloc);
    assert_eq!(reaches(&api, to), "web");
    let explained = a.steppe(&["explain", "api/api/api", "web:80"]);
    assert_eq!(explained.code, 0, "{}{}", explained.stdout, explained.stderr);
    // Its tasks have the file of its pause container, which has no address of Docker's.
    eventually(SOON, "its task asks dns", || {
        let file = api.exec(&["cat", "/etc/resolv.conf"]).ok();
        if file.contains("169.254.77.53") { Ok(()) } else { Err(file) }
    });

    // At its very first packet as well, now that it is known where.
    let at_once = ["connect", &to.to_string(), "--forever", "--interval-ms", "200", "--timeout-ms", "4000"];
    a.nomad.run(&Job { name: "early", host: "a", group, probe: &at_once, ..Job::default() }.hcl());
    let alloc = running(a, "early");
    let attempt = container(a, "early", &alloc).lines().attempt(SOON);
    println!("{attempt}, took {:?}", attempt.took());
    assert!(attempt.outcome.is_ok(), "{attempt}");

    let stranger = Job {
        name: "stranger",
        host: "a",
        group: "network {\n  mode = \"bridge\"\n}",
        probe: &["wait"],
        ..Job::default()
    };
    a.nomad.run(&stranger.hcl());
    let alloc = running(a, "stranger");
    let stranger = container(a, "stranger", &alloc);
    eventually(SOON, "it is known, and refused", || match stranger.connect(to).outcome {
        Outcome::Refused => Ok(()),
        other => Err(other),
    });
    cluster.assert_no_leak();
}

/// What has no container at all: its network namespace is Nomad's own.
const PROGRAM: &str = r#"job "program" {
  datacenters = ["dc1"]
  group "program" {
    network {
      mode = "bridge"
    }
    meta {
      connect_to = "web:80"
    }
    restart {
      attempts = 0
      mode     = "fail"
    }
    task "program" {
      driver = "raw_exec"
      config {
        command = "/bin/busybox"
        args    = ["sh", "-c", "busybox nc -w 5 WEB 80 </dev/null; exec busybox sleep 600"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
}
"#;

#[test]
fn a_program_without_a_container_is_granted_in_bridge_mode() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.start_nomad();
    a.suite.start();
    let service = web_service("", "");
    let probe = ["serve", "--port", "80", "--name", "web"];
    let config = "ports = [\"http\"]";
    a.nomad.run(&Job { name: "web", host: "a", group: PORT, task: &service, config, probe: &probe }.hcl());
    serving(a, "web");
    // Its address is known as soon as somebody asks.
    a.nomad
        .run(&Job { name: "first", host: "a", task: ASKS_FOR_WEB, probe: &["wait"], ..Job::default() }.hcl());
    let to = web(a);
    assert_eq!(reaches(&container(a, "first", &running(a, "first")), to), "web");

    a.nomad.run(&PROGRAM.replace("WEB", &to.ip().to_string()));
    let alloc = running(a, "program");
    let id = text(&alloc["ID"]);
    eventually(SOON, "it is answered", || {
        let told = a.nomad.cli(&["alloc", "logs", id, "program"], "");
        if told.stdout.starts_with("web\n") { Ok(()) } else { Err(told.stdout + &told.stderr) }
    });
    let explained = a.steppe(&["explain", "program", "web:80"]);
    assert_eq!(explained.code, 0, "{}{}", explained.stdout, explained.stderr);
    cluster.assert_no_leak();
}

#[test]
fn the_hosts_network_gives_no_grant_and_explain_says_so() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.start_nomad();
    a.suite.start();
    let group =
        "network {\n  mode = \"host\"\n}\nservice {\n  name = \"api\"\n  tags = [\"connect_to=web:80\"]\n}";
    let job = Job {
        name: "api",
        host: "a",
        group,
        config: "network_mode = \"host\"",
        probe: &["wait"],
        ..Job::default()
    };
    a.nomad.run(&job.hcl());
    running(a, "api");
    eventually(SOON, "explain says why", || {
        let explained = a.steppe(&["explain", "api/api/api", "web:80"]);
        let text = format!("{} {}{}", explained.code, explained.stdout, explained.stderr);
        if explained.code == 3 && text.contains("host's network") { Ok(()) } else { Err(text) }
    });
    cluster.assert_no_leak();
}
