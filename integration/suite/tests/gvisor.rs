//! Under gVisor, whose containers have a network stack of their own: the same as under runc, by traffic.

mod names;
mod probe;

use std::{
    fs::{read_dir, read_to_string},
    path::Path,
    time::Duration,
};

use steppe_testbed::{Cluster, Outcome, Run, Service, eventually};

use crate::common::{
    SOON, provide,
    reach::{reaches, refused},
    vip,
};

#[test]
fn a_container_under_gvisor_reaches_what_it_is_granted_and_serves_what_it_offers() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    provide(a, "web", "web-1");
    let offers = a.docker.run(Run::serve("offers", 80).runsc());
    a.consul.register(&Service::new("inside").at(offers.address(), 80));
    let granted = a.docker.run(Run::idle("granted").runsc());
    a.consul.register(&Service::new("granted").at(granted.address(), 1).tag("connect_to=web:80,inside:80"));
    let stranger = a.docker.run(Run::idle("stranger").runsc());
    let kernel = granted.exec(&["cat", "/proc/version"]).ok();
    assert_ne!(kernel, a.sh("cat /proc/version").ok(), "gVisor says that it is another kernel");

    let [web, inside] = ["web", "inside"].map(|name| vip(a, name, 80));
    assert_eq!(reaches(&granted, web), "web-1");
    assert_eq!(reaches(&granted, inside), "offers");
    refused(&stranger, web);
    a.consul.deregister("granted");
    eventually(SOON, "the grant is gone", || match granted.connect(web).outcome {
        Outcome::Refused => Ok(()),
        other => Err(other),
    });
    cluster.assert_no_leak();
}

#[test]
fn nothing_is_left_of_a_container_under_gvisor() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let container = a.docker.run(Run::idle("idle").runsc());
    let id = container.id.clone();
    let cgroup = a.sh(&format!("find /sys/fs/cgroup -name {id} | head -1")).ok();
    assert!(!cgroup.is_empty(), "it has a cgroup");
    let processes = processes_of(&id);
    assert!(processes.iter().any(|words| words.starts_with("runsc-sandbox")), "{processes:?}");
    drop(cluster);
    assert_eq!(processes_of(&id), Vec::<String>::new());
    assert!(!Path::new(cgroup.trim()).exists(), "{cgroup} is left");
    let mounts = read_to_string("/proc/mounts").expect("/proc is mounted");
    assert!(!mounts.contains("runsc") && !mounts.contains("/proc/sys"), "{mounts}");
}

#[test]
fn a_container_under_gvisor_ends_alone_and_a_killed_sandbox_is_seen() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let [stays, goes, dies] =
        ["stays", "goes", "dies"].map(|name| a.docker.run(Run::serve(name, 80).runsc()));
    goes.remove();
    a.sh(&format!("kill -9 {}", dies.pid())).ok();
    eventually(Duration::from_secs(10), "Docker knows that it died", || {
        let state = dies.inspect()["State"]["Status"].to_string();
        if state == "\"exited\"" { Ok(()) } else { Err(state) }
    });
    let at = (stays.address(), 80);
    assert_eq!(a.connect(at, SOON).outcome, Outcome::Ok("stays".to_owned()));
}

/// The command lines of this machine's processes that name a container, in whatever namespace they are.
fn processes_of(id: &str) -> Vec<String> {
    let entries = read_dir("/proc").expect("/proc is mounted").flatten();
    let lines = entries.filter_map(|entry| read_to_string(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(id)).collect()
}
