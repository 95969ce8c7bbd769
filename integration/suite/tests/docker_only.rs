//! One host without Consul: labels alone say who provides and who connects.

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use serde_json::json;
use steppe_testbed::{Cluster, Container, Host, Outcome, Run, eventually};

use crate::common::{
    SOON,
    reach::{reaches, refused, served, vip_of},
    vip,
};

/// A reset is a matter of one round trip on this host; a machine under load gets fifty times that.
const AT_ONCE: Duration = Duration::from_millis(100);

fn alone() -> Cluster {
    let cluster = Cluster::hosts(1).without_consul().start();
    cluster.one().suite.start();
    cluster
}

fn provide(host: &Host, name: &str, service: &str) -> Container {
    host.docker.run(Run::serve(name, 80).label("steppe.service", service))
}

fn consume(host: &Host, name: &str, connect_to: &str) -> Container {
    host.docker.run(Run::idle(name).label("steppe.connect_to", connect_to))
}

fn counts<const N: usize>(expected: [(&str, u32); N]) -> BTreeMap<String, u32> {
    expected.map(|(name, count)| (name.to_owned(), count)).into()
}

#[test]
fn labels_grant_and_balance_by_weight_and_everybody_else_is_refused() {
    let cluster = alone();
    let a = cluster.one();
    let _web = ["web-1", "web-2", "web-3"].map(|name| provide(a, name, "web:80"));
    let heavy = Run::serve("heavy", 80).label("steppe.service", "store:80").label("steppe.weight", "3");
    let _store = [a.docker.run(heavy), provide(a, "light", "store:80")];
    let api = consume(a, "api", "web:80, store:80");
    let stranger = a.docker.run(Run::idle("stranger"));
    let (web, store) = (vip(a, "web", 80), vip(a, "store", 80));

    assert_eq!(served(&api, web, 3, 30), counts([("web-1", 10), ("web-2", 10), ("web-3", 10)]));
    assert_eq!(served(&api, store, 2, 40), counts([("heavy", 30), ("light", 10)]));
    for to in [web, store] {
        refused(&stranger, to);
        let again = stranger.connect(to);
        assert_eq!(again.outcome, Outcome::Refused);
        assert!(again.took() < AT_ONCE, "{:?}", again.took());
    }
    refused(&api, (web.ip(), 81).into());
    refused(&api, ([247, 1, 2, 3], 80).into());

    // The label of a stranger is nobody's business but its own.
    let late = consume(a, "late", "store:80");
    reaches(&late, store);
    refused(&late, web);
    cluster.assert_no_leak();
}

#[test]
fn a_grant_without_a_port_is_every_tcp_port_and_a_more_exact_one_wins() {
    let cluster = alone();
    let a = cluster.one();
    let _web = provide(a, "web-1", "web:80");
    let both = consume(a, "both", "web, web:8080");
    let exact = consume(a, "exact", "web:8080");
    let web = vip(a, "web", 0).ip();

    for port in [1, 80, 8080, 65535] {
        assert_eq!(reaches(&both, (web, port).into()), "web-1", "port {port}");
    }
    assert_eq!(reaches(&exact, (web, 8080).into()), "web-1");
    refused(&exact, (web, 80).into());
    assert_eq!(unreachable_by_udp(&both, (web, 80).into()), Some(std::io::ErrorKind::HostUnreachable));

    // Of the two listeners the exact one took what was dialled at its port.
    let accepted = |port: u64| {
        let listed = a.grpcurl(&a.suite.proxy, &[], &["steppe.v1.Proxy/ListListeners"]).ok();
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        let listeners = listed["listeners"].as_array().cloned().unwrap_or_default();
        let listener = listeners.iter().find(|l| l["listener"]["port"].as_u64().unwrap_or(0) == port);
        let total = listener.map(|l| l["acceptedTotal"].as_str().unwrap_or("0").to_owned());
        total.unwrap_or_else(|| panic!("no listener for {port}: {listed}"))
    };
    let (before, other) = (accepted(8080), accepted(0));
    reaches(&both, (web, 8080).into());
    assert_ne!(accepted(8080), before);
    assert_eq!(accepted(0), other);
    cluster.assert_no_leak();
}

/// Sends a datagram and returns the error that comes back for it.
fn unreachable_by_udp(from: &Container, to: SocketAddr) -> Option<std::io::ErrorKind> {
    from.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
        socket.set_read_timeout(Some(SOON)).expect("a time-out above zero");
        socket.connect(to).expect("a route");
        // The answer to the first may already fail the second step, which is as good.
        let sent = socket.send(b"?").and_then(|_| socket.recv(&mut [0; 8]));
        sent.err().map(|error| error.kind())
    })
}

