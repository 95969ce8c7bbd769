//! `steppe explain`: the first broken link is named, and doing what its `fix` says makes the traffic flow.

mod doors;
mod instances;
mod names;
mod processes;
mod views;

use std::net::SocketAddr;

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, Run, Service, eventually};

use crate::common::{
    SOON, consume, provide,
    reach::{reaches, refused, vip_of},
    vip,
};

/// What `steppe explain` said, in words and as JSON.
struct Explained {
    code: i32,
    text: String,
    json: Value,
}

impl Explained {
    fn ask(host: &Host, workload: &str, service: &str) -> Self {
        let words = host.steppe(&["explain", workload, service]);
        let json = host.steppe(&["--json", "explain", workload, service]);
        let parsed: Value = serde_json::from_str(&json.stdout).expect("--json is JSON");
        assert_eq!(parsed["exit_code"], json.code);
        assert!(words.stderr.is_empty(), "{}", words.stderr);
        Self { code: words.code, text: words.stdout, json: parsed }
    }

    fn first_line(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The first link that is marked so, such as `FAIL`, and its `fix`.
    fn first(&self, mark: &str) -> Option<(&str, &str)> {
        let mut lines = self.text.lines().skip_while(|line| !line.starts_with(&format!(" {mark} ")));
        let link = lines.next()?.split_whitespace().nth(1)?;
        let fix = lines.next()?.strip_prefix(" fix ")?;
        Some((link, fix.trim()))
    }
}

/// What the answer must be.
struct Expected<'a> {
    code: i32,
    /// What stands at the end of the first line.
    reason: &'a str,
    link: &'a str,
    fix: &'a str,
}

/// Waits until the answer is as expected, and returns what the first broken link says is to be done.
#[track_caller]
fn broken(host: &Host, workload: &str, service: &str, expected: &Expected<'_>) -> String {
    let Expected { code, reason, link, fix } = expected;
    // What can't be told has no broken link, but one that says what to do so that it can.
    let (lead, mark) = if *code == 4 { ("?   ", "?") } else { ("NO  ", "FAIL") };
    eventually(SOON, &format!("{link}: {reason}"), || {
        let explained = Explained::ask(host, workload, service);
        let line = explained.first_line();
        let said = explained.first(mark).filter(|(seen, said)| seen == link && said.contains(fix));
        match said {
            Some((_, said))
                if explained.code == *code
                    && line.starts_with(lead)
                    && line.ends_with(&format!(": {reason}")) =>
            {
                Ok(said.to_owned())
            }
            _ => Err(format!("code {}\n{}", explained.code, explained.text)),
        }
    })
}

/// Waits until nothing is broken: a YES, and no link that is not ok.
#[track_caller]
fn works(host: &Host, workload: &str, service: &str) -> Explained {
    eventually(SOON, &format!("{workload} -> {service} is a yes"), || {
        let explained = Explained::ask(host, workload, service);
        let links = explained.json["links"].as_array().cloned().unwrap_or_default();
        let ok = links.iter().all(|link| link["state"] == "ok") && !links.is_empty();
        if explained.code == 0 && ok && explained.first_line().starts_with("YES ") {
            Ok(explained)
        } else {
            Err(format!("code {}\n{}", explained.code, explained.text))
        }
    })
}

/// Waits until these users have their networks.
#[track_caller]
fn networks_of(host: &Host, users: &[&str]) {
    for user in users {
        eventually(SOON, &format!("{user} has a network"), || {
            let listed = host.docker.call("GET", "/networks", &Value::Null);
            let name = format!("steppe-{user}");
            let there =
                listed.as_array().is_some_and(|all| all.iter().any(|network| network["Name"] == name));
            there.then_some(()).ok_or(listed)
        });
    }
}

/// What stands between two texts.
#[track_caller]
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let found = text.split_once(before).and_then(|(_, rest)| rest.split(after).next());
    found.unwrap_or_else(|| panic!("`{before}` is not in {text}")).trim()
}

const NO_GRANT: Expected<'_> = Expected { code: 1, reason: "no grant", link: "grant", fix: "" };

/// A container with a Consul service that has tags.
fn tagged(host: &Host, container: &Container, id: &str, tags: &[&str]) {
    let service = Service::new(id).at(container.address(), 1);
    host.consul.register(&tags.iter().fold(service, |service, tag| service.tag(tag)));
}

