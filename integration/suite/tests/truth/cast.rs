//! Who there is: two users with a network each, strangers, two hosts and the world outside.

use std::{collections::BTreeMap, net::Ipv4Addr, process::Command};

use serde_json::json;
use steppe_testbed::{Cluster, Container, Daemon, Host, Identity, Outcome, Run, eventually};

use super::{
    dial::{Dialler, Place, Target},
    table::Table,
    targets::{self, Parts},
};
use crate::common::{
    SOON,
    networks::{gateway, of_user, on, start},
};

/// A user of a host who is nobody in particular.
pub const NOBODY: u32 = 60_799;
/// The proxy's.
const PROXY: u32 = Identity::PROXY.uid;
/// Where each host itself serves something that has nothing to do with Steppe: at its address alone, and at all.
pub const HOSTS_OWN: u16 = 7_777;
pub const HOSTS_ALL: u16 = 7_778;
/// Published ports outside Nomad's range, of one that dies the second; on b the host's own server is there.
pub const LOW: u16 = 8_080;
pub const LOW_CLOSED: u16 = 8_081;
/// A port at which a itself translates to one that Docker has forgotten.
pub const TRANSLATED: u16 = 8_082;

/// See the module's head.
pub struct Cast<'a> {
    /// A workload on the default bridge, with grants.
    pub granted: Container,
    /// An instance of alice's `fast`.
    pub fast: Container,
    diallers: Vec<Dialler<'a>>,
    parts: Parts,
    /// The names of addresses.
    known: BTreeMap<String, String>,
    // Dropped before the cluster is.
    _servers: Vec<Daemon>,
}

/// The containers that are dialled.
pub struct Servers {
    /// An instance of alice's `web`, on her network.
    pub alice_web: Container,
    /// On alice's network, under gVisor.
    pub alice_gvisor: Container,
    /// An instance of bob's `web`, on his network.
    pub bob_web: Container,
    /// alice's, on the default bridge, with grants.
    pub granted: Container,
    /// alice's, exposed to everybody.
    pub open: Container,
    /// alice's, exposed to this host.
    pub local: Container,
    /// alice's, exposed to the peers' hosts.
    pub cluster: Container,
    /// alice's, at [`LOW`].
    pub low: Container,
    /// alice's, published at one address; a local process has taken its port there.
    pub forsaken: Container,
    /// The same, published at all addresses and exposed to everybody.
    pub forsaken_open: Container,
    /// Has nothing to do with Steppe.
    pub stranger: Container,
    /// An instance of alice's `fast`, on her network.
    pub fast: Container,
    /// alice's, on the other host.
    pub remote: Container,
}

impl Servers {
    /// All that are on the first host.
    pub fn all(&self) -> [&Container; 11] {
        let Self {
            alice_web,
            alice_gvisor,
            bob_web,
            granted,
            open,
            local,
            cluster,
            low,
            forsaken,
            forsaken_open,
            stranger,
            fast: _,
            remote: _,
        } = self;
        [
            alice_web,
            alice_gvisor,
            bob_web,
            granted,
            open,
            local,
            cluster,
            low,
            forsaken,
            forsaken_open,
            stranger,
        ]
    }

