//! A service that leads nowhere.

use std::{io::Write as _, net::TcpListener};

use super::*;
use crate::common::programs::binary;

/// Registered in Consul, with a check that the test sets.
fn checked(name: &str, at: SocketAddr) -> Service {
    let SocketAddr::V4(at) = at else { panic!("IPv4") };
    Service::new(name).at(*at.ip(), at.port()).ttl_check()
}

#[test]
fn a_service_without_a_usable_instance_is_mended_at_the_instance() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let api = consume(a, "api", "none:80,ill:80,deaf:80,multi:80");

    // None at all: registered in Consul, or offered by a label.
    let none = vip(a, "none", 80);
    refused(&api, none);
    let expected = Expected {
        code: 3,
        reason: "no instance is registered",
        link: "endpoint",
        fix: "register an instance of none",
    };
    let fix = broken(a, "api", "none:80", &expected);
    let (label, value) = between(&fix, "the label ", " ").split_once('=').expect("LABEL=VALUE");
    let offering = a.docker.run(Run::serve("none-1", 80).label(label, value));
    reaches(&api, none);
    works(a, "api", "none:80");
    offering.remove();
    broken(a, "api", "none:80", &expected);
    let _registered = provide(a, "none", "none-2");
    reaches(&api, none);
    works(a, "api", "none:80");

    // One whose check fails.
    let ill = a.docker.run(Run::serve("ill-1", 80));
    a.consul.register(&checked("ill", (ill.address(), 80).into()));
    let to = vip(a, "ill", 80);
    reaches(&api, to);
    a.consul.call("PUT", "/v1/agent/check/fail/check:ill?note=disk%20full", &Value::Null);
    let fix = broken(
        a,
        "api",
        "ill:80",
        &Expected {
            code: 3,
            reason: "no instance passes its check",
            link: "endpoint",
            fix: "make an instance of ill pass its check",
        },
    );
    assert!(fix.contains("disk full"), "{fix}");
    let explained = Explained::ask(a, "api", "ill:80");
    assert!(
        explained.text.contains(&format!("{}:80 CRITICAL \"disk full\"", ill.address())),
        "{}",
        explained.text
    );
    refused(&api, to);
    a.consul.pass("ill");
    reaches(&api, to);
    works(a, "api", "ill:80");

    // One where nobody listens, though Consul calls it healthy.
    let deaf = a.docker.run(Run::idle("deaf-1"));
    a.consul.register(&checked("deaf", (deaf.address(), 80).into()));
    let to = vip(a, "deaf", 80);
    eventually(SOON, "the proxy tries", || {
        let outcome = api.connect(to).outcome;
        if outcome == steppe_testbed::Outcome::Reset { Ok(()) } else { Err(outcome) }
    });
    let fix = broken(
        a,
        "api",
        "deaf:80",
        &Expected {
            code: 3,
            reason: "no instance takes connections",
            link: "endpoint",
            fix: "see that deaf listens on ",
        },
    );
    let at: SocketAddr = between(&fix, "listens on ", ": ").parse().expect("an address");
    let listener = deaf.enter(|| TcpListener::bind(at)).expect("bind");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(b"deaf no more\n").ok();
        }
    });
    assert_eq!(reaches(&api, to), "deaf no more");
    works(a, "api", "deaf:80");

    // Two ports of one container, and neither of them is the one that was dialled.
    let multi = a.docker.run(Run::serve("multi-1", 8080));
    for (id, port, tag) in [("multi-web", 8080, "web"), ("multi-admin", 9090, "admin")] {
        a.consul.register(&Service::new("multi").id(id).at(multi.address(), port).tag(tag));
    }
    let fix = broken(
        a,
        "api",
        "multi:80",
        &Expected { code: 3, reason: "port 80 leads nowhere", link: "port", fix: "connect_to=multi#web:80" },
    );
    assert!(fix.contains("connect_to=multi#admin:80"), "{fix}");
    assert!(fix.ends_with("in the place of connect_to=multi:80"), "{fix}");
    tagged(a, &api, "api", &["connect_to=none:80", "connect_to=multi#web:80"]);
    let to = eventually(SOON, "the tagged service has a virtual IP", || {
        let explained = Explained::ask(a, "api", "multi#web:80");
        if explained.code == 0 { Ok(explained) } else { Err(explained.text) }
    });
    let to: std::net::Ipv4Addr = between(&to.text, "multi -> ", "\n").parse().expect("an address");
    assert_eq!(reaches(&api, (to, 80).into()), "multi-1");
    works(a, "api", "multi#web:80");
    cluster.assert_no_leak();
}