#[test]
fn a_missing_or_wrong_grant_is_mended_by_the_tag_or_label_that_fix_names() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let _web = provide(a, "web", "web-1");
    let api = consume(a, "api", "web:80");
    let web = vip(a, "web", 80);
    assert_eq!(reaches(&api, web), "web-1");
    let yes = works(a, "api", "web:80");
    let line = format!("YES api {} ({}) -> web:80", &api.id[..8], api.address());
    assert_eq!(yes.first_line(), line);
    for part in
        ["tag connect_to=web:80 (Consul service api)", &format!("web -> {}", web.ip()), " hit", "passing"]
    {
        assert!(yes.text.contains(part), "{part}: {}", yes.text);
    }
    // Every way to name the two gives the same answer.
    for workload in [&api.id[..8], &api.id, &api.address().to_string()] {
        for service in ["web:80", "web", &web.to_string(), &web.ip().to_string()] {
            assert!(works(a, workload, service).first_line().starts_with("YES api "));
        }
    }

    // Nothing at all: a tag of its service, or a label of a container that is made anew.
    let bare = a.docker.run(Run::idle("bare"));
    refused(&bare, web);
    let fix = broken(a, "bare", "web:80", &NO_GRANT);
    tagged(a, &bare, "bare", &[between(&fix, "add tag ", " to its Consul service")]);
    reaches(&bare, web);
    works(a, "bare", "web:80");
    let again = a.docker.run(Run::idle("again"));
    let fix = broken(a, "again", "web:80", &NO_GRANT);
    assert!(fix.starts_with("recreate container again with the label "), "{fix}");
    let (label, value) = between(&fix, "the label ", ", or").split_once('=').expect("LABEL=VALUE");
    again.remove();
    let again = a.docker.run(Run::idle("again").label(label, value));
    reaches(&again, web);
    works(a, "again", "web:80");

    // Another grant: beside it, in the same place.
    let worker = consume(a, "worker", "redis:6379");
    let fix = broken(a, "worker", "web:80", &NO_GRANT);
    let explained = Explained::ask(a, "worker", "web:80");
    assert!(explained.text.contains("this workload's grants: redis:6379"), "{}", explained.text);
    tagged(
        a,
        &worker,
        between(&fix, "to Consul service ", " "),
        &["connect_to=redis:6379", between(&fix, "add tag ", " ")],
    );
    reaches(&worker, web);
    let labelled = a.docker.run(Run::idle("labelled").label("steppe.connect_to", "redis:6379"));
    let fix = broken(a, "labelled", "web:80", &NO_GRANT);
    assert_eq!(between(&fix, "the label steppe.connect_to=", ", or"), "redis:6379,web:80");
    labelled.remove();
    let labelled = a.docker.run(Run::idle("labelled").label("steppe.connect_to", "redis:6379,web:80"));
    reaches(&labelled, web);

    // A wrong port, and a malformed one.
    let wrong = consume(a, "wrong", "web:81");
    let fix = broken(a, "wrong", "web:80", &NO_GRANT);
    tagged(a, &wrong, "wrong", &["connect_to=web:81", between(&fix, "add tag ", " ")]);
    reaches(&wrong, web);
    let malformed = consume(a, "malformed", "web:8O");
    let expected =
        Expected { reason: "its grant is malformed", fix: "tag of Consul service malformed", ..NO_GRANT };
    let fix = broken(a, "malformed", "web:80", &expected);
    tagged(a, &malformed, "malformed", &[between(&fix, "write ", " ")]);
    reaches(&malformed, web);
    works(a, "malformed", "web:80");
    cluster.assert_no_leak();
}

#[test]
fn another_users_service_is_mended_by_its_provider() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let pg = || Run::serve("pg-1", 5432).label("steppe.user", "bob").label("steppe.service", "pg:5432");
    let provider = a.docker.run(pg());
    let wants = |name: &str| Run::idle(name).label("steppe.connect_to", "bob/pg:5432");
    let bill = a.docker.run(wants("bill").label("steppe.user", "alice"));
    let nobody = a.docker.run(wants("nobody"));
    let at = vip_of(a, "bob", "pg", 5432);
    refused(&bill, at);
    let fix = broken(
        a,
        "bill",
        "bob/pg:5432",
        &Expected { code: 1, reason: "bob does not allow alice", link: "allow", fix: "steppe.allow=alice" },
    );
    let explained = Explained::ask(a, "bill", "bob/pg:5432");
    let line = format!(
        "NO  bill {} ({}, alice) -> bob/pg:5432: bob does not allow alice",
        &bill.id[..8],
        bill.address()
    );
    assert_eq!(explained.first_line(), line);
    let redo = |provider: Container, fix: &str| {
        let (name, value) = between(fix, "provider tag ", " ").split_once('=').expect("NAME=VALUE");
        provider.remove();
        a.docker.run(pg().label(name, value))
    };
    let provider = redo(provider, &fix);
    reaches(&bill, at);
    works(a, "bill", "bob/pg:5432");

    let fix = broken(
        a,
        "nobody",
        "bob/pg:5432",
        &Expected {
            code: 1,
            reason: "bob does not allow workloads without a user",
            link: "allow",
            fix: "steppe.allow=*",
        },
    );
    let _provider = redo(provider, &fix);
    reaches(&nobody, at);
    works(a, "nobody", "bob/pg:5432");
    cluster.assert_no_leak();
}

#[test]
fn who_has_no_address_of_its_own_is_told_to_get_one() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let run = || Run::idle("api").label("steppe.connect_to", "web:80");
    let mut api = a.docker.run(run().network("host"));
    for network in ["host", "none"] {
        api.remove();
        api = a.docker.run(run().network(network));
        let fix = broken(
            a,
            "api",
            "web:80",
            &Expected {
                code: 3,
                reason: "no grant can be bound to it",
                link: "address",
                fix: "docker run --network bridge",
            },
        );
        api.remove();
        api = a.docker.run(run().network(between(&fix, "docker run --network ", ";")));
        reaches(&api, vip(a, "web", 80));
        works(a, "api", "web:80");
    }

    let fix = broken(
        a,
        "host",
        "web:80",
        &Expected {
            code: 1,
            reason: "the host's own processes get no grant",
            link: "grant",
            fix: "in a container on a bridge network",
        },
    );
    let (label, value) = between(&fix, "with the label ", ",").split_once('=').expect("LABEL=VALUE");
    let moved = a.docker.run(Run::idle("moved").label(label, value));
    reaches(&moved, vip(a, "web", 80));

    let none = Explained::ask(a, "nobody", "web:80");
    assert_eq!(none.code, 4, "{}", none.text);
    assert!(none.text.contains("`steppe workloads`"), "{}", none.text);
    let two = Explained::ask(a, &api.address().to_string(), "web:x");
    assert_eq!(two.code, 2, "{}", two.text);
    assert!(two.first_line().contains("1 to 65535"), "{}", two.text);
    cluster.assert_no_leak();
}