    fn run(a: &Host, b: &Host) -> Self {
        let web = |run: Run| run.label("steppe.service", "web:80");
        let nomads = |host: &Host| Some(host.address);
        let alices = |name: &str, port: u16| of_user(server(name, nomads(a), port), "alice");
        let exposed =
            |name: &str, port: u16, to: &str| a.docker.run(alices(name, port).label("steppe.expose", to));
        let forsaken_open =
            of_user(server("forsaken-open", None, 20_009), "alice").label("steppe.expose", "public");
        let grants = "web:80, web:53/udp, pp:80, fast:80, any, any-fast";
        let granted = of_user(server("granted", None, 20_003), "alice").label("steppe.connect_to", grants);
        let [_, fast, _, _] = [
            ("pp", "steppe.proxy_protocol", "v2"),
            ("fast", "steppe.path", "kernel"),
            ("any", "steppe.path", "proxy"),
            ("any-fast", "steppe.path", "kernel"),
        ]
        .map(|(name, label, value)| {
            let run = Run::serve_all(name, 80).label("steppe.service", &format!("{name}:80"));
            a.docker.run(on("alice", run.label(label, value)))
        });
        // It claims to be an instance of alice's, by the wrong words.
        let claims = web(Run::serve_all("claims", 80)).label("user", "alice");
        a.docker.run(claims.label("com.hashicorp.nomad.namespace", "alice"));
        Self {
            alice_web: a.docker.run(on("alice", web(server("alice-web", nomads(a), 20_001)))),
            alice_gvisor: a.docker.run(on("alice", Run::serve_all("alice-gvisor", 80).runsc())),
            bob_web: a.docker.run(on("bob", web(server("bob-web", nomads(a), 20_002)))),
            granted: a.docker.run(granted),
            open: exposed("open", 20_004, "public"),
            local: exposed("local", 20_006, "host"),
            cluster: exposed("cluster", 20_007, "cluster"),
            low: a.docker.run(of_user(server("low", None, LOW), "alice")),
            forsaken: a.docker.run(alices("forsaken", 20_008)),
            forsaken_open: a.docker.run(forsaken_open),
            stranger: a.docker.run(server("stranger", None, 20_005)),
            fast,
            remote: b.docker.run(on("alice", web(server("remote", None, 21_001)))),
        }
    }
}

/// A second address of a host, at which nothing is published that is published as Nomad does it.
pub fn second_address(host: &Host) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(host.address) + 100)
}

impl<'a> Cast<'a> {
    /// Starts Steppe on both hosts, and everybody.
    pub fn raise(cluster: &'a Cluster, control: &[&str]) -> Self {
        let [a, b] = cluster.all();
        cluster.lan.sh(NO_LIMIT).ok();
        for host in [a, b] {
            host.sh(NO_LIMIT).ok();
            start(host, control);
        }
        let mut own = own_servers(a, b);
        let servers = Servers::run(a, b);
        own.extend([&servers.forsaken, &servers.forsaken_open].map(|one| take_port(a, one)));
        let (second, to) = (second_address(a), servers.forsaken_open.published(80));
        a.sh(&format!(
            "iptables -t nat -A PREROUTING -p tcp -d {second} --dport {TRANSLATED} -j DNAT --to {}:{to}",
            a.address
        ))
        .ok();
        open_what_docker_shuts(cluster);
        let diallers = diallers(cluster, &servers);
        for dialler in &diallers {
            match &dialler.place {
                Place::Container(container) if !container.is_runsc() => {
                    wait_ipv6(container);
                    container.enter(never_give_up);
                }
                Place::Container(_) => {}
                Place::Host(host, _) => host.enter(never_give_up),
                Place::Outside(lan) => lan.namespaces().enter(never_give_up),
            }
        }
        let (parts, known) = (targets::parts(a, b, &servers), targets::known(a, &servers));
        Self { granted: servers.granted, fast: servers.fast, diallers, parts, known, _servers: own }
    }

    /// Dials everything from everywhere.
    pub fn table(&self) -> Table {
        self.look(&self.parts)
    }

    /// Dials from everywhere what stands under some of the headings.
    pub fn table_of(&self, headings: &[&str]) -> Table {
        let parts = self.parts.iter().filter(|(heading, _)| headings.contains(heading));
        self.look(&parts.cloned().collect::<Vec<_>>())
    }