#[test]
fn two_users_services_of_one_name_are_two_services() {
    let cluster = alone();
    let a = cluster.one();
    let of = |user: &str, run: Run| a.docker.run(run.label("steppe.user", user));
    let redis = |name: &str| Run::serve(name, 6379).label("steppe.service", "redis:6379");
    let wants = |name: &str, text: &str| Run::idle(name).label("steppe.connect_to", text);
    let _alices = of("alice", redis("alices"));
    let bobs = of("bob", redis("bobs"));
    let alice = of("alice", wants("alice", "redis:6379, bob/redis:6379"));
    let bob = of("bob", wants("bob", "redis:6379"));
    let nobody = consume(a, "nobody", "redis:6379");

    let [hers, his] = ["alice", "bob"].map(|user| vip_of(a, user, "redis", 6379));
    assert_ne!(hers, his);
    assert_eq!(reaches(&alice, hers), "alices");
    assert_eq!(reaches(&bob, his), "bobs");
    refused(&alice, his);
    refused(&bob, hers);
    // Who has no user means nobody's `redis`, and there is none.
    for redis in [hers, his, vip_of(a, "", "redis", 6379)] {
        refused(&nobody, redis);
    }

    // All of bob's instances must allow her.
    bobs.remove();
    let _open = of("bob", redis("open").label("steppe.allow", "carol, alice"));
    assert_eq!(reaches(&alice, his), "open");
    let closed = of("bob", redis("closed"));
    eventually(SOON, "one instance that does not allow her is enough", || {
        let outcome = alice.connect(his).outcome;
        if outcome == Outcome::Refused { Ok(()) } else { Err(outcome) }
    });
    closed.remove();
    let _anybody = of("bob", redis("anybody").label("steppe.allow", "*"));
    assert_eq!(served(&alice, his, 2, 4), counts([("open", 2), ("anybody", 2)]));
    assert_eq!(reaches(&alice, hers), "alices");
    cluster.assert_no_leak();
}

#[test]
fn a_granted_name_is_refused_until_its_service_exists_and_again_when_it_is_gone() {
    let cluster = alone();
    let a = cluster.one();
    let asks = consume(a, "asks", "web:80");
    let web = vip(a, "web", 80);
    refused(&asks, web);
    let run = Run::connect("api", web, Duration::from_millis(5)).label("steppe.connect_to", "web:80");
    let lines = a.docker.run(run).lines();
    let (_, first) =
        lines.attempts_until(SOON, "it is refused", |attempt| attempt.outcome == Outcome::Refused);
    assert!(first.took() < Duration::from_secs(2), "{first:?}");

    let provider = provide(a, "web-1", "web:80");
    let (before, _) = lines.attempts_until(SOON, "it is served", |attempt| attempt.outcome.is_ok());
    for attempt in before {
        // Docker attaches a container before its program listens: then the proxy finds nobody there, and resets.
        assert!(matches!(attempt.outcome, Outcome::Refused | Outcome::Reset), "{attempt:?}");
        assert!(attempt.took() < AT_ONCE, "at once: {:?}", attempt.took());
    }
    provider.remove();
    lines.attempts_until(SOON, "it is refused again", |attempt| attempt.outcome == Outcome::Refused);
    let attempt = lines.attempt(SOON);
    assert_eq!(attempt.outcome, Outcome::Refused);
    cluster.assert_no_leak();
}

#[test]
fn a_container_that_is_started_again_is_served_at_its_new_port() {
    let cluster = alone();
    let a = cluster.one();
    let mut web = provide(a, "web-1", "web:80");
    let mut api = consume(a, "api", "web:80");
    let to = vip(a, "web", 80);
    reaches(&api, to);
    let port = |container: &str| {
        let listed: serde_json::Value =
            serde_json::from_str(&a.steppe(&["workloads", "--json"]).ok()).expect("JSON");
        let listed = listed["workloads"].as_array().cloned().unwrap_or_default();
        let found = listed.iter().find(|workload| workload["name"] == container).cloned();
        found
            .and_then(|workload| Some(workload["addresses"][0]["port"].as_str()?.to_owned()))
            .unwrap_or_default()
    };
    let before = port("api");
    assert!(before.contains("veth"), "{before}");

    api.stop();
    // Its address and hardware address pass on, its grant does not.
    let heir = a.docker.run(Run::idle("heir"));
    assert_eq!((heir.address(), heir.mac()), (api.address(), api.mac()));
    refused(&heir, to);
    api.start_again();
    reaches(&api, to);
    assert_ne!(port("api"), before);
    refused(&heir, to);

    web.stop();
    eventually(SOON, "nobody is there", || {
        let outcome = api.connect(to).outcome;
        if outcome == Outcome::Refused { Ok(()) } else { Err(outcome) }
    });
    web.start_again();
    reaches(&api, to);
    cluster.assert_no_leak();
}

