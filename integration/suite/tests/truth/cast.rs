//! Who there is: two users with a network each, strangers, two hosts and the world outside.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use steppe_testbed::{Cluster, Container, Daemon, Host, Identity, Run, eventually, frame};

use super::{
    dial::{Dialler, Place, Target, link_local},
    table::Table,
};
use crate::common::{SOON, reach::vip_of};

/// A user of a host who is nobody in particular.
const NOBODY: u32 = 60_799;
/// The proxy's.
const PROXY: u32 = Identity::PROXY.uid;
/// Where each host itself serves something that has nothing to do with Steppe: at its address alone, and at all.
const HOSTS_OWN: u16 = 7_777;
const HOSTS_ALL: u16 = 7_778;
/// A virtual IP that stands for nothing.
const NO_SERVICE: Ipv4Addr = Ipv4Addr::new(247, 200, 1, 1);
const DNS: &str = "169.254.77.53:53";

/// See the module's head.
pub struct Cast<'a> {
    diallers: Vec<Dialler<'a>>,
    parts: Vec<(&'static str, Vec<Target>)>,
    // Dropped before the cluster is.
    _servers: Vec<Daemon>,
}

/// The containers that are dialled.
struct Servers {
    alice_web: Container,
    alice_gvisor: Container,
    bob_web: Container,
    granted: Container,
    open: Container,
    stranger: Container,
    remote: Container,
}

fn of_user(run: Run, user: &str) -> Run {
    run.label("steppe.user", user)
}

/// ICMP errors are told each time, not once a second, or one cell would depend on the others.
const NO_LIMIT: &str = "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0";

/// Has IPv6 addresses, if only those of its link; and [`NO_LIMIT`].
fn ipv6(run: Run) -> Run {
    let set = json!({
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
        "net.ipv4.icmp_ratelimit": "0",
    });
    run.host_config("Sysctls", set)
}

/// The kernel takes a second or two to make sure that nobody else has an IPv6 address.
fn wait_ipv6(container: &Container) {
    eventually(SOON, &format!("{} has its IPv6 addresses", container.name), || {
        let told = container.exec(&["ip", "-6", "addr", "show", "dev", "eth0"]).ok();
        if told.contains("fe80::") && !told.contains("tentative") { Ok(()) } else { Err(told) }
    });
}

/// Serves, and is published at a port from those that Nomad takes: as Nomad does it at the host's one address, or as Docker
/// does it at all of them.
fn server(name: &str, host: Option<Ipv4Addr>, port: u16) -> Run {
    ipv6(Run::serve_all(name, 80).publish_both(80, host, port))
}

impl<'a> Cast<'a> {
    /// Starts Steppe on both hosts, and everybody.
    pub fn raise(cluster: &'a Cluster, control: &[&str]) -> Self {
        let [a, b] = cluster.all();
        let own = [a, b].into_iter().flat_map(hosts_own).collect();
        cluster.lan.sh(NO_LIMIT).ok();
        for host in [a, b] {
            host.sh(NO_LIMIT).ok();
            for argument in control {
                host.suite.control.arg(*argument);
            }
            host.suite.start();
            for user in ["alice", "bob"] {
                network(host, user);
            }
        }
        let web = |run: Run| run.label("steppe.service", "web:80");
        let nomads = |host: &Host| Some(host.address);
        let servers = Servers {
            alice_web: a.docker.run(on("alice", web(server("alice-web", nomads(a), 20_001)))),
            alice_gvisor: a.docker.run(on("alice", Run::serve_all("alice-gvisor", 80).runsc())),
            bob_web: a.docker.run(on("bob", web(server("bob-web", nomads(a), 20_002)))),
            granted: a
                .docker
                .run(of_user(server("granted", None, 20_003), "alice").label("steppe.connect_to", "web:80")),
            open: a
                .docker
                .run(of_user(server("open", None, 20_004), "alice").label("steppe.expose", "public")),
            // Claims to be alice's as well, by the wrong words.
            stranger: a.docker.run(web(server("stranger", None, 20_005)).label("user", "alice")),
            remote: b.docker.run(on("alice", web(server("remote", None, 21_001)))),
        };
        let diallers = diallers(cluster, &servers);
        for dialler in &diallers {
            if let Place::Container(container) = &dialler.place
                && !container.is_runsc()
            {
                wait_ipv6(container);
            }
        }
        let web = vip_of(a, "alice", "web", 80);
        let parts = parts(a, b, &servers, web);
        Self { diallers, parts, _servers: own }
    }