    /// Dials something from everywhere.
    pub fn look(&self, parts: &[(&'static str, Vec<Target>)]) -> Table {
        self.forget();
        let all: Vec<_> = self.diallers.iter().collect();
        super::dial::table(&all, parts, &self.known)
    }

    /// One of them dials one target, called by its label.
    pub fn dial(&self, who: &str, label: &str) {
        self.forget();
        let one: Vec<_> = self.diallers.iter().filter(|dialler| dialler.name == who).collect();
        super::dial::table(&one, &[("", vec![self.target(label).clone()])], &self.known);
    }

    /// A target by its label.
    pub fn target(&self, label: &str) -> &Target {
        let all = self.parts.iter().flat_map(|(_, targets)| targets);
        all.into_iter().find(|target| target.label == label).unwrap_or_else(|| panic!("no target {label}"))
    }

    /// What came of dialling a target, in one word.
    pub fn cell(&self, target: &Target, outcome: &Outcome) -> String {
        super::dial::one_cell(target, outcome, &self.known)
    }

    /// Each look begins anew: a port that is used again would go on with the UDP flow of an earlier one, and whom somebody has
    /// heard of before a rule was there is still known to him.
    fn forget(&self) {
        let neighbours = || run("ip", &["neigh", "flush", "all"]);
        for dialler in &self.diallers {
            match &dialler.place {
                Place::Container(container) if !container.is_runsc() => container.enter(neighbours),
                Place::Container(_) | Place::Outside(_) => {}
                Place::Host(host, _) => host.enter(|| {
                    neighbours();
                    run("conntrack", &["-F"]);
                }),
            }
        }
    }
}

fn diallers<'a>(cluster: &'a Cluster, servers: &Servers) -> Vec<Dialler<'a>> {
    let [a, b] = cluster.all();
    let run = |host: &Host, run: Run| Place::Container(host.docker.run(run));
    let member = |name: &str, user: &str| on(user, ipv6(Run::idle(name)));
    // bob's on alice's network, and bob's that names a service that is not his.
    let intruder = of_user(ipv6(Run::idle("intruder")).network("steppe-alice"), "bob");
    let asks = of_user(Run::idle("asks"), "bob").label("steppe.connect_to", "alice/web:80");
    let all = [
        ("alice", run(a, member("alice", "alice"))),
        ("gvisor", Place::Container(servers.alice_gvisor.clone())),
        ("bob", run(a, member("bob", "bob"))),
        ("intruder", run(a, intruder)),
        ("granted", Place::Container(servers.granted.clone())),
        ("asks", run(a, asks)),
        ("stranger", Place::Container(servers.stranger.clone())),
        ("root", Place::Host(a, 0)),
        ("nobody", Place::Host(a, NOBODY)),
        ("proxy", Place::Host(a, PROXY)),
        ("b:alice", run(b, member("alice", "alice"))),
        ("b:stranger", run(b, Run::idle("stranger"))),
        ("b:root", Place::Host(b, 0)),
        ("b:nobody", Place::Host(b, NOBODY)),
        ("outside", Place::Outside(&cluster.lan)),
    ];
    all.into_iter().map(|(name, place)| Dialler { name, place }).collect()
}

/// Servers of the hosts' own, for showing that they stay as they are.
fn own_servers(a: &Host, b: &Host) -> Vec<Daemon> {
    let second = second_address(a);
    a.sh(&format!("ip addr add {second}/32 dev eth0")).ok();
    let mut all = Vec::new();
    for (host, ports) in [(a, &[][..]), (b, &[LOW, LOW_CLOSED])] {
        let name = format!("host-{}", host.name);
        let root = Identity::CONTROL;
        all.push(own_server(host, root, &name, HOSTS_ALL, None));
        let ports = ports.iter().chain(&[HOSTS_OWN]);
        all.extend(ports.map(|&port| own_server(host, root, &name, port, Some(host.address))));
    }
    // At the port of a container, and an address at which that is not published.
    all.push(own_server(a, Identity::CONTROL, "beside", 20_001, Some(second)));
    all
}

