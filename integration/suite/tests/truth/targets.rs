//! What is dialled: every address of everybody, by every way that there might be to it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use steppe_testbed::{Container, Host, frame};

use super::{
    cast::{HOSTS_ALL, HOSTS_OWN, LOW, Servers, TRANSLATED, second_address},
    dial::{Target, link_local},
};
use crate::common::{
    networks::{gateway, hardware},
    reach::vip_of,
};

/// A virtual IP that stands for nothing.
const NO_SERVICE: Ipv4Addr = Ipv4Addr::new(247, 200, 1, 1);
const DNS: &str = "169.254.77.53:53";
/// alice's services, each with who answers.
const SERVICES: [(&str, &str); 5] =
    [("web", "alice-web"), ("pp", "pp"), ("fast", "fast"), ("any", "any"), ("any-fast", "any-fast")];

/// Targets, by heading.
pub type Parts = Vec<(&'static str, Vec<Target>)>;

/// Everything there is on `a`, and what `b` publishes.
pub fn parts(a: &Host, b: &Host, on: &Servers) -> Parts {
    vec![
        ("own addresses", own_addresses(on)),
        ("own IPv6 addresses", own_ipv6_addresses(on)),
        ("published ports", published(a, on)),
        ("impostors", impostors(a, on)),
        (
            "beside a published port",
            Vec::from(both("beside alice-web", at(second_address(a), 20_001), "beside")),
        ),
        ("on b", on_b(b, &on.remote)),
        ("virtual IPs", virtual_ips(a)),
        ("Steppe itself", steppe_itself(a)),
        ("names", names(a, on)),
        ("the host", hosts(a)),
    ]
}

/// What an address means that DNS tells.
pub fn known(a: &Host, on: &Servers) -> BTreeMap<String, String> {
    let containers = on.all().map(|one| (one.address().to_string(), one.name.clone()));
    let vips = [("alice", "web"), ("bob", "web")]
        .map(|(user, name)| (vip_of(a, user, name, 80).ip().to_string(), format!("{user}/{name}")));
    containers.into_iter().chain(vips).collect()
}

fn target(label: &str, protocol: &str, to: impl ToString, server: &str) -> Target {
    Target {
        label: format!("{protocol} {label}"),
        dial: format!("{protocol}/{}", to.to_string()),
        server: server.to_owned(),
    }
}

fn both(label: &str, to: impl ToString, server: &str) -> [Target; 2] {
    let to = to.to_string();
    ["tcp", "udp"].map(|protocol| target(label, protocol, &to, server))
}

fn at(ip: impl Into<std::net::IpAddr>, port: u16) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

fn own_addresses(on: &Servers) -> Vec<Target> {
    let all = [&on.alice_web, &on.alice_gvisor, &on.bob_web, &on.granted, &on.open, &on.stranger];
    all.iter().flat_map(|one| both(&one.name, at(one.address(), 80), &one.name)).collect()
}

fn own_ipv6_addresses(on: &Servers) -> Vec<Target> {
    let routed = [&on.granted, &on.stranger].map(|one| {
        let address = one.address6().expect("the default bridge has IPv6");
        target(&one.name, "tcp", at(address, 80), &one.name)
    });
    let local = [&on.alice_web, &on.bob_web, &on.stranger].map(|one| {
        let address = link_local(frame::parse_mac(&one.mac()).expect("Docker tells it"));
        target(&format!("{}%eth0", one.name), "tcp", format!("[{address}%eth0]:80"), &one.name)
    });
    routed.into_iter().chain(local).collect()
}

fn published(a: &Host, on: &Servers) -> Vec<Target> {
    let mut all = Vec::new();
    for one in
        [&on.alice_web, &on.bob_web, &on.granted, &on.open, &on.local, &on.cluster, &on.low, &on.stranger]
    {
        all.extend(both(&format!("{} at a", one.name), at(a.address, one.published(80)), &one.name));
    }
    for one in [&on.granted, &on.stranger] {
        all.extend(both(&format!("{} at a6", one.name), at(a.address6(), one.published(80)), &one.name));
    }
    let one = &on.granted;
    let gateway = gateway(a, "alice").expect("it is there").to_string();
    for (place, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("[::1]", "[::1]"),
        ("docker0", "172.17.0.1"),
        ("alice's gateway", &gateway),
    ] {
        let to = format!("{address}:{}", one.published(80));
        all.extend(both(&format!("{} at {place}", one.name), to, &one.name));
    }
    all
}

/// Local processes at published ports that Docker has forgotten.
fn impostors(a: &Host, on: &Servers) -> Vec<Target> {
    let all = [&on.forsaken, &on.forsaken_open].map(|one| {
        let port = one.published(80);
        both(&format!("as {}", one.name), at(a.address, port), &format!("impostor-{port}"))
    });
    let translated = at(second_address(a), TRANSLATED);
    let impostor = format!("impostor-{}", on.forsaken_open.published(80));
    let by_host = target("as one, by a's own rule", "tcp", translated, &impostor);
    all.into_iter().flatten().chain([by_host]).collect()
}

fn on_b(b: &Host, remote: &Container) -> Vec<Target> {
    let port = remote.published(80);
    [
        both("remote at b", at(b.address, port), "remote"),
        both("remote at b6", at(b.address6(), port), "remote"),
        // b's own, at a port that a has published.
        both("b's own server", at(b.address, LOW), "host-b"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn virtual_ips(a: &Host) -> Vec<Target> {
    let mut all = Vec::new();
    for (service, server) in SERVICES {
        all.extend(both(&format!("alice/{service}"), vip_of(a, "alice", service, 80), server));
    }
    for service in ["web", "any"] {
        let vip = vip_of(a, "alice", service, 81);
        all.push(target(&format!("alice/{service}:81"), "tcp", vip, service));
    }
    // By the device the kernel sends it whatever the routes say.
    all.push(target("alice/web", "tcp%eth0", vip_of(a, "alice", "web", 80), "alice-web"));
    all.extend(both("bob/web", vip_of(a, "bob", "web", 80), "bob-web"));
    all.extend(both("no service", at(NO_SERVICE, 80), ""));
    all
}

fn steppe_itself(a: &Host) -> Vec<Target> {
    let sockets = a.sh("ss -Hltn src 169.254.77.54").ok();
    let listener = sockets.lines().find_map(|line| line.split_whitespace().nth(3)).expect("there are some");
    vec![
        target("a listener", "tcp", listener, ""),
        target("no listener", "tcp", "169.254.77.54:9999", ""),
        target("no listener", "udp", "169.254.77.54:9999", ""),
        target("the DNS address", "tcp", "169.254.77.53:80", ""),
        target("the DNS address", "udp", "169.254.77.53:80", ""),
    ]
}

fn names(a: &Host, on: &Servers) -> Vec<Target> {
    let all = [
        ("web", "alice/web"),
        ("alice-gvisor", on.alice_gvisor.name.as_str()),
        ("bob-web", "NXDOMAIN"),
        ("nothing", "NXDOMAIN"),
    ];
    let mut all: Vec<Target> = all
        .iter()
        .flat_map(|(name, answer)| {
            let to = format!("{DNS}/{name}.steppe.internal");
            ["dns-udp", "dns-tcp"].map(|protocol| target(name, protocol, &to, answer))
        })
        .collect();
    // A resolver on a's other addresses would be a way round.
    all.push(target("web, at docker0", "dns-tcp", "172.17.0.1:53/web.steppe.internal", ""));
    all.push(target("web, at a", "dns-tcp", format!("{}:53/web.steppe.internal", a.address), ""));
    all
}

fn hosts(a: &Host) -> Vec<Target> {
    let mut all = Vec::from(both("a's own server", at(a.address, HOSTS_OWN), "host-a"));
    all.push(target("a's own server at docker0", "tcp", format!("172.17.0.1:{HOSTS_ALL}"), "host-a"));
    all.push(target("a's own server at a6", "tcp", at(a.address6(), HOSTS_ALL), "host-a"));
    let bridge = link_local(hardware(a, gateway(a, "alice").expect("it is there")));
    let to = format!("[{bridge}%eth0]:{HOSTS_ALL}");
    all.push(target("a's server at alice's%eth0", "tcp", to, "host-a"));
    all
}