#[test]
fn an_instance_on_another_node_is_mended_by_publishing_its_port() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.start();
    let api = consume(a, "api", "inner:80,shut:80");

    // Registered with its container's address, which is somebody else's here.
    let inner = b.docker.run(Run::serve("inner-1", 80));
    b.consul.register(&Service::new("inner").at(inner.address(), 80));
    let to = vip(a, "inner", 80);
    let fix = broken(
        a,
        "api",
        "inner:80",
        &Expected {
            code: 3,
            reason: "no instance can be dialled from this host",
            link: "endpoint",
            fix: "publish the port of an instance of inner on its host",
        },
    );
    assert!(fix.contains("register the published port"), "{fix}");
    refused(&api, to);
    inner.remove();
    let inner = b.docker.run(Run::serve("inner-1", 80).publish(80));
    b.consul.register(&Service::new("inner").at(b.address, inner.published(80)));
    assert_eq!(reaches(&api, to), "inner-1");
    works(a, "api", "inner:80");

    // Registered with a port that it forgot to publish.
    let shut = b.docker.run(Run::serve("shut-1", 80));
    b.consul.register(&Service::new("shut").at(b.address, 24_080));
    let to = vip(a, "shut", 80);
    eventually(SOON, "the proxy tries", || {
        let outcome = api.connect(to).outcome;
        if outcome == steppe_testbed::Outcome::Reset { Ok(()) } else { Err(outcome) }
    });
    let fix = broken(
        a,
        "api",
        "shut:80",
        &Expected {
            code: 3,
            reason: "no instance takes connections",
            link: "endpoint",
            fix: "see that shut listens on 10.77.0.12:24080",
        },
    );
    let at: SocketAddr = between(&fix, "listens on ", ": ").parse().expect("an address");
    shut.remove();
    let _shut = b.docker.run(Run::serve("shut-1", 80).publish_at(80, &at.port().to_string()));
    assert_eq!(reaches(&api, to), "shut-1");
    works(a, "api", "shut:80");
    cluster.assert_no_leak();
}

#[test]
fn a_listener_that_can_not_be_is_mended_as_its_reason_says() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    a.suite.control.arg("--listener-ports=10000-10000");
    let squatter = a.enter(|| TcpListener::bind(("0.0.0.0", 10_000))).expect("bind");
    a.suite.start();
    let offer =
        |name: &str, service: &str| a.docker.run(Run::serve(name, 80).label("steppe.service", service));
    let want = |name: &str, grants: &str| a.docker.run(Run::idle(name).label("steppe.connect_to", grants));
    let _web = offer("web-1", "web:80");
    let api = want("api", "web:80");
    let web = vip(a, "web", 80);
    refused(&api, web);
    let expected = Expected {
        code: 3,
        reason: "the proxy does not listen for it",
        link: "listener",
        fix: "remove what the reason names",
    };
    broken(a, "api", "web:80", &expected);
    let explained = Explained::ask(a, "api", "web:80");
    let why =
        "none for web:80: web:80/tcp: rejected: can't listen on 169.254.77.54:10000: Address already in use";
    assert!(explained.text.contains(why), "{}", explained.text);
    let status = a.steppe(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("rejects "), "{}", status.stdout);
    drop(squatter);
    reaches(&api, web);
    works(a, "api", "web:80");

    // A second service finds no port left.
    let _late = offer("late-1", "late:80");
    let more = want("more", "late:80");
    let late = vip(a, "late", 80);
    refused(&more, late);
    let expected = Expected {
        code: 3,
        reason: "port 80 leads nowhere",
        link: "port",
        fix: "a larger range as --listener-ports",
    };
    broken(a, "more", "late:80", &expected);
    a.suite.control.kill();
    let program = binary("steppe-control");
    let words = [program.to_str().expect("text"), "--listener-ports=10000-10001"];
    let control = a.daemon("roomy", steppe_testbed::Identity::CONTROL, &words);
    control.start();
    reaches(&more, late);
    works(a, "more", "late:80");
    reaches(&api, web);
    drop(control);
    cluster.assert_no_leak();
}
