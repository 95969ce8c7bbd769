//! Names, as containers are told them.

use std::time::Duration;

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Container, Daemon, Host, Identity, Run, eventually};

use crate::common::{SOON, programs::binary};

/// Where containers ask.
const DNS: &str = "169.254.77.53:53";
/// Longer than anybody's resolver library waits for one try.
const TIMEOUT_MS: &str = "5000";

/// What a container is told, in a line: the code and the data of the answers.
fn told(container: &Container, name: &str, kind: &str, how: &[&str]) -> String {
    let question = ["probe", "ask", name, kind, "--server", DNS, "--timeout-ms", TIMEOUT_MS];
    let said = container.exec(&[&question, how].concat()).ok();
    let mut lines = said.lines();
    let code = lines.next().and_then(|line| line.split(' ').next()).unwrap_or_default().to_owned();
    let answers = lines.filter_map(|line| line.strip_prefix("answer ")).map(|record| {
        let data = record.splitn(4, ' ').nth(3);
        data.unwrap_or(record).to_owned()
    });
    std::iter::once(code).chain(answers).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn becomes(container: &Container, name: &str, expected: &str) {
    eventually(SOON, &format!("{} is told of {name}", container.name), || {
        match told(container, name, "A", &[]) {
            told if told == expected => Ok(()),
            told => Err(told),
        }
    });
}

/// The virtual IP of a user's service.
fn vip(host: &Host, user: &str, service: &str) -> String {
    eventually(SOON, &format!("{user}/{service} has a virtual IP"), || {
        let told = host.steppe(&["--json", "services", "--no-rates"]).ok();
        let services: Value = serde_json::from_str(&told).map_err(|error| error.to_string())?;
        let all = services["services"].as_array().ok_or("no services")?;
        let one = all.iter().find(|one| one["user"] == user && one["service"] == service);
        Ok::<_, String>(one.and_then(|one| one["vip"].as_str()).ok_or(told.clone())?.to_owned())
    })
}

/// alice's `web`, her `api` which may reach it, her sibling, and bob, who has a `secret` of his own.
struct Scene {
    api: Container,
    bob: Container,
    stranger: Container,
}

fn scene(a: &Host) -> Scene {
    for (user, subnet) in [("alice", "10.208.1.0/24"), ("bob", "10.208.2.0/24")] {
        let name = format!("steppe-{user}");
        let network = json!({
            "Name": name, "Driver": "bridge", "Labels": { "steppe.user": user },
            "Options": { "com.docker.network.bridge.name": name },
            "IPAM": { "Config": [{ "Subnet": subnet }] },
        });
        a.docker.call("POST", "/networks/create", &network);
    }
    let of = |user: &str, run: Run| run.label("steppe.user", user).network(&format!("steppe-{user}"));
    a.docker.run(of("alice", Run::serve("web-1", 80).label("steppe.service", "web:80")));
    a.docker.run(of("alice", Run::idle("sibling")));
    a.docker.run(of("bob", Run::serve("secret-1", 80).label("steppe.service", "secret:80")));
    Scene {
        api: a.docker.run(of("alice", Run::idle("api").label("steppe.connect_to", "web:80"))),
        bob: a.docker.run(of("bob", Run::idle("bobs").label("steppe.connect_to", "secret:80"))),
        stranger: a.docker.run(Run::idle("stranger")),
    }
}

#[test]
fn who_asks_decides_what_exists() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let Scene { api, bob, stranger } = scene(a);
    let (web, secret) = (vip(a, "alice", "web"), vip(a, "bob", "secret"));
    becomes(&api, "web", &format!("NOERROR {web}"));
    becomes(&bob, "secret", &format!("NOERROR {secret}"));
    for (name, kind, expected) in [
        ("web.steppe.internal", "A", format!("NOERROR {web}")),
        ("WEB.Steppe.Internal", "A", format!("NOERROR {web}")),
        ("web.service.consul", "A", format!("NOERROR {web}")),
        ("web.steppe.internal", "AAAA", "NOERROR".into()),
        ("web.steppe.internal", "SRV", "NOERROR 1 1 80 web.steppe.internal.".into()),
        ("sibling.steppe.internal", "A", format!("NOERROR {}", sibling_of(a))),
    ] {
        assert_eq!(told(&api, name, kind, &[]), expected, "{name} {kind}");
        assert_eq!(told(&api, name, kind, &["--tcp"]), expected, "{name} {kind}");
        for other in [&bob, &stranger] {
            assert_eq!(told(other, name, kind, &[]), "NXDOMAIN", "{} {name} {kind}", other.name);
        }
    }
    assert_eq!(told(&api, "secret.steppe.internal", "A", &[]), "NXDOMAIN");
    // What `steppe` says is what it is told.
    let query = |words: &[&str]| a.steppe(&[&["dns", "query", "--as"], words].concat());
    let yes = query(&["api", "web"]);
    assert_eq!(yes.code, 0, "{}{}", yes.stdout, yes.stderr);
    assert!(yes.stdout.contains(&format!("A {web}\n")), "{}", yes.stdout);
    assert_eq!(query(&["bobs", "web"]).code, 1);
    assert_eq!(query(&["stranger", "web"]).code, 1);
    assert_eq!(query(&["host", "web"]).code, 2);
    a.suite.control.kill();
    assert_eq!(query(&["api", "web"]).code, 0);
    // What is in force stays.
    assert_eq!(told(&api, "web", "A", &[]), format!("NOERROR {web}"));
    cluster.assert_no_leak();
}

