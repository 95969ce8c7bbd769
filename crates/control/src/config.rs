//! control's flags and variables, checked before anything is bound.

use std::{net::Ipv4Addr, num::NonZeroUsize, ops::RangeInclusive, path::PathBuf, sync::Arc};

use clap::{Parser, ValueEnum};
use ipnet::Ipv4Net;
use steppe_daemon::{DNS_UID, Logging, NETFILTER_AGENT_UID, PROXY_UID, RunDir};
use steppe_model::parse_block;
use thiserror::Error;

use crate::{
    doors::DoorFlags,
    networks::NetworkFlags,
    plan::UserFrom,
    resolv_conf::ResolvConfFlags,
    sources::{ConsulConfig, DockerConfig, NomadConfig, SourceError},
};

/// Whether something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Observes Consul, Nomad and Docker, plans who may reach what, and pushes that to the agents of this host.
///
/// Sources: Docker is on (DOCKER_HOST, else /var/run/docker.sock) unless --docker=off says otherwise; Consul is on when
/// CONSUL_HTTP_ADDR is set (with CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY,
/// CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_TLS_SERVER_NAME); Nomad is on when NOMAD_ADDR is set (with NOMAD_TOKEN,
/// NOMAD_TOKEN_FILE, NOMAD_REGION, NOMAD_CACERT, NOMAD_CAPATH, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY, NOMAD_TLS_SERVER_NAME,
/// NOMAD_SKIP_VERIFY; in all namespaces that the token may read).
/// Needs Docker 20.10 or later, Consul 1.8 or later and Nomad 1.0 or later.
#[derive(Debug, Clone, Parser)]
#[command(name = "steppe-control", version)]
pub struct Flags {
    /// Where the suite's sockets are.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// Block that virtual IPs are taken from; the netfilter-agent must be given the same
    #[arg(long, env = "STEPPE_SERVICE_CIDR", default_value = "247.0.0.0/8", value_name = "CIDR", value_parser = parse_range)]
    pub service_cidr: Ipv4Net,

    /// Address that the proxy listens on; the netfilter-agent must be given the same
    #[arg(long, env = "STEPPE_LISTENER_ADDRESS", default_value = "169.254.77.54", value_name = "IP")]
    pub listener_address: Ipv4Addr,

    /// Ports that the proxy listens on: outside Nomad's dynamic ports and the kernel's ephemeral ones
    #[arg(long, default_value = "10000-19999", value_parser = parse_ports, value_name = "FIRST-LAST")]
    pub listener_ports: RangeInclusive<u16>,

    /// What says which user a workload of Nomad's belongs to: its namespace, or, where the authors of jobs are trusted, `steppe_user`
    /// in its job's meta or the label `steppe.user` of its containers; what does not say so goes by its namespace
    #[arg(
        long,
        value_enum,
        default_value = "namespace",
        value_name = "namespace|meta|label",
        hide_possible_values = true
    )]
    pub user_from: UserFrom,

    /// Whether Docker is a source
    #[arg(long, value_enum, default_value = "on", value_name = "ON|OFF", hide_possible_values = true)]
    pub docker: Switch,

    /// Connections to Consul's agent for services, one for each that this host's workloads ask for; beyond so many they take
    /// turns, and changes are seen later. Consul's `limits.http_max_conns_per_client` (200) must leave room for others
    #[arg(long, env = "STEPPE_CONSUL_CONNECTIONS", default_value_t = CONSUL_CONNECTIONS, value_name = "N")]
    pub consul_connections: NonZeroUsize,

    /// Where CNI keeps the addresses of Nomad's allocations in bridge mode; may be given more than once
    #[arg(long, default_values = ["/var/run/cni/nomad", "/var/lib/cni/networks/nomad"], value_name = "DIR")]
    pub cni_networks: Vec<PathBuf>,

    /// Whether the kernel carries new connections while the proxy is away; off, they wait for it
    #[arg(long, value_enum, default_value = "on", value_name = "ON|OFF", hide_possible_values = true)]
    pub takeover: Switch,

    /// Uid that the proxy runs as
    #[arg(long, default_value_t = PROXY_UID, value_name = "UID")]
    pub proxy_uid: u32,

    /// Uid that the netfilter-agent runs as
    #[arg(long, default_value_t = NETFILTER_AGENT_UID, value_name = "UID")]
    pub netfilter_agent_uid: u32,

    /// Uid that dns runs as
    #[arg(long, default_value_t = DNS_UID, value_name = "UID")]
    pub dns_uid: u32,

    /// Which networks there are.
    #[command(flatten)]
    pub networks: NetworkFlags,

    /// How workloads are led to dns.
    #[command(flatten)]
    pub resolv_conf: ResolvConfFlags,

    /// How doors are kept.
    #[command(flatten)]
    pub doors: DoorFlags,

    /// How it logs.
    #[command(flatten)]
    pub logging: Logging,
}

/// Consul's agent lets one address have 200 (`limits.http_max_conns_per_client`), and Nomad, health checks and people use the
/// same address; so we keep to half of them.
const CONSUL_CONNECTIONS: NonZeroUsize = NonZeroUsize::new(100).unwrap();

/// Reads a block that addresses are taken from.
fn parse_range(text: &str) -> Result<Ipv4Net, String> {
    let block = parse_block(text).map_err(|error| error.to_string())?;
    if (2..=30).contains(&block.prefix_len()) {
        Ok(block)
    } else {
        Err("a block of 2 to 30 bits is expected".into())
    }
}

/// Reads a range of ports, such as `10000-19999`.
pub(crate) fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let expected = || "write two ports from 1 to 65535, the smaller first, such as 10000-19999".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(expected)?;
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| expected())?, last.parse().map_err(|_| expected())?);
    if first == 0 || first > last { Err(expected()) } else { Ok(first..=last) }
}

