//! What is so on this host, without an opinion.

use std::{collections::BTreeSet, net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

/// What Steppe is going to use here: the flags of control and the agents.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Where virtual IPs are chosen from.
    pub(crate) services: Ipv4Net,
    /// Where the proxy listens.
    pub(crate) listener: Ipv4Addr,
    /// Where dns answers.
    pub(crate) dns: Ipv4Addr,
    /// Where users' networks get their addresses from.
    pub(crate) users: Ipv4Net,
    /// The ports of the listener's address.
    pub(crate) ports: RangeInclusive<u16>,
    /// Whether Steppe is yet to be installed.
    pub(crate) preflight: bool,
}

/// Known, or why not.
pub(crate) type Known<T> = Result<T, String>;

/// Everything that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// As `uname -r` says it.
    pub(crate) kernel: String,
    /// The kernel modules that are built in or can be loaded, if that can be told.
    pub(crate) modules: Option<BTreeSet<String>>,
    pub(crate) forwards: bool,
    /// Entries and their limit; `None` while the module is not loaded.
    pub(crate) conntrack: Option<(u64, u64)>,
    /// `net.ipv4.ip_local_port_range`.
    pub(crate) ephemeral: RangeInclusive<u16>,
    /// The base chains of nftables, and chains that tell whose they are.
    pub(crate) chains: Known<Vec<Chain>>,
    /// Whether tables of legacy iptables are loaded.
    pub(crate) legacy_iptables: bool,
    /// Whether ufw is switched on.
    pub(crate) ufw: bool,
    pub(crate) routes: Vec<Route>,
    /// This host's own addresses.
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) docker: Known<Docker>,
    /// Where somebody listens at port 53, over TCP or UDP; unspecified for every address.
    pub(crate) resolvers: BTreeSet<Ipv4Addr>,
    /// Interfaces that carry packets for 127.0.0.0/8 (`route_localnet`).
    pub(crate) localnet: Vec<String>,
    /// `None`: NOMAD_ADDR is not set.
    pub(crate) nomad: Option<Known<Nomad>>,
    pub(crate) run_dir: Option<Owned>,
    /// Whether `steppe-boot.service` is installed.
    pub(crate) boot_unit: bool,
}

/// What of Steppe is on a host, as the kernel says it.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    /// A table `steppe`.
    pub(crate) tables: bool,
    /// The route that refuses virtual IPs.
    pub(crate) route: bool,
    /// The listener's address, or that of dns.
    pub(crate) address: bool,
    /// Why tables could not be listed.
    pub(crate) unseen: Option<String>,
}

/// A chain of nftables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    /// `ip`, `ip6`, `inet`, …
    pub(crate) family: &'static str,
    pub(crate) table: String,
    pub(crate) name: String,
    /// `input`, `forward`, …; `None` for a chain that others jump to.
    pub(crate) hook: Option<&'static str>,
    /// Whether its policy is to drop.
    pub(crate) drops: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Ipv4Net,
    /// `None` for a route that refuses.
    pub(crate) device: Option<String>,
}

/// What Docker says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Docker {
    pub(crate) version: String,
    /// `info.SecurityOptions`, such as `name=userns`.
    pub(crate) security: Vec<String>,
    /// `info.FirewallBackend.Driver`, of Docker 29 and later.
    pub(crate) firewall: Option<String>,
    /// Whether it publishes ports by rules of iptables.
    pub(crate) iptables: bool,
    /// Its directory of containers, where control writes each one's resolv.conf.
    pub(crate) containers: String,
    /// Why that can't be read.
    pub(crate) containers_unread: Option<String>,
}

/// What the Nomad agent of this host says.
#[derive(Debug, Clone)]
pub(crate) struct Nomad {
    pub(crate) version: String,
    /// Whether this agent is a client.
    pub(crate) client: bool,
    /// What the docker plugin lets jobs add, in lower case; `None`: its default.
    pub(crate) allow_caps: Option<Vec<String>>,
    pub(crate) volumes: bool,
    pub(crate) dynamic_ports: RangeInclusive<u16>,
    pub(crate) acl: Acl,
}

/// Whether NOMAD_TOKEN can read what control has to read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Acl {
    /// Everybody may.
    #[default]
    Off,
    /// A management token.
    Management,
    /// What the token's policies lack, such as `namespace "*" { policy = "read" }`.
    Lacks(Vec<&'static str>),
    /// It could not be asked.
    Unknown(String),
}

/// Whose a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}
