//! Input that makes no sense: an item is left out alone, named once and shown; a flag ends the process before anything
//! is bound; and what a process lacks is called by its name.

use serde_json::Value;
use steppe_testbed::{Cluster, Host, Identity, Output, RUN_DIR, Run, Service, eventually};

use crate::common::{
    SOON,
    programs::binary,
    provide,
    reach::{reaches, refused, vip_of},
    vip,
};

/// Something that is left out: where it stands, what it says, and a part of the reason.
type Bad = (&'static str, &'static str, &'static str);

#[test]
fn a_malformed_tag_or_registration_is_left_out_alone_and_named_once() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let _web = provide(a, "web", "web-1");
    let odd = a.docker.run(Run::serve("web-2", 80).publish(80));
    let published = odd.published(80);
    let settings = ["steppe.weight=0", "steppe.allow=a b", "steppe.proxy_protocol=v1", "steppe.pathh=kernel"];
    let odd = Service::new("web").id("web-2").at(a.address, published);
    a.consul.register(&settings.iter().fold(odd, |service, tag| service.tag(tag)));
    // Consul takes any text for an address, and any number for a port.
    for (id, address, port) in [
        ("named", "example.invalid", 80),
        ("six", "::1", 80),
        ("portless", "10.77.0.11", 0),
        ("large", "10.77.0.11", 70_000),
    ] {
        a.consul
            .register(&Service::new("web").id(id).with("Address", address.into()).with("Port", port.into()));
    }
    let api = a.docker.run(Run::idle("api"));
    let tags = [
        "connect_to=web:99999",
        "connect_to=web:80/sctp",
        "connect_to=we$b",
        "connect_to=web@elsewhere",
        "connect_to=web#:80, ,web:80",
    ];
    let asks = Service::new("api").at(api.address(), 1);
    a.consul.register(&tags.iter().fold(asks, |service, tag| service.tag(tag)));

    let web = vip(a, "web", 80);
    assert_eq!(served_by(a, &api, web), ["web-1", "web-2"], "the rest of it works");
    let expected: [Bad; 14] = [
        ("tag of Consul service api", "connect_to=web:99999", "1 to 65535"),
        ("tag of Consul service api", "connect_to=web:80/sctp", "`tcp` nor `udp`"),
        ("tag of Consul service api", "connect_to=we$b", "write 1 to 63 letters"),
        ("tag of Consul service api", "connect_to=web@elsewhere", "not yet"),
        ("tag of Consul service api", "connect_to=web#:80", "write 1 to 40 letters"),
        ("tag of Consul service api", "connect_to=", "write [USER/]NAME"),
        ("tag of Consul service web-2", "steppe.weight=0", "1 to 100"),
        ("tag of Consul service web-2", "steppe.allow=a b", "`*` allows everybody"),
        ("tag of Consul service web-2", "steppe.proxy_protocol=v1", "`v2`"),
        ("tag of Consul service web-2", "steppe.pathh=kernel", "are known"),
        ("Consul service named on a", "example.invalid:80", "IPv4"),
        ("Consul service six on a", "::1:80", "IPv4"),
        ("Consul service portless on a", "10.77.0.11:0", "1 to 65535"),
        ("Consul service large on a", "10.77.0.11:0", "1 to 65535"),
    ];
    assert_ignored(a, &expected);
    // `explain` shows what the consumer wrote, and which instances can't be dialled.
    a.consul.register(&Service::new("api").at(api.address(), 1).tag("connect_to=web:8O"));
    eventually(SOON, "the good grant is gone", || {
        let explained = a.steppe(&["explain", "api", "web:80"]);
        let told = explained.code == 1
            && explained.stdout.contains("web:8O")
            && explained.stdout.contains("port `8O` is not a number")
            && explained.stdout.contains("connect_to=web:80");
        if told { Ok(()) } else { Err(explained.stdout) }
    });
    refused(&api, web);
    // All our other tags begin with `steppe.`, so this one may as well.
    a.consul.register(&Service::new("api").at(api.address(), 1).tag("steppe.connect_to=web:80"));
    reaches(&api, web);
    let explained = a.steppe(&["explain", "api", "web:80"]).ok();
    assert!(explained.contains("named on a not dialable"), "{explained}");
    cluster.assert_no_leak();
}