    /// Dials everything from everywhere.
    pub fn table(&self) -> Table {
        super::dial::table(&self.diallers, &self.parts)
    }
}

/// On a user's network.
fn on(user: &str, run: Run) -> Run {
    of_user(run, user).network(&format!("steppe-{user}"))
}

fn diallers<'a>(cluster: &'a Cluster, servers: &Servers) -> Vec<Dialler<'a>> {
    let [a, b] = cluster.all();
    let run = |host: &Host, run: Run| Place::Container(host.docker.run(run));
    let asks =
        |name: &str, user: &str, to: &str| of_user(Run::idle(name), user).label("steppe.connect_to", to);
    let all = [
        ("alice", run(a, on("alice", ipv6(Run::idle("alice"))))),
        ("gvisor", Place::Container(servers.alice_gvisor.clone())),
        ("bob", run(a, on("bob", ipv6(Run::idle("bob"))))),
        ("granted", Place::Container(servers.granted.clone())),
        ("asks", run(a, asks("asks", "bob", "alice/web:80"))),
        ("stranger", Place::Container(servers.stranger.clone())),
        ("root", Place::Host(a, 0)),
        ("nobody", Place::Host(a, NOBODY)),
        ("proxy", Place::Host(a, PROXY)),
        ("b:alice", run(b, on("alice", ipv6(Run::idle("alice"))))),
        ("b:stranger", run(b, Run::idle("stranger"))),
        ("b:root", Place::Host(b, 0)),
        ("b:nobody", Place::Host(b, NOBODY)),
        ("outside", Place::Outside(&cluster.lan)),
    ];
    all.into_iter().map(|(name, place)| Dialler { name, place }).collect()
}

/// Servers of the host's own, for showing that they stay as they are.
fn hosts_own(host: &Host) -> [Daemon; 2] {
    let at = host.address.to_string();
    [(HOSTS_OWN, Some(at.as_str())), (HOSTS_ALL, None)].map(|(port, address)| {
        let port = port.to_string();
        let name = format!("host-{}", host.name);
        let mut command = vec!["/run/testbed/probe", "serve-all", "--port", &port, "--name", &name];
        command.extend(address.into_iter().flat_map(|address| ["--address", address]));
        let daemon = host.daemon(&format!("own-{port}"), Identity::CONTROL, &command);
        daemon.start();
        daemon.wait_log("listening", SOON);
        daemon
    })
}

fn target(label: &str, protocol: &str, to: impl ToString, server: &str) -> Target {
    Target {
        label: format!("{protocol} {label}"),
        dial: format!("{protocol}/{}", to.to_string()),
        server: server.to_owned(),
    }
}

fn both(label: &str, to: impl Into<SocketAddr>, server: &str) -> [Target; 2] {
    let to = to.into();
    ["tcp", "udp"].map(|protocol| target(label, protocol, to, server))
}

fn parts(a: &Host, b: &Host, on: &Servers, web: SocketAddr) -> Vec<(&'static str, Vec<Target>)> {
    vec![
        ("own addresses", own_addresses(on)),
        ("own IPv6 addresses", own_ipv6_addresses(on)),
        ("published ports", published(a, on)),
        ("published on b", published_remote(b, &on.remote)),
        ("virtual IPs", virtual_ips(a, web)),
        ("Steppe itself", steppe_itself(a)),
        ("names", names(web)),
        ("the host", hosts(a)),
    ]
}

fn own_addresses(on: &Servers) -> Vec<Target> {
    let all = [&on.alice_web, &on.alice_gvisor, &on.bob_web, &on.granted, &on.open, &on.stranger];
    all.iter().flat_map(|one| both(&one.name, (one.address(), 80), &one.name)).collect()
}

fn own_ipv6_addresses(on: &Servers) -> Vec<Target> {
    let routed = [&on.granted, &on.stranger].map(|one| {
        let address = one.address6().expect("the default bridge has IPv6");
        target(&one.name, "tcp", SocketAddr::from((address, 80)), &one.name)
    });
    let local = [&on.alice_web, &on.bob_web, &on.stranger].map(|one| {
        let address = link_local(frame::parse_mac(&one.mac()).expect("Docker tells it"));
        target(&format!("{}%eth0", one.name), "tcp", format!("[{address}%eth0]:80"), &one.name)
    });
    routed.into_iter().chain(local).collect()
}

