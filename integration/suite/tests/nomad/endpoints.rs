//! Where the instances of Nomad's jobs are dialled: never at a stranger's address, and not after their end.

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Host, eventually};

use super::{
    PLACED, container,
    jobs::{Job, PORT, web_service},
    not_run, running, text, version, web,
};
use crate::common::{
    SOON,
    reach::{reaches, served},
    world::listener,
};

const MINE: &str = "network_mode = \"mine\"\nports = [\"http\"]";

/// A consumer in the same user-defined network, so that addresses repeat from host to host.
fn consumer(host: &Host) -> steppe_testbed::Container {
    let task = "service {\n  name = \"api\"\n  tags = [\"connect_to=web:80\"]\n}";
    let job = Job {
        name: "api",
        host: "a",
        task,
        config: "network_mode = \"mine\"",
        probe: &["wait"],
        ..Job::default()
    };
    host.nomad.run(&job.hcl());
    container(host, "api", &running(host, "api"))
}

fn two_hosts_one_subnet(cluster: &Cluster) -> [&Host; 2] {
    let hosts: [&Host; 2] = cluster.all();
    for host in hosts {
        host.docker.create_network("mine", "172.30.1.0/24");
        host.start_nomad();
    }
    hosts[0].suite.start();
    hosts
}

/// Two hosts, one user, the same container address, the default `address_mode`: the registered address of the instance on
/// the other host is that of a stranger on this one.
fn nobody_dials_the_stranger_next_door(provider: &str) {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = two_hosts_one_subnet(&cluster);
    if provider == "nomad" && version(a) < (1, 3) {
        return not_run("it has no services of its own");
    }
    let api = consumer(a);
    // The stranger takes the next address here, which the instance has there.
    let stranger = steppe_testbed::Run::serve("stranger", 80).network("mine");
    let stranger = a.docker.run(stranger);
    let taken = b.docker.run(steppe_testbed::Run::idle("taken").network("mine"));
    let service = web_service(provider, "");
    let probe = ["serve", "--port", "80", "--name", "web-on-b"];
    let job = Job { name: "web", host: "b", group: PORT, task: &service, config: MINE, probe: &probe };
    a.nomad.run(&job.hcl());
    let alloc = running(a, "web");
    let instance = container(b, "web", &alloc);
    assert_eq!(instance.address(), stranger.address(), "{} is taken there", taken.address());
    let to = web(a);
    assert_eq!(served(&api, to, 1, 50).keys().collect::<Vec<_>>(), ["web-on-b"]);

    // One more on this host, at its container's own address.
    let probe = ["serve", "--port", "80", "--name", "web-on-a"];
    a.nomad.run(&Job { name: "web-a", host: "a", probe: &probe, ..job }.hcl());
    running(a, "web-a");
    let counts = served(&api, to, 2, 40);
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [("web-on-a".into(), 20), ("web-on-b".into(), 20)]);
    cluster.assert_no_leak();
}

#[test]
fn nobody_dials_the_stranger_next_door_whom_consul_registered() {
    nobody_dials_the_stranger_next_door("");
}

#[test]
fn nobody_dials_the_stranger_next_door_whom_nomad_registered() {
    nobody_dials_the_stranger_next_door("nomad");
}

#[test]
fn a_job_that_stops_takes_its_endpoints_along_though_consul_still_lists_them() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.docker.create_network("mine", "172.30.1.0/24");
    a.start_nomad();
    a.suite.start();
    let api = consumer(a);
    let service = web_service("", "");
    let probe = ["serve", "--port", "80", "--name", "web"];
    let job = Job { name: "web", host: "a", group: PORT, task: &service, config: MINE, probe: &probe };
    a.nomad.run(&job.hcl());
    let alloc = running(a, "web");
    let to = web(a);
    assert_eq!(reaches(&api, to), "web");

    // Consul loses nothing from now on: what Nomad takes away is put back as a stale registration.
    let registered = a.consul.call("GET", "/v1/agent/services", &Value::Null);
    let registered = registered.as_object().into_iter().flatten().map(|(_, service)| service.clone());
    let registered = registered.into_iter().find(|service| service["Service"] == "web").expect("registered");
    let stale = json!({
        "ID": registered["ID"], "Name": "web", "Address": registered["Address"], "Port": registered["Port"],
    });
    a.nomad.cli(&["job", "stop", "-detach", "web"], "").ok();
    eventually(PLACED, "the allocation has ended", || {
        let alloc = a.nomad.call("GET", &format!("/v1/allocation/{}", text(&alloc["ID"])), &Value::Null);
        if alloc["ClientStatus"] == "complete" { Ok(()) } else { Err(alloc["ClientStatus"].to_string()) }
    });
    a.consul.call("PUT", "/v1/agent/service/register", &stale);
    eventually(SOON, "Consul lists it", || {
        let health = a.consul.call("GET", "/v1/health/service/web?passing", &Value::Null);
        if health.as_array().is_some_and(|all| all.len() == 1) { Ok(()) } else { Err(health.to_string()) }
    });
    steppe_testbed::throughout(std::time::Duration::from_secs(2), "it is no endpoint", || {
        match listener(a, "web") {
            Some(listener) if !listener.endpoints.is_empty() => Err(format!("{listener:?}")),
            _ => Ok(()),
        }
    });
    assert!(!api.connect(to).outcome.is_ok());
    cluster.assert_no_leak();
}
