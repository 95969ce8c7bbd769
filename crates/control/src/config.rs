//! control's flags and variables, checked before anything is bound.

use std::{net::Ipv4Addr, ops::RangeInclusive, sync::Arc};

use clap::{Parser, ValueEnum};
use steppe_daemon::{Logging, NETFILTER_AGENT_UID, PROXY_UID, RunDir};

use crate::{
    plan::Cidr,
    sources::{ConsulConfig, DockerConfig, SourceError},
};

/// Whether something is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It is.
    On,
    /// It is not.
    Off,
}

/// Observes Consul and Docker, plans who may reach what, and pushes that to the agents of this host.
///
/// Sources: Docker is on (DOCKER_HOST, else /var/run/docker.sock) unless --docker=off says otherwise; Consul is on when
/// CONSUL_HTTP_ADDR is set (with CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_CACERT, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY,
/// CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_TLS_SERVER_NAME). Needs Docker 20.10 or later and Consul 1.8 or later.
#[derive(Debug, Clone, Parser)]
#[command(name = "steppe-control", version)]
pub struct Flags {
    /// Where the suite's sockets are.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// Block that virtual IPs are taken from; the netfilter-agent must be given the same
    #[arg(long, env = "STEPPE_SERVICE_CIDR", default_value = "247.0.0.0/8", value_name = "CIDR")]
    pub service_cidr: Cidr,

    /// Address that the proxy listens on; the netfilter-agent must be given the same
    #[arg(long, env = "STEPPE_LISTENER_ADDRESS", default_value = "169.254.77.54", value_name = "IP")]
    pub listener_address: Ipv4Addr,

    /// Ports that the proxy listens on: outside Nomad's dynamic ports and the kernel's ephemeral ones
    #[arg(long, default_value = "10000-19999", value_parser = parse_ports, value_name = "FIRST-LAST")]
    pub listener_ports: RangeInclusive<u16>,

    /// Whether Docker is a source
    #[arg(long, value_enum, default_value = "on", value_name = "ON|OFF", hide_possible_values = true)]
    pub docker: Switch,

    /// Uid that the proxy runs as
    #[arg(long, default_value_t = PROXY_UID, value_name = "UID")]
    pub proxy_uid: u32,

    /// Uid that the netfilter-agent runs as
    #[arg(long, default_value_t = NETFILTER_AGENT_UID, value_name = "UID")]
    pub netfilter_agent_uid: u32,

    /// How it logs.
    #[command(flatten)]
    pub logging: Logging,
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let expected = || "write two ports from 1 to 65535, the smaller first, such as 10000-19999".to_owned();
    let (first, last) = text.split_once('-').ok_or_else(expected)?;
    let (first, last): (u16, u16) =
        (first.parse().map_err(|_| expected())?, last.parse().map_err(|_| expected())?);
    if first == 0 || first > last { Err(expected()) } else { Ok(first..=last) }
}

/// Everything that control needs to know to start.
#[derive(Debug, Clone)]
pub struct Config {
    /// The flags.
    pub flags: Flags,
    /// The Docker daemon; `None` when Docker is off.
    pub docker: Option<DockerConfig>,
    /// The Consul agent; `None` when Consul is off.
    pub consul: Option<ConsulConfig>,
    /// This host's name, for as long as no catalogue says otherwise.
    pub node: Arc<str>,
}

impl Config {
    /// Completes the flags with the variables that `lookup` gives.
    ///
    /// # Errors
    /// [`SourceError`], which names the variable and says what to write.
    pub fn new(
        flags: Flags,
        node: Arc<str>,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SourceError> {
        let docker = match flags.docker {
            Switch::On => Some(DockerConfig::from_env(&lookup)?),
            Switch::Off => None,
        };
        let consul = ConsulConfig::from_env(&lookup)?;
        Ok(Self { flags, docker, consul, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_make_no_sense_are_refused() {
        for flag in [
            "--service-cidr=247.0.0.1/8",
            "--listener-address=::1",
            "--listener-ports=9-8",
            "--listener-ports=0-9",
            "--docker=maybe",
        ] {
            let error = Flags::try_parse_from(["steppe-control", flag]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{flag}");
        }
    }
}