/// Docker does not translate a container's published port any more, and a local process has taken it.
fn take_port(a: &Host, container: &Container) -> Daemon {
    let port = container.published(80);
    a.sh(&format!(
        "iptables -t nat -S DOCKER | grep -e '--dport {port} ' | sed s/-A/-D/ |
         while read -r rule; do iptables -t nat $rule; done
         for one in /proc/[0-9]*; do
         if grep -qs ^docker-proxy $one/comm && tr '\\0' ' ' <$one/cmdline | grep -q -e '-host-port {port} '
         then kill ${{one#/proc/}}; fi; done"
    ))
    .ok();
    let gone = || match a.sh(&format!("ss -Hltnu sport = :{port}")).ok() {
        told if told.is_empty() => Ok(()),
        told => Err(told),
    };
    eventually(SOON, &format!("nobody has port {port}"), gone);
    let nobody = Identity { uid: NOBODY, capability: None };
    own_server(a, nobody, &format!("impostor-{port}"), port, Some(a.address))
}

fn own_server(host: &Host, who: Identity, name: &str, port: u16, address: Option<Ipv4Addr>) -> Daemon {
    let (port, address) = (port.to_string(), address.map(|address| address.to_string()));
    let mut command = vec!["/run/testbed/probe", "serve-all", "--port", &port, "--name", name];
    command.extend(address.iter().flat_map(|address| ["--address", address]));
    let daemon = host.daemon(&format!("own-{port}"), who, &command);
    daemon.start();
    daemon.wait_log("listening", SOON);
    daemon
}

/// Docker's own rules drop much of what passes between bridges, in each version something else. What Steppe promises must hold
/// without them: whoever runs the host has let everything pass, and the world outside knows the way to alice's network.
fn open_what_docker_shuts(cluster: &Cluster) {
    let [a, b] = cluster.all();
    for host in [a, b] {
        host.sh("iptables -I DOCKER-USER -j ACCEPT").ok();
    }
    // A user's network is a /24, and the host's own address its first.
    let network = Ipv4Addr::from(u32::from(gateway(a, "alice").expect("it is there")) - 1);
    cluster.lan.sh(&format!("ip route add {network}/24 via {}", a.address)).ok();
}

/// ICMP errors are told each time, of whatever type (255 is none), or one cell would depend on the others.
const NO_LIMIT: &str =
    "sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0 net.ipv6.icmp.ratemask=255";

/// Has IPv6 addresses, if only those of its link; and [`NO_LIMIT`].
fn ipv6(run: Run) -> Run {
    let set = json!({
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv6.conf.default.disable_ipv6": "0",
        "net.ipv4.icmp_ratemask": "0",
    });
    run.host_config("Sysctls", set)
}

/// Serves, and is published at a port from those that Nomad takes: as Nomad does it at the host's one address, or as Docker
/// does it at all of them.
fn server(name: &str, host: Option<Ipv4Addr>, port: u16) -> Run {
    ipv6(Run::serve_all(name, 80).publish_both(80, host, port))
}

/// The kernel takes a second or two to make sure that nobody else has an IPv6 address.
fn wait_ipv6(container: &Container) {
    eventually(SOON, &format!("{} has its IPv6 addresses", container.name), || {
        let told = container.exec(&["ip", "-6", "addr", "show", "dev", "eth0"]).ok();
        if told.contains("fe80::") && !told.contains("tentative") { Ok(()) } else { Err(told) }
    });
}

/// In the calling thread's network: who does not answer to ARP or ND is asked until long after a cell has been told, and
/// so is `dropped` in each look. Where the kernel gave up in time, that would depend on who had asked whom before.
fn never_give_up() {
    for family in ["ipv4", "ipv6"] {
        let devices = std::fs::read_dir(format!("/proc/sys/net/{family}/neigh")).expect("it is there");
        for device in devices.flatten() {
            for (setting, value) in [("retrans_time_ms", "200"), ("mcast_solicit", "50")] {
                std::fs::write(device.path().join(setting), value).expect("this is root");
            }
        }
    }
}

/// Runs a program in the namespaces that the calling thread is in.
fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}