#[test]
fn a_malformed_label_is_left_out_alone_and_named_once() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let labelled = |run: Run, labels: &[(&str, &str)]| {
        a.docker.run(labels.iter().fold(run, |run, (name, value)| run.label(name, value)))
    };
    let _web = labelled(Run::serve("web-1", 80), &[("steppe.service", "web:80"), ("steppe.weight", "many")]);
    let _portless = labelled(Run::idle("portless"), &[("steppe.service", "web")]);
    let _nameless =
        labelled(Run::idle("nameless"), &[("steppe.service", "w e b:80"), ("steppe.user", "a/b")]);
    let _zero = labelled(Run::idle("zero"), &[("steppe.service", "web:0")]);
    let forged = "web:x\n2026-01-01T00:00:00Z  WARN forged\u{1b}[2J";
    let forger = labelled(Run::idle("forger"), &[("steppe.connect_to", forged)]);
    let api = labelled(
        Run::idle("api"),
        &[("steppe.connect_to", "web:80,web:"), ("steppe.conect_to", "web:81"), ("steppe.user", "")],
    );

    let web = vip_of(a, "", "web", 80);
    assert_eq!(reaches(&api, web), "web-1");
    refused(&api, (web.ip(), 81).into());
    refused(&forger, web);
    let expected: [Bad; 8] = [
        ("label of container web-1", "steppe.weight=many", "1 to 100"),
        ("label of container portless", "steppe.service=web", "NAME:PORT"),
        ("label of container nameless", "steppe.service=w e b:80", "write 1 to 63 letters"),
        ("label of container nameless", "steppe.user=a/b", "write 1 to 63 letters"),
        ("label of container zero", "steppe.service=web:0", "1 to 65535"),
        ("label of container api", "connect_to=web:", "1 to 65535"),
        ("label of container api", "steppe.conect_to=web:81", "steppe.connect_to"),
        ("label of container api", "steppe.user=", "write 1 to 63 letters"),
    ];
    assert_ignored(a, &expected);
    let log = a.suite.control.log();
    assert!(!log.contains('\u{1b}') && !log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");
    let status = a.steppe(&["status"]).stdout;
    assert!(!status.contains('\u{1b}') && !status.lines().any(|line| line.starts_with("2026-")), "{status}");

    // A container that comes again with the same mistake is a new one; a fact that is told again is not.
    a.docker.call("POST", &format!("/containers/{}/pause", api.id), &Value::Null);
    a.docker.call("POST", &format!("/containers/{}/unpause", api.id), &Value::Null);
    reaches(&api, web);
    assert_ignored(a, &expected);
    cluster.assert_no_leak();
}

fn served_by(host: &Host, from: &steppe_testbed::Container, to: std::net::SocketAddr) -> Vec<String> {
    eventually(SOON, "two instances", || {
        let mut names: Vec<String> =
            (0..2).filter_map(|_| from.connect(to).outcome.name().map(str::to_owned)).collect();
        names.sort();
        names.dedup();
        if names.len() == 2 { Ok(names) } else { Err(host.steppe(&["services"]).stdout) }
    })
}

