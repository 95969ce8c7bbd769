//! Names: whom a workload asks, and for what no grant is needed.

use serde_json::json;
use steppe_testbed::Outcome;

use super::*;

/// Nobody's (RFC 5737).
const ELSEWHERE: &str = "192.0.2.53";

/// What comes of dialling a name from inside a container.
fn dial(from: &Container, target: &str) -> Outcome {
    let told = from.exec(&["probe", "dial", "--timeout-ms", "1500", &format!("tcp/{target}")]).ok();
    let outcome = told.split_once(' ').map_or("", |(_, outcome)| outcome.trim());
    outcome.parse().unwrap_or_else(|error| panic!("{told}: {error}"))
}

#[track_caller]
fn reaches_by_name(from: &Container, target: &str, server: &str) {
    eventually(SOON, &format!("{} reaches {target}", from.name), || match dial(from, target) {
        Outcome::Ok(name) if name == server => Ok(()),
        other => Err(other),
    });
}

#[test]
fn a_resolver_that_its_author_chose_is_left_and_explained() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let run = || Run::idle("api").label("steppe.connect_to", "web:80");
    let api = a.docker.run(run().host_config("Dns", json!([ELSEWHERE])));
    let web = vip(a, "web", 80);
    reaches(&api, web);
    let reason = "its resolver is not dns";
    let expected = Expected { code: 3, reason, link: "name", fix: "no --dns" };
    let fix = broken(a, "api", "web:80", &expected);
    let asked = Explained::ask(a, "api", "web:80");
    assert!(asked.text.contains(ELSEWHERE), "{}", asked.text);
    let listed = a.steppe(&["workloads"]).stdout;
    assert!(
        listed.lines().any(|line| line.starts_with("api ") && line.contains("does not ask dns")),
        "{listed}"
    );
    // The address needs no name.
    works(a, "api", &web.to_string());

    api.remove();
    let api = a.docker.run(run());
    reaches_by_name(&api, "web:80", "web-1");
    works(a, "api", "web:80");
    api.remove();
    let first = between(&fix, "or name ", " first");
    let api = a.docker.run(run().host_config("Dns", json!([first])));
    reaches_by_name(&api, "web.steppe.internal:80", "web-1");
    works(a, "api", "web:80");
    cluster.assert_no_leak();
}

#[test]
fn a_member_that_is_no_service_is_reached_from_its_network_alone() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--users=alice");
    a.suite.start();
    networks_of(a, &["alice"]);
    let of_alice = |run: Run| run.label("steppe.user", "alice");
    let _db = a.docker.run(of_alice(Run::serve("db", 5432)).network("steppe-alice"));
    let api = a.docker.run(of_alice(Run::idle("api")));
    let reason = "it is not on the network of alice";
    let expected = Expected { code: 3, reason, link: "network", fix: "docker run --network steppe-alice" };
    let fix = broken(a, "api", "db:5432", &expected);
    api.remove();
    let network = between(&fix, "docker run --network ", ",");
    let api = a.docker.run(of_alice(Run::idle("api")).network(network));
    reaches_by_name(&api, "db:5432", "db");
    let yes = works(a, "api", "db:5432");
    assert!(yes.text.contains("both are on the network of alice: direct"), "{}", yes.text);

    // What the network's user provides needs no tag there.
    let web = of_alice(Run::serve("web-1", 80)).label("steppe.service", "web:80");
    let _web = a.docker.run(web);
    reaches_by_name(&api, "web:80", "web-1");
    let yes = works(a, "api", "web:80");
    assert!(yes.text.contains("grant     member of the network of alice\n"), "{}", yes.text);
    cluster.assert_no_leak();
}
