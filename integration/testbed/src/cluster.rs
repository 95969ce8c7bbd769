//! A cluster: the network, its hosts, and what must hold when the test ends.

use crate::consul::Consul;
use crate::holder::Holder;
use crate::host::Host;
use crate::lan::Lan;
use crate::leftovers::Leftovers;
use crate::wait::eventually;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a cluster shall have. Made by [`Cluster::hosts`].
#[derive(Debug, Clone)]
pub struct Spec {
    hosts: usize,
    consul: bool,
    consul_uid: Option<u32>,
    docker: bool,
    ipv6: bool,
}

/// See the crate's head. Dropping it removes all of it.
#[derive(Debug)]
pub struct Cluster {
    /// Consul's server, which runs beside the router; not running in a cluster without Consul.
    pub consul_server: Consul,
    hosts: Vec<Host>,
    /// The network between the hosts.
    pub lan: Lan,
    leaks_allowed: AtomicBool,
    // Fields are dropped in this order: daemons before the namespaces they are in, and what is left last.
    leftovers: Leftovers,
}

impl Spec {
    /// Docker labels alone: no Consul, neither server nor agents.
    #[must_use]
    pub fn without_consul(mut self) -> Self {
        self.consul = false;
        self
    }

    /// The hosts' Consul agents run under this uid instead of root's.
    #[must_use]
    pub fn consul_uid(mut self, uid: u32) -> Self {
        self.consul_uid = Some(uid);
        self
    }

    /// No Docker daemon is started; the test may do so later.
    #[must_use]
    pub fn without_docker(mut self) -> Self {
        self.docker = false;
        self
    }

    /// Hosts and containers on Docker's default bridge have IPv6 addresses as well: the hosts those of
    /// [`Host::address6`], the world outside [`OUTSIDE6`](crate::OUTSIDE6).
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Raises it: the network, then everything else at the same time. Steppe itself is started by the test.
    ///
    /// # Panics
    /// When something is missing or doesn't start, with what and why.
    pub fn start(self) -> Cluster {
        let leftovers = Leftovers::claim();
        let hold = |name: &str| Holder::start(name, &leftovers.directory, leftovers.keep());
        let names: Vec<String> = (b'a'..).take(self.hosts).map(|c| char::from(c).to_string()).collect();
        let addresses: Vec<_> = (11..).take(self.hosts).map(|n| Ipv4Addr::new(10, 77, 0, n)).collect();
        let first = addresses.first().copied().unwrap_or(Ipv4Addr::LOCALHOST);
        let router = hold("lan");
        let consul_server = Consul::server(router.home(), &addresses);
        let holders: Vec<Holder> = names.iter().map(|name| hold(name)).collect();
        let mut cluster = Cluster {
            consul_server,
            hosts: Vec::new(),
            lan: Lan::new(router),
            leaks_allowed: AtomicBool::new(false),
            leftovers,
        };
        if self.ipv6 {
            cluster.lan.ipv6();
        }
        if self.consul {
            cluster.consul_server.daemon.start();
        }
        for ((name, address), holder) in names.iter().zip(addresses).zip(holders) {
            cluster.lan.plug(name, &holder, address);
            let host = Host::new(name, address, first, holder, &cluster.leftovers.id);
            if let Some(uid) = self.consul_uid {
                host.consul.run_as(uid);
            }
            if self.consul {
                host.consul.daemon.start();
                host.suite.control.env("CONSUL_HTTP_ADDR", "http://127.0.0.1:8500");
            }
            if self.ipv6 {
                host.ipv6();
            }
            if self.docker {
                host.docker.daemon.start();
            }
            cluster.hosts.push(host);
        }
        if self.docker {
            for host in &cluster.hosts {
                host.docker.wait_ready();
                host.docker.load_image();
            }
        }
        if self.consul {
            cluster.wait_consul();
        }
        for name in &names {
            cluster.lan.wait_plugged(name);
        }
        cluster
    }
}