/// Each is in `steppe status`, in words and in JSON, and in one warning of control's log.
fn assert_ignored(host: &Host, expected: &[Bad]) {
    let listed = eventually(SOON, "everything odd is listed", || {
        let json = host.steppe(&["status", "--json"]).stdout;
        let json: Value = serde_json::from_str(&json).map_err(|error| error.to_string())?;
        let listed = json["ignored"].as_array().cloned().unwrap_or_default();
        let missing: Vec<_> =
            expected.iter().filter(|bad| !listed.iter().any(|item| is(item, bad))).collect();
        if missing.is_empty() { Ok(listed) } else { Err(format!("without {missing:?}: {listed:#?}")) }
    });
    let status = host.steppe(&["status"]).stdout;
    assert!(status.contains(&format!("ignored tags {}", listed.len())), "{status}");
    for (origin, text, reason) in expected {
        let line = format!("`{text}` ({origin}): ");
        let line = status.lines().find(|l| l.contains(&line)).unwrap_or_else(|| panic!("{line}\n{status}"));
        assert!(line.contains(reason), "{line}");
        let log = host.suite.control.log();
        let own = |line: &&str| {
            line.contains(" WARN ") && line.contains(&format!("origin={origin} text={text} reason="))
        };
        assert_eq!(log.lines().filter(own).count(), 1, "{origin} {text} in {log}");
    }
}

fn is(item: &Value, (origin, text, reason): &Bad) -> bool {
    let has = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
    has("origin") == *origin && has("text") == *text && has("reason").contains(reason)
}

/// A flag or variable that makes no sense, and what its message must name.
struct Wrong {
    program: &'static str,
    env: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
    says: &'static [&'static str],
}

