//! The flags of dns.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use clap::{Parser, ValueEnum};
use ipnet::Ipv4Net;
use steppe_daemon::{CONTROL_UID, Failure, Logging, Process, RunDir};
use steppe_model::parse_block;

/// The port of the domain name system.
const PORT: u16 = 53;

/// Steppe's dns: answers workloads' questions for names by who is asking, and forwards the rest to the host's resolvers.
///
/// It needs CAP_NET_BIND_SERVICE, for port 53. What it answers comes from steppe-control, through its socket in RUN_DIR; look at it
/// there with `grpcurl -unix -plaintext RUN_DIR/dns.sock list`. It listens as soon as it knows what to answer; without
/// steppe-control it forwards after 3 seconds, unless another dns listens there. Two of it, started with --instance a and
/// --instance b, can be replaced one after the other without a lost question.
#[derive(Debug, Clone, Parser)]
#[command(name = "steppe-dns", version, max_term_width = 100)]
pub struct Config {
    /// Where the sockets of the suite are.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// The uid that steppe-control runs as; Sync is taken from nobody else
    #[arg(long, env = "STEPPE_CONTROL_UID", default_value_t = CONTROL_UID, value_name = "UID")]
    pub control_uid: u32,

    /// The address that workloads ask; steppe-netfilter-agent puts it on this host
    #[arg(long, env = "STEPPE_DNS_ADDRESS", default_value = "169.254.77.53", value_name = "IP")]
    pub dns_address: Ipv4Addr,

    /// The port that workloads ask; their resolv.conf can name no other than 53
    #[arg(long, env = "STEPPE_DNS_PORT", default_value_t = PORT, value_name = "PORT")]
    pub dns_port: u16,

    /// Which of two that run side by side and share the port; its socket is dns-a.sock or dns-b.sock
    #[arg(long, env = "STEPPE_DNS_INSTANCE", value_name = "a|b")]
    pub instance: Option<Instance>,

    /// A resolver to forward to; repeat it for several, which are tried in this order. Without it, those of --resolv-conf
    #[arg(long, env = "STEPPE_DNS_UPSTREAM", value_delimiter = ',', value_name = "ADDR[:PORT]", value_parser = parse_upstream)]
    pub upstream: Vec<SocketAddr>,

    /// The file that names the host's resolvers, read again when it changes. A link in it that begins with / leads on below the
    /// directory above etc, so that a container can be given the host's under another name
    #[arg(long, env = "STEPPE_RESOLV_CONF", default_value = "/etc/resolv.conf", value_name = "FILE")]
    pub resolv_conf: PathBuf,

    /// Which names below service.consul there are: `granted` are those that the asker may reach, by their virtual IPs; with `all` they
    /// are forwarded
    #[arg(
        long,
        env = "STEPPE_CONSUL_DNS",
        value_enum,
        default_value = "granted",
        value_name = "granted|all"
    )]
    pub consul_dns: ConsulDns,

    /// The virtual IPs: no question for the name of one is forwarded
    #[arg(long, env = "STEPPE_SERVICE_CIDR", default_value = "247.0.0.0/8", value_name = "CIDR", value_parser = parse_block)]
    pub service_cidr: Ipv4Net,

    /// Answers of resolvers that are kept; 0 keeps none
    #[arg(long, env = "STEPPE_DNS_CACHE_SIZE", default_value_t = 10_000, value_name = "N")]
    pub cache_size: usize,

    /// Questions that one asker may ask in a second; those beyond are not answered
    #[arg(long, env = "STEPPE_DNS_ASKER_RATE", default_value_t = 5_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub asker_rate: u32,

    /// Questions of one asker that may wait for a resolver, or for steppe-control, at a time; those beyond fail
    #[arg(long, env = "STEPPE_DNS_ASKER_FORWARDS", default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub asker_forwards: u32,

    /// The same of all askers; one user's have half of them at the most, and the last eighth is for those who have hardly any waiting
    #[arg(long, env = "STEPPE_DNS_FORWARDS", default_value_t = 1_024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub forwards: u32,

    /// How it logs.
    #[command(flatten)]
    pub logging: Logging,
}

/// Which of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Instance {
    /// The first.
    A,
    /// The second.
    B,
}

/// What becomes of names below `service.consul`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConsulDns {
    /// Those that the asker may reach exist, as virtual IPs.
    Granted,
    /// They are Consul's business.
    All,
}

impl Config {
    /// Checks what the flags are together.
    ///
    /// # Errors
    /// [`Failure::Usage`], which says what to write.
    pub fn check(&self) -> Result<(), Failure> {
        let ip = self.dns_address;
        if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || self.service_cidr.contains(&ip) {
            return Err(Failure::usage(format!(
                "--dns-address {ip}: an address of this host outside --service-cidr is expected, such as 169.254.77.53"
            )));
        }
        if self.dns_port == 0 {
            return Err(Failure::usage("--dns-port 0: a port number is expected"));
        }
        Ok(())
    }

    /// Where workloads ask.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddrV4 {
        std::net::SocketAddrV4::new(self.dns_address, self.dns_port)
    }

    /// Who this is among the processes of the suite.
    #[must_use]
    pub fn process(&self) -> Process {
        match self.instance {
            None => Process::Dns,
            Some(Instance::A) => Process::DnsA,
            Some(Instance::B) => Process::DnsB,
        }
    }

    /// "a", "b" or nothing.
    #[must_use]
    pub fn instance_name(&self) -> &'static str {
        match self.instance {
            None => "",
            Some(Instance::A) => "a",
            Some(Instance::B) => "b",
        }
    }
}

fn parse_upstream(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse::<SocketAddr>().ok();
    let address = address.or_else(|| text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT)));
    address
        .filter(|address| !address.ip().is_unspecified() && address.port() != 0)
        .ok_or_else(|| "an address is expected, such as 10.0.0.2, 10.0.0.2:5353 or [fd00::2]:53".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from([&["steppe-dns"], flags].concat())
    }

    #[test]
    fn flags_are_read() {
        let config =
            parsed(&["--instance", "b", "--upstream", "10.0.0.2", "--upstream", "[fd00::2]:5353"]).unwrap();
        assert_eq!((config.process(), config.instance_name()), (Process::DnsB, "b"));
        assert_eq!(config.upstream, ["10.0.0.2:53".parse().unwrap(), "[fd00::2]:5353".parse().unwrap()]);
        let config = parsed(&[]).unwrap();
        assert!(config.check().is_ok());
        assert_eq!(
            (config.process(), config.address().to_string()),
            (Process::Dns, "169.254.77.53:53".into())
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            ["--instance", "c"],
            ["--upstream", "resolver"],
            ["--upstream", "0.0.0.0"],
            ["--consul-dns", "some"],
            ["--asker-rate", "0"],
        ] {
            assert_eq!(parsed(&flags).unwrap_err().exit_code(), 2, "{flags:?}");
        }
        for flags in [["--dns-address", "247.1.2.3"], ["--dns-address", "0.0.0.0"], ["--dns-port", "0"]] {
            assert!(parsed(&flags).unwrap().check().is_err(), "{flags:?}");
        }
    }
}