fn published(a: &Host, on: &Servers) -> Vec<Target> {
    let mut all = Vec::new();
    for one in [&on.alice_web, &on.bob_web, &on.granted, &on.open, &on.stranger] {
        all.extend(both(&format!("{} at a", one.name), (a.address, one.published(80)), &one.name));
    }
    for one in [&on.granted, &on.open, &on.stranger] {
        all.extend(both(&format!("{} at a6", one.name), (a.address6(), one.published(80)), &one.name));
    }
    let one = &on.granted;
    for address in ["127.0.0.1", "[::1]", "172.17.0.1", "10.209.1.1"] {
        let to = format!("{address}:{}", one.published(80));
        all.extend(
            ["tcp", "udp"]
                .map(|protocol| target(&format!("{} at {address}", one.name), protocol, &to, &one.name)),
        );
    }
    all
}

fn published_remote(b: &Host, remote: &Container) -> Vec<Target> {
    let port = remote.published(80);
    let four = both("remote at b", (b.address, port), "remote");
    let six = both("remote at b6", (b.address6(), port), "remote");
    [four, six].into_iter().flatten().collect()
}

fn virtual_ips(a: &Host, web: SocketAddr) -> Vec<Target> {
    let mut all = Vec::new();
    all.extend(both("alice/web", web, "alice-web"));
    all.push(target("alice/web:81", "tcp", SocketAddr::from((web.ip(), 81)), "alice-web"));
    all.extend(both("no service", (NO_SERVICE, 80), ""));
    if let Some(bob) = known_vip(a, "bob", "web") {
        all.extend(both("bob/web", bob, "bob-web"));
    }
    all
}

/// The virtual IP of a service that somebody has asked for.
fn known_vip(host: &Host, user: &str, name: &str) -> Option<SocketAddr> {
    let listed: Value = serde_json::from_str(&host.steppe(&["services", "--json"]).stdout).ok()?;
    let services = listed["services"].as_array()?;
    let found = services.iter().find(|service| service["user"] == user && service["service"] == name)?;
    let vip: Ipv4Addr = found["vip"].as_str()?.parse().ok()?;
    Some((vip, 80).into())
}

fn steppe_itself(a: &Host) -> Vec<Target> {
    let sockets = a.sh("ss -Hltn src 169.254.77.54").ok();
    let listener =
        sockets.lines().find_map(|line| line.split_whitespace().nth(3)).expect("alice/web has one");
    vec![
        target("a listener", "tcp", listener, "alice-web"),
        target("no listener", "tcp", "169.254.77.54:9999", ""),
        target("the DNS address", "tcp", "169.254.77.53:80", ""),
    ]
}

fn names(web: SocketAddr) -> Vec<Target> {
    let vip = web.ip().to_string();
    let mut all = Vec::new();
    for (name, answer) in [
        ("web.steppe.internal", vip.as_str()),
        ("bob-web.steppe.internal", "NXDOMAIN"),
        ("nothing.steppe.internal", "NXDOMAIN"),
    ] {
        for protocol in ["dns-udp", "dns-tcp"] {
            all.push(target(name, protocol, format!("{DNS}/{name}"), answer));
        }
    }
    all
}

fn hosts(a: &Host) -> Vec<Target> {
    let mut all = Vec::from(both("a's own server", (a.address, HOSTS_OWN), "host-a"));
    all.push(target("a's own server at docker0", "tcp", format!("172.17.0.1:{HOSTS_ALL}"), "host-a"));
    let six = SocketAddr::from((a.address6(), HOSTS_ALL));
    all.push(target("a's own server at a6", "tcp", six, "host-a"));
    all
}

/// A user's network.
fn network(host: &Host, user: &str) {
    let subnet = if user == "alice" { "10.209.1.0/24" } else { "10.210.1.0/24" };
    let body = json!({
        "Name": format!("steppe-{user}"), "Driver": "bridge", "Labels": { "steppe.user": user },
        "Options": { "com.docker.network.bridge.name": format!("steppe-{user}") },
        "IPAM": { "Config": [{ "Subnet": subnet }] },
    });
    host.docker.call("POST", "/networks/create", &body);
}
