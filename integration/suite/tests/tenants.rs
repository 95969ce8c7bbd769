//! Users on one host: whose service a name means, what members of a network reach without asking, and who is heard there.

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Container, Host, Outcome, Run, eventually};

use crate::common::{
    SOON,
    reach::{reaches, refused, vip_of},
};

fn alone() -> Cluster {
    let cluster = Cluster::hosts(1).without_consul().start();
    cluster.one().suite.start();
    cluster
}

fn of(user: &str, run: Run) -> Run {
    run.label("steppe.user", user)
}

/// The network of a user comes with the first workload that needs it.
fn with_network(host: &Host, user: &str) -> Container {
    let first = host.docker.run(of(user, Run::idle(&format!("first-of-{user}"))));
    let name = format!("steppe-{user}");
    eventually(SOON, &format!("there is a network {name}"), || {
        let all = host.docker.call("GET", "/networks", &Value::Null);
        let named = all.as_array().into_iter().flatten().any(|network| network["Name"] == json!(name));
        if named { Ok(()) } else { Err(all.to_string()) }
    });
    first
}

fn workload(host: &Host, name: &str) -> Value {
    let listed: Value = serde_json::from_str(&host.steppe(&["workloads", "--json"]).ok()).expect("JSON");
    let all = listed["workloads"].as_array().or(listed.as_array()).cloned().unwrap_or_default();
    all.into_iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name} is not in {listed}"))
}

#[test]
fn members_of_a_network_reach_their_users_services_without_asking_and_nobody_else_does() {
    let cluster = alone();
    let a = cluster.one();
    let first = with_network(a, "alice");
    let _web = a.docker.run(of("alice", Run::serve("web-1", 80).label("steppe.service", "web:80")));
    let member = a.docker.run(of("alice", Run::idle("member").network("steppe-alice")));
    let web = vip_of(a, "alice", "web", 80);
    assert_eq!(reaches(&member, web), "web-1");
    // Of a service that comes later as well, and is on the network itself.
    let db = Run::serve("db-1", 80).label("steppe.service", "db:80").network("steppe-alice");
    let _db = a.docker.run(of("alice", db));
    assert_eq!(reaches(&member, vip_of(a, "alice", "db", 80)), "db-1");

    refused(&first, web);
    let bobs = a.docker.run(of("bob", Run::idle("bobs")));
    refused(&bobs, web);
    let intruder = a.docker.run(of("bob", Run::idle("intruder")).network("steppe-alice"));
    assert_eq!(intruder.connect(web).outcome, Outcome::Timeout);
    assert_eq!(intruder.connect((member.address(), 80)).outcome, Outcome::Timeout);
    let problems = workload(a, &intruder.name)["problems"].to_string();
    assert!(problems.contains("network of alice"), "{problems}");
    // The network alone says whose a container is that says nothing itself.
    let unlabelled = a.docker.run(Run::idle("unlabelled").network("steppe-alice"));
    assert_eq!(reaches(&unlabelled, web), "web-1");
    assert_eq!(workload(a, "member")["grants"], json!(["alice/db", "alice/web"]));

    member.remove();
    let later = a.docker.run(of("alice", Run::idle("later").network("steppe-alice")));
    assert_eq!(reaches(&later, web), "web-1");
    cluster.assert_no_leak();
}

#[test]
fn a_users_own_service_takes_the_place_of_nobodys_and_never_the_other_way_round() {
    let cluster = alone();
    let a = cluster.one();
    let _nobodys = a.docker.run(Run::serve("nobodys", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(of("alice", Run::idle("api").label("steppe.connect_to", "web:80")));
    let web = vip_of(a, "alice", "web", 80);
    assert_eq!(reaches(&api, web), "nobodys");

    let own = a.docker.run(of("alice", Run::serve("own", 80).label("steppe.service", "web:80")));
    eventually(SOON, "alice's own serves", || match api.connect(web).outcome {
        Outcome::Ok(name) if name == "own" => Ok(()),
        other => Err(other),
    });
    own.remove();
    eventually(SOON, "nobody serves", || match api.connect(web).outcome {
        Outcome::Refused => Ok(()),
        other => Err(other),
    });
    for _ in 0..20 {
        refused(&api, web);
    }
    assert_eq!(vip_of(a, "alice", "web", 80), web);
    cluster.assert_no_leak();
}