impl Cluster {
    /// Begins a cluster of so many hosts, at most 26, with Docker and Consul.
    pub fn hosts(hosts: usize) -> Spec {
        Spec { hosts, consul: true, consul_uid: None, docker: true, ipv6: false }
    }

    /// The only host of a cluster of one.
    pub fn one(&self) -> &Host {
        let [a] = self.all();
        a
    }

    /// The hosts of a cluster of N: `let [a, b] = cluster.all();`
    ///
    /// # Panics
    /// When it has not N hosts.
    pub fn all<const N: usize>(&self) -> [&Host; N] {
        let hosts: Vec<&Host> = self.hosts.iter().collect();
        let count = hosts.len();
        hosts.try_into().unwrap_or_else(|_| panic!("the cluster has {count} hosts, not {N}"))
    }

    /// The hosts, for loops.
    pub fn iter(&self) -> std::slice::Iter<'_, Host> {
        self.hosts.iter()
    }

    /// Waits until every agent knows the leader and every node is in the catalog.
    pub fn wait_consul(&self) {
        let mut wanted: Vec<String> = self.hosts.iter().map(|host| host.name.clone()).collect();
        wanted.push("server".to_owned());
        wanted.sort();
        self.consul_server.wait_ready();
        for host in &self.hosts {
            host.consul.wait_ready();
            eventually(Duration::from_secs(30), "all nodes are in Consul's catalog", || {
                let nodes = host.consul.nodes();
                if nodes == wanted { Ok(()) } else { Err(format!("{nodes:?}, not {wanted:?}")) }
            });
        }
    }

    /// Fails if a packet from or to a virtual address has left a host. [`Drop`] does it as well.
    ///
    /// # Panics
    /// With who sent it, and whereto.
    #[track_caller]
    pub fn assert_no_leak(&self) {
        let packets = self.lan.vip_packets();
        assert_eq!(packets, 0, "packets for virtual addresses left a host:\n{}", self.lan.vip_leaks());
    }

    /// For tests of the testbed itself, which let one leave on purpose.
    pub fn allow_leaks(&self) {
        self.leaks_allowed.store(true, Ordering::Relaxed);
    }

    /// Leaves everything up when the program ends, and returns [`Cluster::how_to_enter`].
    pub fn keep(&self) -> String {
        let keep = self.leftovers.keep();
        std::fs::write(&keep, self.pids().join(" ")).unwrap_or_else(|e| panic!("{}: {e}", keep.display()));
        self.how_to_enter()
    }

    /// For a person: how to get into each host, where the logs are, and how to end it.
    pub fn how_to_enter(&self) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            if let Some(pid) = host.pid() {
                writeln!(text, "enter host {}:  nsenter -t {pid} -a", host.name).ok();
            }
        }
        writeln!(text, "end it all:    kill -9 {}", self.pids().join(" ")).ok();
        writeln!(text, "logs:          {}", self.leftovers.directory.display()).ok();
        text
    }

    /// Of the inits, as seen from outside.
    fn pids(&self) -> Vec<String> {
        let hosts = self.hosts.iter().filter_map(Host::pid);
        hosts.chain([self.lan.pid()]).map(|pid| pid.to_string()).collect()
    }

    fn dump(&self) {
        for host in &self.hosts {
            eprintln!("{}", host.dump());
        }
        let leaks = self.lan.vip_packets();
        eprintln!("==== packets for virtual addresses that left a host: {leaks}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            if !self.leaks_allowed.load(Ordering::Relaxed) && !self.leftovers.keep().exists() {
                self.assert_no_leak();
            }
            return;
        }
        // A panic within a panic would abort the test program, with the other tests in it.
        if catch_unwind(AssertUnwindSafe(|| self.dump())).is_err() {
            eprintln!("the dump is incomplete");
        }
        if std::env::var_os("KEEP").is_some_and(|value| value == "1") {
            eprintln!("{}", self.keep());
        } else {
            eprintln!("KEEP=1 leaves the hosts up after a failure, and says how to enter them");
        }
    }
}
