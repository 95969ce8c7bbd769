//! A namespace is a user: its network is there before its jobs are, its jobs name each other, and nobody else's.

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, eventually};

use super::{
    PLACED,
    jobs::{Job, PORT},
    text,
};
use crate::common::SOON;

/// Runs a job of a namespace, and waits for the container of its only task.
fn run(host: &Host, namespace: &str, job: Job<'_>) -> Container {
    let hcl = job.hcl().replacen('{', &format!("{{\n  namespace = \"{namespace}\""), 1);
    host.nomad.run(&hcl);
    let path = format!("/v1/job/{}/allocations?namespace={namespace}", job.name);
    let alloc = eventually(PLACED, &format!("job {} runs", job.name), || {
        let allocs = host.nomad.call("GET", &path, &Value::Null);
        let running =
            allocs.as_array().into_iter().flatten().find(|alloc| alloc["ClientStatus"] == "running");
        running.map(|alloc| text(&alloc["ID"]).to_owned()).ok_or_else(|| allocs.to_string())
    });
    host.docker.container(&format!("{}-{alloc}", job.name))
}

/// What comes of dialling a target, by its name.
fn dial(from: &Container, target: &str) -> String {
    let said = from.exec(&["probe", "dial", "--timeout-ms", "2000", target]).stdout;
    said.trim().strip_prefix(target).map_or(said.clone(), |outcome| outcome.trim().to_owned())
}

#[track_caller]
fn becomes(from: &Container, target: &str, expected: &str) {
    eventually(SOON, &format!("{} -> {target}: {expected}", from.name), || {
        let outcome = dial(from, target);
        if outcome == expected { Ok(()) } else { Err(outcome) }
    });
}

#[test]
fn a_namespace_has_a_network_before_its_first_job_and_its_jobs_name_each_other() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    for host in [a, b] {
        host.start_nomad();
        host.suite.start();
    }
    for namespace in ["alice", "bob"] {
        a.nomad.cli(&["namespace", "apply", namespace], "").ok();
    }
    for host in [a, b] {
        eventually(SOON, "each namespace has its network", || {
            let networks = host.docker.call("GET", "/networks", &Value::Null);
            let there =
                |name| networks.as_array().into_iter().flatten().any(|network| network["Name"] == name);
            if there("steppe-alice") && there("steppe-bob") { Ok(()) } else { Err(networks.to_string()) }
        });
    }
    let db = "service {\n  name = \"db\"\n  port = \"http\"\n}";
    let on_alice = "network_mode = \"steppe-alice\"";
    let serves = |host, name, probe| Job {
        name,
        host,
        group: PORT,
        task: db,
        config: "network_mode = \"steppe-alice\"\nports = [\"http\"]",
        probe,
    };
    let waits = |host, name, config| Job { name, host, config, probe: &["wait"], ..Job::default() };
    // On another host than who asks for it: by the service's name, without a tag.
    run(b, "alice", serves("b", "db-b", &["serve", "--port", "80", "--name", "db-b"]));
    let app = run(a, "alice", waits("a", "app", on_alice));
    becomes(&app, "tcp/db:80", "ok db-b");
    // A sibling beside it, by the task's name and past every service.
    run(a, "alice", serves("a", "db-a", &["serve", "--port", "80", "--name", "db-a"]));
    becomes(&app, "tcp/db-a:80", "ok db-a");

    let spy = run(a, "bob", waits("a", "spy", "network_mode = \"steppe-bob\""));
    becomes(&spy, "tcp/db:80", "noname");
    let thief = run(a, "bob", waits("a", "thief", on_alice));
    let address = app.address();
    assert_ne!(dial(&thief, &format!("tcp/{address}:80")), "refused", "nothing of it gets through");
    let explained = a.steppe(&["explain", "thief", "alice/db:80"]);
    assert_eq!(explained.code, 3, "{}{}", explained.stdout, explained.stderr);
    assert!(explained.stdout.contains("network of alice"), "{}", explained.stdout);
    cluster.assert_no_leak();
}