fn sibling_of(host: &Host) -> String {
    let all = host.docker.call("GET", "/containers/sibling/json", &Value::Null);
    let networks = &all["NetworkSettings"]["Networks"];
    networks["steppe-alice"]["IPAddress"].as_str().expect("an address").to_owned()
}

#[test]
fn two_of_dns_are_replaced_in_turn_and_no_question_is_lost() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    let program = binary("steppe-dns");
    let program = program.to_str().expect("text");
    let instance = |name: &str| {
        let words = [program, "--instance", name];
        a.daemon(&format!("dns-{name}"), Identity::DNS, &words)
    };
    let both = [instance("a"), instance("b")];
    for daemon in [&a.suite.netfilter_agent, &a.suite.proxy, &a.suite.control] {
        daemon.start();
    }
    a.suite.wait_socket(&a.suite.control);
    both.iter().for_each(Daemon::start);
    both.iter().for_each(|dns| drop(dns.wait_log("listening", SOON)));
    let Scene { api, .. } = scene(a);
    let web = vip(a, "alice", "web");
    becomes(&api, "web", &format!("NOERROR {web}"));

    // A socket of its own each time, as resolver libraries have.
    let ask = format!("probe ask web A --server {DNS} --timeout-ms {TIMEOUT_MS}");
    let script = format!("while :; do {ask} | head -n 1; done");
    let asking: Vec<_> = (0..3)
        .map(|i| {
            let run = Run::new(&format!("asking-{i}"), &["sh", "-c", &script]);
            let run = run.label("steppe.user", "alice").network("steppe-alice");
            a.docker.run(run.label("steppe.connect_to", "web:80"))
        })
        .collect();
    let lines: Vec<_> = asking.iter().map(Container::lines).collect();
    let answered = |line: &str| line.starts_with("NOERROR").then_some(());
    lines.iter().for_each(|lines| lines.until(SOON, "an answer", answered));
    // Their first questions may have come before they were known.
    lines.iter().for_each(|lines| drop(lines.drain()));
    let mut heard = 0;
    for _ in 0..2 {
        for dns in &both {
            let ended = dns.terminate(Duration::from_secs(5));
            assert!(ended.success(), "{ended}\n{}", dns.log());
            dns.start();
            dns.wait_log("listening", SOON);
            for (container, lines) in asking.iter().zip(&lines) {
                let mut said = lines.drain();
                said.push(lines.next(SOON));
                for line in &said {
                    assert!(line.starts_with("NOERROR"), "{}: {line}", container.name);
                }
                heard += said.len();
            }
        }
    }
    println!("{heard} questions were answered");
    assert!(heard > 20, "{heard}");
    drop(both);
    cluster.assert_no_leak();
}
