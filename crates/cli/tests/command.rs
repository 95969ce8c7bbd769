//! `steppe` as a person runs it, against processes that this test plays.

mod common;

use std::{
    io::Read as _,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Control, Netfilter, Ran, Suite};

fn whole() -> Suite {
    Suite::new().control(Control::default()).netfilter().proxy().dns("dns.sock")
}

#[track_caller]
fn has(text: &str, part: &str) {
    assert!(text.contains(part), "no `{part}` in:\n{text}");
}

#[test]
fn status_of_a_whole_suite_is_ok() {
    let Ran { code, stdout, stderr } = whole().run(&["status"]);
    assert_eq!((code, &*stderr), (0, ""));
    has(&stdout, "n17  OK\n");
    has(&stdout, "proxy            1.2.0    1m0s  r7        ok\n");
    has(&stdout, "dns              1.2.0    1m0s  r7        ok\n");
    let doors = "doors: published audit, would have refused 7 packets\n";
    has(&stdout, &format!("workloads 1  services 1  ignored tags 0  {doors}"));
    has(&stdout, "next: steppe doctor --audit\n");
}

#[test]
fn status_with_control_down_is_degraded_and_says_what_to_do() {
    let suite = Suite::new().netfilter();
    let Ran { code, stdout, .. } = suite.run(&["status"]);
    assert_eq!(code, 1);
    has(&stdout, "DEGRADED");
    has(&stdout, "DOWN: traffic goes on, changes wait (there is no ");
    has(&stdout, "next: start steppe-control");
}