/// Flags and variables that make no sense together.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// A source's variable.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is nothing to observe.
    #[error(
        "no source is on: set CONSUL_HTTP_ADDR, such as http://127.0.0.1:8500, or NOMAD_ADDR, or leave out --docker off"
    )]
    NoSource,
    /// Nobody can listen there.
    #[error(
        "--listener-address {0}: an address that is this host's alone is expected, such as 169.254.77.54: not a loopback, \
         multicast or reserved one"
    )]
    Listener(Ipv4Addr),
    /// Nobody can ask there.
    #[error(
        "--dns-address {0}: an address that is this host's alone and no other of Steppe's is expected, such as 169.254.77.53"
    )]
    Dns(Ipv4Addr),
    /// The listener's address would be refused as a virtual IP.
    #[error(
        "--listener-address {0} lies in --service-cidr: choose another of either, such as 169.254.77.54 and 247.0.0.0/8"
    )]
    Overlap(Ipv4Addr),
    /// Containers would have virtual IPs.
    #[error(
        "--user-cidr and --service-cidr overlap: choose another of either, such as 10.208.0.0/12 and 247.0.0.0/8"
    )]
    Users,
    /// What is there already could not be told from services.
    #[error("--service-cidr: {0} would be in it; a block that nobody uses is expected, such as 247.0.0.0/8")]
    Services(Ipv4Addr),
}

/// Addresses that no virtual IP may be: loopback, multicast and broadcast (RFC 6890), and the unspecified one.
const NEVER_VIRTUAL: [Ipv4Addr; 4] =
    [Ipv4Addr::LOCALHOST, Ipv4Addr::new(224, 0, 0, 1), Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED];

/// Everything that control needs to know to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The flags.
    pub flags: Flags,
    /// The Docker daemon; `None` when Docker is off.
    pub docker: Option<DockerConfig>,
    /// The Consul agent; `None` when Consul is off.
    pub consul: Option<ConsulConfig>,
    /// The Nomad agent; `None` when Nomad is off.
    pub nomad: Option<NomadConfig>,
    /// This host's name, for as long as no catalogue says otherwise.
    pub node: Arc<str>,
}

impl Config {
    /// Completes the flags with the variables that `lookup` gives.
    ///
    /// # Errors
    /// [`ConfigError`], which names the flag or variable and says what to write.
    pub fn new(
        flags: Flags,
        node: Arc<str>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        check_addresses(&flags)?;
        let docker = match flags.docker {
            Switch::On => Some(DockerConfig::from_env(&lookup)?),
            Switch::Off => None,
        };
        let consul = ConsulConfig::from_env(&lookup)?;
        let nomad = NomadConfig::from_env(&lookup, flags.cni_networks.clone())?;
        if docker.is_none() && consul.is_none() && nomad.is_none() {
            return Err(ConfigError::NoSource);
        }
        Ok(Self { flags, docker, consul, nomad, node })
    }
}

/// The same that the netfilter-agent asks of them.
fn check_addresses(flags: &Flags) -> Result<(), ConfigError> {
    let listener = flags.listener_address;
    if flags.service_cidr.contains(&listener) {
        return Err(ConfigError::Overlap(listener));
    }
    let (users, services) = (flags.networks.user_cidr, flags.service_cidr);
    if users.contains(&services) || services.contains(&users) {
        return Err(ConfigError::Users);
    }
    if is_reserved(listener) {
        return Err(ConfigError::Listener(listener));
    }
    let dns = flags.resolv_conf.dns_address;
    if dns == listener || flags.service_cidr.contains(&dns) || is_reserved(dns) {
        return Err(ConfigError::Dns(dns));
    }
    match NEVER_VIRTUAL.into_iter().find(|ip| flags.service_cidr.contains(ip)) {
        Some(ip) => Err(ConfigError::Services(ip)),
        None => Ok(()),
    }
}

fn is_reserved(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_unspecified() || ip.octets()[0] >= 224
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(flags: &[&str]) -> Result<Config, ConfigError> {
        let flags = Flags::try_parse_from([&["steppe-control"], flags].concat()).unwrap();
        Config::new(flags, "a".into(), |_| None)
    }

    #[test]
    fn flags_that_make_no_sense_together_are_refused() {
        assert!(config(&[]).is_ok());
        assert!(matches!(config(&["--docker=off"]), Err(ConfigError::NoSource)));
        for (flag, says) in [
            ("--service-cidr=127.0.0.0/8", "247.0.0.0/8"),
            ("--service-cidr=10.0.0.0/8", "--user-cidr"),
            ("--service-cidr=192.0.0.0/2", "247.0.0.0/8"),
            ("--service-cidr=169.254.0.0/16", "--listener-address"),
            ("--listener-address=247.0.0.1", "--service-cidr"),
            ("--listener-address=127.0.0.1", "169.254.77.54"),
            ("--listener-address=239.0.0.1", "169.254.77.54"),
            ("--dns-address=169.254.77.54", "169.254.77.53"),
            ("--dns-address=127.0.0.53", "169.254.77.53"),
            ("--dns-address=247.0.0.53", "169.254.77.53"),
        ] {
            let message = config(&[flag]).unwrap_err().to_string();
            assert!(message.contains(says), "{flag}: {message}");
        }
    }

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        for flag in [
            "--service-cidr=247.0.0.1/8",
            "--listener-address=::1",
            "--listener-ports=9-8",
            "--listener-ports=0-9",
            "--docker=maybe",
            "--takeover=maybe",
        ] {
            let error = Flags::try_parse_from(["steppe-control", flag]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag}");
        }
    }
}