const fn flag(program: &'static str, flags: &'static [&'static str], says: &'static [&'static str]) -> Wrong {
    Wrong { program, env: &[], flags, says }
}

const fn variable(
    program: &'static str,
    env: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
) -> Wrong {
    Wrong { program, env, flags: &[], says }
}

const CONTROL: &str = "steppe-control";
const PROXY: &str = "steppe-proxy";
const FIREWALL: &str = "steppe-netfilter-agent";
const CLI: &str = "steppe";
const LONG: &str =
    "/run/a-directory-whose-name-is-so-long-that-no-socket-in-it-could-have-a-path-that-is-short-enough";
const CONSUL: (&str, &str) = ("CONSUL_HTTP_ADDR", "127.0.0.1:8500");

const WRONG: &[Wrong] = &[
    flag(CONTROL, &["--service-cidr=247.0.0.1/8"], &["--service-cidr", "247.0.0.0/8"]),
    flag(CONTROL, &["--service-cidr=everywhere"], &["--service-cidr", "247.0.0.0/8"]),
    flag(CONTROL, &["--service-cidr=127.0.0.0/8"], &["--service-cidr", "247.0.0.0/8"]),
    flag(CONTROL, &["--listener-address=::1"], &["--listener-address", "IPv4"]),
    flag(CONTROL, &["--listener-address=247.0.0.1"], &["--listener-address", "169.254.77.54"]),
    flag(CONTROL, &["--listener-ports=9-8"], &["--listener-ports", "10000-19999"]),
    flag(CONTROL, &["--listener-ports=80"], &["--listener-ports", "10000-19999"]),
    flag(CONTROL, &["--docker=maybe"], &["--docker", "on, off"]),
    flag(CONTROL, &["--docker=off"], &["CONSUL_HTTP_ADDR", "--docker"]),
    flag(CONTROL, &["--run-dir="], &["--run-dir", "/run/steppe"]),
    flag(PROXY, &["--run-dir", LONG], &["--run-dir", "1 to 86 bytes"]),
    flag(FIREWALL, &["--run-dir", LONG], &["--run-dir", "1 to 86 bytes"]),
    flag(CONTROL, &["--proxy-uid=proxy"], &["--proxy-uid"]),
    flag(CONTROL, &["--log-format=xml"], &["--log-format", "text, json"]),
    flag(CONTROL, &["--servce-cidr=247.0.0.0/8"], &["--service-cidr"]),
    flag(CONTROL, &["consul"], &["consul"]),
    variable(CONTROL, &[("STEPPE_SERVICE_CIDR", "1.2.3.4")], &["--service-cidr", "247.0.0.0/8"]),
    variable(CONTROL, &[("CONSUL_HTTP_ADDR", "consul")], &["CONSUL_HTTP_ADDR", "127.0.0.1:8500"]),
    variable(CONTROL, &[CONSUL, ("CONSUL_HTTP_SSL", "maybe")], &["CONSUL_HTTP_SSL", "write true or false"]),
    variable(CONTROL, &[CONSUL, ("CONSUL_CACERT", "/nowhere.pem")], &["CONSUL_CACERT=/nowhere.pem"]),
    variable(
        CONTROL,
        &[CONSUL, ("CONSUL_HTTP_TOKEN_FILE", "/nowhere")],
        &["CONSUL_HTTP_TOKEN_FILE=/nowhere"],
    ),
    variable(
        CONTROL,
        &[CONSUL, ("CONSUL_CLIENT_CERT", "/c.pem")],
        &["CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY"],
    ),
    variable(
        CONTROL,
        &[("DOCKER_HOST", "tcp://10.0.0.1:2375")],
        &["DOCKER_HOST", "unix:///var/run/docker.sock"],
    ),
    variable(CONTROL, &[("RUST_LOG", "steppe=loud")], &["RUST_LOG", "debug"]),
    flag(PROXY, &["--workers=0"], &["--workers", "1 to 64"]),
    flag(PROXY, &["--workers=65"], &["--workers", "1 to 64"]),
    flag(PROXY, &["--connect-timeout=5"], &["--connect-timeout", "5s"]),
    flag(PROXY, &["--connect-timeout=2h"], &["--connect-timeout", "1ms to 1m"]),
    flag(PROXY, &["--drain-timeout=-1s"], &["--drain-timeout"]),
    flag(PROXY, &["--control-uid=root"], &["--control-uid"]),
    flag(PROXY, &["--verbose"], &["--verbose"]),
    variable(PROXY, &[("STEPPE_PROXY_WORKERS", "many")], &["--workers", "1 to 64"]),
    variable(PROXY, &[("RUST_LOG", "a=b=c")], &["RUST_LOG", "debug"]),
    flag(FIREWALL, &["--service-cidr=224.0.0.0/4"], &["--service-cidr", "247.0.0.0/8"]),
    flag(FIREWALL, &["--service-cidr=247.0.0.0"], &["--service-cidr", "247.0.0.0/8"]),
    flag(FIREWALL, &["--listener-address=127.0.0.1"], &["--listener-address", "169.254.77.54"]),
    flag(FIREWALL, &["--service-cidr=169.254.0.0/16"], &["--listener-address", "--service-cidr"]),
    flag(FIREWALL, &["--table-owner=me"], &["--table-owner", "auto"]),
    variable(FIREWALL, &[("STEPPE_CONTROL_UID", "-1")], &["--control-uid"]),
    variable(FIREWALL, &[("RUST_LOG", "=")], &["RUST_LOG", "debug"]),
    flag(CLI, &["status", "--color=blue"], &["--color", "auto"]),
    flag(CLI, &["explain", "api"], &["SERVICE"]),
    flag(CLI, &["explain", "api", "web:eighty"], &["eighty", "1 to 65535"]),
    flag(CLI, &["explian", "api", "web"], &["explain"]),
    flag(CLI, &[], &["Usage"]),
];

#[test]
fn a_flag_or_variable_that_makes_no_sense_ends_the_process_before_anything_is_bound() {
    let cluster = Cluster::hosts(1).without_consul().without_docker().start();
    let a = cluster.one();
    let mut wrong = Vec::new();
    for Wrong { program, env, flags, says } in WRONG {
        let set: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // A process that is content with it would run for ever.
        let mut words: Vec<&str> = set.iter().map(String::as_str).collect();
        let path = binary(program);
        words.extend(["timeout", "--signal=KILL", "10", path.to_str().expect("text")]);
        words.extend(*flags);
        let output = a.exec("env", &words);
        let said = output.stderr.clone() + &output.stdout;
        let unsaid: Vec<_> = says.iter().filter(|part| !said.contains(**part)).collect();
        if output.code != 2 || !unsaid.is_empty() {
            wrong.push(format!(
                "{program} {env:?} {flags:?}: code {}, without {unsaid:?}: {said}",
                output.code
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(a.exec("ls", &["-A", RUN_DIR]).ok(), "", "nothing was bound");
    assert_eq!(a.nft(&["list", "tables"]), "");
}

#[test]
fn what_a_process_lacks_is_called_by_its_name() {
    let cluster = Cluster::hosts(1).without_consul().without_docker().start();
    let a = cluster.one();
    let run = |identity: Identity, program: &str, flags: &[&str]| -> Output {
        let path = binary(program);
        let words = [&["--signal=KILL", "10", path.to_str().expect("text")], flags].concat();
        a.exec_as(identity, "timeout", &words)
    };
    let says = |output: Output, parts: &[&str]| {
        assert_eq!(output.code, 1, "{}", output.stderr);
        let last = output.stderr.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: ") && parts.iter().all(|part| last.contains(part)),
            "{parts:?}: {last}"
        );
    };
    says(run(Identity::PROXY, FIREWALL, &[]), &["CAP_NET_ADMIN is missing", "setcap cap_net_admin"]);
    assert_eq!(a.nft(&["list", "tables"]), "");
    for (identity, program) in [(Identity::PROXY, PROXY), (Identity::NETFILTER_AGENT, FIREWALL)] {
        says(
            run(identity, program, &["--run-dir=/nowhere"]),
            &["/nowhere/", "check that the directory exists"],
        );
    }
    // It makes the last part of it, and no more.
    says(
        run(Identity::CONTROL, CONTROL, &["--run-dir=/nowhere/deeper"]),
        &["/nowhere/deeper: ", "install -d"],
    );
    says(run(Identity::PROXY, PROXY, &["--run-dir=/root"]), &["/root/proxy.sock", "Permission denied"]);
    let looked = a.steppe(&["--run-dir=/nowhere", "status"]);
    assert_eq!(looked.code, 1);
    assert!(looked.stdout.contains("there is no /nowhere/control.sock"), "{}", looked.stdout);
    assert!(looked.stdout.contains("next: start steppe-control"), "{}", looked.stdout);
}

#[test]
fn a_live_socket_is_left_alone_and_a_dead_one_replaced() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.start();
    let own = [
        (&a.suite.control, Identity::CONTROL),
        (&a.suite.proxy, Identity::PROXY),
        (&a.suite.netfilter_agent, Identity::NETFILTER_AGENT),
    ];
    // An agent has its socket before it has its tables.
    let well = || {
        eventually(SOON, "all is well", || {
            let status = a.steppe(&["status"]);
            if status.code == 0 { Ok(a.nft(&["--stateless", "list", "ruleset"])) } else { Err(status.stdout) }
        })
    };
    let rules = well();
    for (daemon, identity) in own {
        let program = binary(&format!("steppe-{}", daemon.name()));
        let second =
            || a.exec_as(identity, "timeout", &["--signal=KILL", "10", program.to_str().expect("text")]);
        let pid = daemon.pid();
        let refused = second();
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        let name = format!("{RUN_DIR}/{}.sock: a live process listens there already", daemon.name());
        assert!(refused.stderr.contains(&name), "{}", refused.stderr);
        // Also while it answers nobody.
        daemon.freeze();
        assert_eq!(second().code, 1);
        daemon.thaw();
        assert_eq!(daemon.pid(), pid);
        a.suite.wait_socket(daemon);

        daemon.kill();
        let left = format!("{RUN_DIR}/{}.sock", daemon.name());
        a.exec("test", &["-S", &left]).ok();
        daemon.start();
        a.suite.wait_socket(daemon);

        // Something else of that name is nobody's socket, and not ours to remove.
        daemon.kill();
        a.sh(&format!("rm {left} && echo precious > {left} && chmod 666 {left}")).ok();
        let refused = second();
        assert_eq!(refused.code, 1, "{}", refused.stderr);
        assert!(refused.stderr.contains(&left) && refused.stderr.contains("no socket"), "{}", refused.stderr);
        assert_eq!(a.exec("cat", &[&left]).ok(), "precious\n");
        a.exec("rm", &[&left]).ok();
        daemon.start();
        a.suite.wait_socket(daemon);
    }
    assert_eq!(well(), rules);
}