#[test]
fn explain_exits_with_its_answer() {
    let suite = whole();
    let yes = suite.run(&["explain", "api", "web:80"]);
    assert_eq!(yes.code, 0, "{yes:?}");
    has(&yes.stdout, "YES api 01234567 (172.17.0.5) -> web:80\n");
    has(&yes.stdout, " ok    grant     label steppe.connect_to=web:80 (container api)\n");
    let refused = suite.run(&["explain", "api", "redis"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    has(&refused.stdout, "recreate container api with the label steppe.connect_to=web:80,redis\n");
    assert_eq!(suite.run(&["explain", "api", "web:x"]).code, 2);
    assert_eq!(suite.run(&["explain", "api"]).code, 2);
    assert_eq!(suite.run(&["explain", "nobody", "web"]).code, 4);
    let host = suite.run(&["explain", "host", "web"]);
    assert_eq!(host.code, 1, "{host:?}");
}

#[test]
fn explain_asks_dns_on_behalf_of_the_workload() {
    let name = |suite: Suite| suite.run(&["explain", "api", "web:80"]);
    let two = Suite::new().control(Control::default()).netfilter().proxy().dns("dns-b.sock");
    let yes = name(two);
    assert_eq!(yes.code, 0, "{yes:?}");
    has(&yes.stdout, " ok    name      web -> 247.12.8.41\n");
    let never = name(Suite::new().control(Control::default()).netfilter().proxy());
    assert_eq!(never.code, 0, "{never:?}");
    has(&never.stdout, " warn  name      web -> 247.12.8.41, but there is no ");
    let slow = name(Suite::new().control(Control::default()).netfilter().proxy().hanging("dns-a.sock"));
    assert_eq!(slow.code, 4, "{slow:?}");
    has(&slow.stdout, "can't tell: dns-a does not answer\n");
}

#[test]
fn dns_says_what_a_workload_is_told() {
    for suite in [
        whole(),
        // Control is down, and of two that answer for names one is.
        Suite::new().netfilter().dns("dns-b.sock"),
    ] {
        let web = suite.run(&["dns", "query", "--as", "api", "web"]);
        assert_eq!((web.code, &*web.stderr), (0, ""), "{web:?}");
        has(&web.stdout, "NOERROR  api (172.17.0.5) asks web A: ");
        has(&web.stdout, "\nweb.steppe.internal. 5 IN A 247.12.8.41\n");
        let none = suite.run(&["dns", "query", "--as", "172.17.0.9", "web", "srv"]);
        assert_eq!((none.code, &*none.stdout), (1, "NXDOMAIN  172.17.0.9 asks web SRV: no such name\n"));
        let json = suite.run(&["--json", "dns", "query", "--as", "api", "web"]);
        let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(value.pointer("/result"), Some(&"service".into()), "{value}");
        assert_eq!(suite.run(&["dns", "query", "--as", "host", "web"]).code, 2);
        assert_eq!(suite.run(&["dns", "query", "web"]).code, 2);
        assert_eq!(suite.run(&["dns", "query", "--as", "nobody", "web"]).code, 4);
    }
    let away = Suite::new().control(Control::default()).run(&["dns", "query", "--as", "api", "web"]);
    assert_eq!(away.code, 4, "{away:?}");
    has(&away.stdout, "can't tell  api (172.17.0.5) asks web A: dns is down");
    let nobody = Suite::new().run(&["dns", "query", "--as", "api", "web"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
    has(&nobody.stdout, "start steppe-control");
}

#[test]
fn networks_are_ordered_from_control_alone_and_seen_without_it() {
    let suite = Suite::new().netfilter();
    let list = suite.run(&["network", "ls"]);
    assert_eq!(list.code, 0, "{list:?}");
    has(&list.stdout, "start steppe-control");
    for order in ["ensure", "rm"] {
        let away = suite.run(&["network", order, "alice"]);
        assert_eq!(away.code, 4, "{away:?}");
        has(&away.stdout, "FAIL alice: control is down");
        assert_eq!(suite.run(&["network", order, "a b"]).code, 2);
    }
    assert_eq!(Suite::new().run(&["network", "ls"]).code, 1);
}

#[test]
fn explain_knows_the_doors() {
    let suite = whole();
    let watched = suite.run(&["explain", "api", "127.0.0.1:24011"]);
    assert_eq!(watched.code, 0, "{watched:?}");
    has(&watched.stdout, "the workload itself");
    let host = suite.run(&["explain", "host", "127.0.0.1:24011"]);
    assert_eq!(host.code, 0, "{host:?}");
    has(
        &host.stdout,
        " warn  published  audit: it passes, and enforced it would not: 24011/tcp is published for pg-1",
    );
    has(&host.stdout, "7 packets counted so far");
    has(&host.stdout, "steppe.expose=host");
    let listener = suite.run(&["explain", "api", "169.254.77.54:17007"]);
    assert_eq!(listener.code, 1, "{listener:?}");
    has(&listener.stdout, "connect_to=web\n");
    let moved = suite.run(&["explain", "api", "10.9.8.7:17007", "--listener-address", "10.9.8.7"]);
    assert_eq!(moved.code, 1, "{moved:?}");
    assert_eq!(suite.run(&["explain", "api", "127.0.0.1:x"]).code, 2);
    assert_eq!(Suite::new().run(&["explain", "api", "127.0.0.1:24011"]).code, 4);
}

#[test]
fn an_agent_of_a_release_without_doors_is_no_error() {
    let old = Netfilter { old: true };
    let suite = Suite::new().control(Control::default()).netfilter_agent(old).proxy().dns("dns.sock");
    assert_eq!(suite.run(&["explain", "api", "web:80"]).code, 0);
    let doors = suite.run(&["explain", "api", "10.0.0.5:24011"]);
    assert_eq!(doors.code, 4, "{doors:?}");
    has(&doors.stdout, "can't tell: netfilter-agent is older than this\n");
    has(&doors.stdout, "upgrade steppe-netfilter-agent");
    let status = suite.run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    has(&status.stdout, "ignored tags 0\n");
    let audit = suite.run(&["doctor", "--audit"]);
    assert_eq!(audit.code, 4, "{audit:?}");
    has(&audit.stderr, "upgrade steppe-netfilter-agent");
}

#[test]
fn what_doors_would_refuse_is_summed_up() {
    let suite = whole();
    let Ran { code, stdout, stderr } = suite.run(&["doctor", "--audit"]);
    assert_eq!((code, &*stderr), (1, ""));
    has(&stdout, "published  audit    7        bob   pg-1  24011/tcp\n");
    has(&stdout, "watched for 1m0s, or longer\n");
    has(&stdout, "to enforce: steppe-control --door published=enforce\n");
    let json = suite.run(&["--json", "doctor", "--audit"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value.pointer("/cut/0/packets"), Some(&7.into()), "{value}");
    let nobody = Suite::new().run(&["doctor", "--audit"]);
    assert_eq!(nobody.code, 4, "{nobody:?}");
    has(&nobody.stderr, "start steppe-netfilter-agent");
}

#[test]
fn explain_without_a_proxy_is_broken() {
    let suite = Suite::new().control(Control::default()).netfilter();
    let Ran { code, stdout, .. } = suite.run(&["explain", "api", "web:80"]);
    assert_eq!(code, 3);
    has(&stdout, "NO  api 01234567 (172.17.0.5) -> web:80: the proxy is down\n");
    has(&stdout, " fix             start steppe-proxy");
}

#[test]
fn explain_without_control_knows_what_is_in_force() {
    let suite = Suite::new().netfilter().proxy();
    assert_eq!(suite.run(&["explain", "api", "web:80"]).code, 0);
    let Ran { code, stdout, .. } = suite.run(&["explain", "api", "redis"]);
    assert_eq!(code, 4);
    has(&stdout, "can't tell: control is down");
    has(&stdout, "fix             start steppe-control");
}

#[test]
fn a_control_that_has_not_planned_yet_does_not_deny_what_is_in_force() {
    let control = Control { unready: true, ..Control::default() };
    let suite = Suite::new().control(control).netfilter().proxy();
    assert_eq!(suite.run(&["explain", "api", "web:80"]).code, 0);
    let Ran { code, stdout, .. } = suite.run(&["explain", "api", "redis"]);
    assert_eq!(code, 4);
    has(&stdout, "can't tell: control has not planned yet");
    has(&suite.run(&["workloads"]).stdout, "note: control has not planned yet");
    let Ran { code, stdout, .. } = suite.run(&["status"]);
    assert_eq!(code, 1);
    has(&stdout, "waits for the first plan\n");
}

#[test]
fn services_and_workloads_with_and_without_control() {
    for suite in [whole(), Suite::new().netfilter().proxy()] {
        let services = suite.run(&["services", "--no-rates"]);
        assert_eq!(services.code, 0, "{services:?}");
        has(&services.stdout, "web           247.12.8.41  80     proxy  1/1     1       118    12\n");
        let workloads = suite.run(&["workloads"]);
        assert_eq!(workloads.code, 0, "{workloads:?}");
        has(&workloads.stdout, "api   0123456789ab  -     172.17.0.5  docker0  veth1  web:80\n");
    }
}

#[test]
fn rates_are_measured() {
    let Ran { code, stdout, .. } = whole().run(&["services"]);
    assert_eq!(code, 0);
    has(&stdout, "CONN/S  REFUSED/S\n");
    has(&stdout, "1/1     1       0       0\n");
}

#[test]
fn every_command_has_json() {
    let suite = whole();
    for (args, pointer) in [
        (&["status"][..], "/components/0/name"),
        (&["services"], "/services/0/vip"),
        (&["workloads"], "/workloads/0/addresses/0/ip"),
        (&["explain", "api", "web"], "/links/0/state"),
    ] {
        let ran = suite.run(&[&["--json"], args].concat());
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        assert!(
            value.pointer(pointer).is_some_and(serde_json::Value::is_string),
            "{pointer} in {}",
            ran.stdout
        );
    }
}

#[test]
fn nobody_there_is_an_error_with_what_to_do() {
    let suite = Suite::new();
    for args in [&["services"][..], &["workloads"]] {
        let Ran { code, stdout, stderr } = suite.run(args);
        assert_eq!((code, &*stdout), (1, ""));
        has(&stderr, "steppe: there is no ");
        has(&stderr, "start steppe-control");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    assert_eq!(suite.run(&["explain", "api", "web"]).code, 4);
}

#[test]
fn who_may_not_ask_is_told_so() {
    let suite = whole();
    for args in [&["status"][..], &["services"], &["workloads"]] {
        let Ran { code, stderr, .. } = suite.run_as_stranger(args);
        assert_eq!(code, 1, "{stderr}");
        has(&stderr, "permission denied on ");
        has(&stderr, "as root, or as a member of the group `steppe` (gid 60700)");
    }
    let explained = suite.run_as_stranger(&["explain", "api", "web"]);
    assert_eq!(explained.code, 4, "{explained:?}");
    has(&explained.stdout, "control may not be asked");
}

#[test]
fn a_process_that_hangs_is_waited_for_with_a_deadline() {
    let suite = Suite::new().hanging("control.sock").netfilter().proxy();
    let begun = Instant::now();
    let Ran { code, stdout, .. } = suite.run(&["status"]);
    assert_eq!(code, 1);
    has(&stdout, "NO ANSWER: no answer on ");
    let explained = suite.run(&["explain", "api", "web:80"]);
    assert_eq!(explained.code, 0, "{explained:?}");
    // Two deadlines of two seconds, and a machine that may be busy.
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_reader_that_goes_is_no_error() {
    let suite = Suite::new().control(Control { services: 20_000, ..Control::default() }).netfilter().proxy();
    let mut command = suite.command(&["services", "--no-rates"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // More than a pipe holds is to come when its reader goes.
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn colour_is_for_terminals_and_whoever_wants_it() {
    let suite = whole();
    assert!(!suite.run(&["status"]).stdout.contains('\x1b'));
    assert!(!suite.run(&["status", "--color", "never"]).stdout.contains('\x1b'));
    has(&suite.run(&["status", "--color", "always"]).stdout, "\x1b[32mOK\x1b[0m");
}

#[test]
fn help_has_examples_and_version_says_so() {
    let suite = Suite::new();
    for args in [
        &["--help"][..],
        &["status", "--help"],
        &["services", "--help"],
        &["workloads", "--help"],
        &["explain", "--help"],
    ] {
        let Ran { code, stdout, .. } = suite.run(args);
        assert_eq!(code, 0);
        has(&stdout, "Example");
    }
    has(&suite.run(&["--version"]).stdout, concat!("steppe ", env!("CARGO_PKG_VERSION")));
    assert_eq!(suite.run(&["frobnicate"]).code, 2);
}