#[test]
fn networks_of_their_own_are_as_good_as_dockers_bridge() {
    let cluster = alone();
    let a = cluster.one();
    a.docker.create_network("mine", "172.30.1.0/24");
    a.docker.create_network("other", "172.30.2.0/24");
    let attach = |verb: &str, network: &str, container: &Container| {
        a.docker.call("POST", &format!("/networks/{network}/{verb}"), &json!({ "Container": container.id }));
    };
    let _web = a.docker.run(Run::serve("web-1", 80).label("steppe.service", "web:80").network("mine"));
    let near = a.docker.run(Run::idle("near").label("steppe.connect_to", "web:80").network("mine"));
    let far = a.docker.run(Run::idle("far").label("steppe.connect_to", "web:80").network("other"));
    let bridge = consume(a, "bridge", "web:80");
    let stranger = a.docker.run(Run::idle("stranger").network("mine"));
    let web = vip(a, "web", 80);
    for client in [&near, &far, &bridge] {
        assert_eq!(reaches(client, web), "web-1", "{}", client.name);
    }
    refused(&stranger, web);

    // On two networks it is the same container, whichever of them its packets take.
    attach("connect", "other", &bridge);
    assert_eq!(reaches(&bridge, web), "web-1");
    attach("disconnect", "bridge", &bridge);
    assert_eq!(reaches(&bridge, web), "web-1");
    attach("connect", "other", &stranger);
    refused(&stranger, web);
    cluster.assert_no_leak();
}

#[test]
fn labels_have_no_tags_and_explain_says_so() {
    let cluster = alone();
    let a = cluster.one();
    let _web = provide(a, "web-1", "web:80");
    let api = consume(a, "api", "web#canary:80");
    let canary = vip(a, "web", 80);
    refused(&api, canary);
    let explained = a.steppe(&["explain", "api", "web#canary:80"]);
    assert_eq!(explained.code, 3, "{}", explained.stdout);
    assert!(explained.stdout.contains("no instance of web with the tag canary"), "{}", explained.stdout);
    cluster.assert_no_leak();
}

#[test]
fn an_instance_that_asks_is_told_who_called() {
    let cluster = alone();
    let a = cluster.one();
    let run = Run::idle("web-1").label("steppe.service", "web:80").label("steppe.proxy_protocol", "v2");
    let instance = a.docker.run(run);
    let listener = instance.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))).expect("bind");
    let api = consume(a, "api", "web:80");
    let web = vip(a, "web", 80);
    let stream = eventually(SOON, "it connects", || api.enter(|| TcpStream::connect_timeout(&web, SOON)));

    // Earlier tries may have got as far as the instance.
    let (mut accepted, _) = listener.accept().expect("a connection");
    let mut header = [0; 28];
    accepted.set_read_timeout(Some(SOON)).expect("a time-out above zero");
    accepted.read_exact(&mut header).expect("a header");
    let SocketAddr::V4(client) = stream.local_addr().expect("it is connected") else { panic!("IPv4") };
    let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    expected.extend(client.ip().octets());
    let Ok(dialled) = web.ip().to_string().parse::<Ipv4Addr>() else { panic!("IPv4") };
    expected.extend(dialled.octets());
    expected.extend(client.port().to_be_bytes());
    expected.extend(80_u16.to_be_bytes());
    assert_eq!(header[..], expected[..]);
    assert_eq!(*client.ip(), api.address());
    cluster.assert_no_leak();
}

#[test]
fn an_instance_whose_healthcheck_fails_gets_no_new_connection() {
    let cluster = alone();
    let a = cluster.one();
    let _well = provide(a, "well", "web:80");
    let api = consume(a, "api", "web:80");
    a.sh("docker run --detach --name sick --label steppe.service=web:80 --health-cmd '[ ! -e /fail ]' \
          --health-interval 100ms --health-retries 1 steppe-probe probe serve --port 80 --name sick")
        .ok();
    let web = vip(a, "web", 80);
    assert_eq!(served(&api, web, 2, 4), counts([("well", 2), ("sick", 2)]));
    a.sh("docker exec sick touch /fail").ok();
    assert_eq!(served(&api, web, 1, 4), counts([("well", 4)]));
    let explained = a.steppe(&["explain", "api", "web:80"]).ok();
    assert!(explained.contains("CRITICAL \"its HEALTHCHECK says unhealthy\""), "{explained}");
    a.sh("docker exec sick rm /fail").ok();
    assert_eq!(served(&api, web, 2, 4), counts([("well", 2), ("sick", 2)]));

    // A container keeps its grants under another name.
    a.sh("docker rename api renamed").ok();
    eventually(SOON, "it is known by its new name", || {
        let explained = a.steppe(&["explain", "renamed", "web:80"]);
        if explained.code == 0 { Ok(()) } else { Err(explained.stdout) }
    });
    reaches(&api, web);
    cluster.assert_no_leak();
}
