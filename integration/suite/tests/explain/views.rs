//! `steppe status`, `services` and `workloads`.

use super::*;
use crate::common::programs::binary;

fn json(host: &Host, command: &[&str]) -> Value {
    let output = host.steppe(&[&["--json"], command].concat());
    serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("{command:?}: {error}: {}", output.stdout))
}

#[test]
fn status_services_and_workloads_say_what_is() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let web = ["web-1", "web-2"].map(|name| provide(a, "web", name));
    let alice = |run: Run| a.docker.run(run.label("steppe.user", "alice"));
    let _redis = alice(Run::serve("redis-1", 6379).label("steppe.service", "redis:6379"));
    let _mate = alice(Run::idle("mate").label("steppe.connect_to", "redis"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80,empty:1"));
    let on_host = |name: &str| Run::idle(name).network("host");
    let _host = a.docker.run(on_host("on-host").label("steppe.connect_to", "web:80"));
    // Asks for nothing, as Steppe's own containers do.
    let _bystander = a.docker.run(on_host("bystander"));
    let to = vip(a, "web", 80);
    reaches(&api, to);
    refused(&api, (to.ip(), 81).into());

    let status = eventually(SOON, "all is well", || {
        let status = a.steppe(&["status"]);
        if status.code == 0 { Ok(status.stdout) } else { Err(status.stdout) }
    });
    let rows: Vec<Vec<&str>> = status.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["a", "OK"]);
    assert_eq!(rows[1], ["COMPONENT", "VERSION", "UP", "IN", "FORCE", "STATE"]);
    for (row, name) in rows[2..6].iter().zip(["control", "proxy", "netfilter-agent", "dns"]) {
        assert_eq!((row[0], row[1], row[4]), (name, env!("CARGO_PKG_VERSION"), "ok"), "{status}");
        assert_eq!(row[3].starts_with('r'), name != "control", "{status}");
    }
    for source in ["docker", "consul"] {
        assert!(rows.contains(&vec![source, "live", "0s", "-"]), "{status}");
    }
    assert!(
        status.contains("workloads 7 (1 without an address)  services 3 (1 empty)  ignored tags 0"),
        "{status}"
    );
    let parsed = json(a, &["status"]);
    assert_eq!((&parsed["node"], &parsed["ok"]), (&"a".into(), &true.into()));

    // LANGUAGE's table: who, where, which ports, how many of how many, and why not.
    let services = a.steppe(&["services", "--no-rates"]).ok();
    let rows: Vec<Vec<&str>> = services.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..6], ["USER/SERVICE", "VIP", "PORTS", "PATH", "UP/ALL", "GRANTS"], "{services}");
    let row =
        |name: &str| rows.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("{name}: {services}"));
    let ip = to.ip().to_string();
    assert_eq!(row("web")[..6], ["web", &ip, "80", "proxy", "2/2", "2"]);
    assert_eq!(row("alice/redis")[2..6], ["*", "proxy", "1/1", "1"]);
    assert_eq!(row("empty")[2..6], ["1", "proxy", "0/0", "1"]);
    assert!(services.lines().any(|line| line.starts_with("empty ") && line.contains("no instance for ")));
    let rates = a.steppe(&["services"]).ok();
    assert!(rates.starts_with("USER/SERVICE") && rates.contains("CONN/S  REFUSED/S"), "{rates}");
    assert_eq!(json(a, &["services"])["services"].as_array().map(Vec::len), Some(3));

    let workloads = a.steppe(&["workloads"]).ok();
    let line = workloads.lines().find(|line| line.starts_with("api ")).unwrap_or_default();
    let row: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(row[..5], ["api", &api.id[..12], "-", &api.address().to_string(), "docker0"], "{workloads}");
    assert!(
        workloads.lines().any(|line| line.starts_with("mate ") && line.contains(" alice ")),
        "{workloads}"
    );
    assert!(row[5].starts_with("veth") && line.contains("web:80"), "{workloads}");
    let line = workloads.lines().find(|line| line.starts_with("on-host ")).unwrap_or_default();
    assert!(line.contains("no address of its own"), "{workloads}");
    assert_eq!(json(a, &["workloads"])["workloads"].as_array().map(Vec::len), Some(7));

    for container in web {
        container.remove();
    }
    for id in ["web-1", "web-2"] {
        a.consul.deregister(id);
    }
    eventually(SOON, "it is empty", || {
        let services = a.steppe(&["services", "--no-rates"]).ok();
        let row = services.lines().find(|line| line.starts_with("web ")).unwrap_or_default().to_owned();
        if row.contains("0/0") && row.contains("no instance for ") { Ok(()) } else { Err(services) }
    });
    cluster.assert_no_leak();
}

#[test]
fn status_says_what_is_down_and_what_to_do_next() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    reaches(&api, vip(a, "web", 80));
    for daemon in [&a.suite.proxy, &a.suite.netfilter_agent, &a.suite.control] {
        daemon.kill();
        let name = daemon.name();
        let told = eventually(SOON, "status tells", || {
            let status = a.steppe(&["status"]);
            let line = status.stdout.lines().find(|line| line.starts_with(&format!("{name} ")));
            let told = line.is_some_and(|line| line.contains(" DOWN")) && status.code == 1;
            if told { Ok(status.stdout) } else { Err(status.stdout) }
        });
        assert!(told.lines().next().is_some_and(|line| line.ends_with("  DEGRADED")), "{told}");
        assert!(told.contains(&format!("next: start steppe-{name} ")), "{told}");
        // The other views work as far as anybody knows.
        for view in ["services", "workloads"] {
            let seen = a.steppe(&[view]);
            assert_eq!(seen.code, 0, "{view}: {}{}", seen.stdout, seen.stderr);
            assert!(seen.stdout.contains(if view == "services" { "web" } else { "api" }), "{}", seen.stdout);
        }
        daemon.start();
        a.suite.wait_socket(daemon);
        eventually(SOON, "all is well again", || {
            let status = a.steppe(&["status"]);
            if status.code == 0 { Ok(()) } else { Err(status.stdout) }
        });
    }
    reaches(&api, vip(a, "web", 80));
    cluster.assert_no_leak();
}

#[test]
fn output_is_plain_in_a_pipe_coloured_where_it_is_wanted_and_a_reader_may_leave() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80"));
    let api = a.docker.run(Run::idle("api").label("steppe.connect_to", "web:80"));
    reaches(&api, vip(a, "web", 80));
    let commands: [&[&str]; 4] =
        [&["status"], &["services", "--no-rates"], &["workloads"], &["explain", "api", "web:80"]];
    let program = binary("steppe");
    for command in commands {
        assert!(!a.steppe(command).stdout.contains('\u{1b}'), "{command:?}");
        let coloured = a.steppe(&[&["--color=always"], command].concat());
        assert!(coloured.stdout.contains("\u{1b}["), "{command:?}");
        // The pipe is closed before anything is written to it.
        let script = format!(
            "set -o pipefail; {} {} 2>/tmp/complaints | true; echo ${{PIPESTATUS[0]}}; cat /tmp/complaints",
            program.display(),
            command.join(" ")
        );
        assert_eq!(a.sh(&script).stdout, "0\n", "{command:?}");
    }
}
