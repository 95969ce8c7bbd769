//! The flags.

use std::net::Ipv4Addr;

use clap::Parser;
use ipnet::Ipv4Net;
use steppe_daemon::{CONTROL_UID, Logging, RunDir};
use steppe_model::parse_block;
use thiserror::Error;

use crate::{kernel::TableOwner, ruleset::Addresses};

/// Steppe's firewall: lets each workload reach the services it was granted, and refuses the rest, with nftables
///
/// It takes its orders from steppe-control on RUN_DIR/netfilter-agent.sock. What is in force stays when it ends,
/// and is taken over when it starts.
///
/// Needs CAP_NET_ADMIN and Linux 5.10 or newer (comments of tables; reject in prerouting 5.9, counters of elements 5.7, meta iifkind 5.6),
/// with nf_tables for inet and bridge, and its ct, fib, nat, masq, numgen, reject and socket expressions. From Linux 6.9 on the
/// kernel itself keeps others off the tables; before, they are put back when somebody changes them.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Config {
    #[command(flatten)]
    pub(crate) run_dir: RunDir,

    /// Where virtual IPs are chosen from; the same for control and all agents of a host
    #[arg(long, env = "STEPPE_SERVICE_CIDR", default_value = "247.0.0.0/8", value_name = "CIDR", value_parser = parse_block)]
    pub(crate) service_cidr: Ipv4Net,

    /// Where the proxy listens; put on `lo`; the same for control and all agents of a host
    #[arg(long, env = "STEPPE_LISTENER_ADDRESS", default_value = "169.254.77.54", value_name = "IP")]
    pub(crate) listener_address: Ipv4Addr,

    /// Where dns listens; put on `lo`; the same for control and all agents of a host
    #[arg(long, env = "STEPPE_DNS_ADDRESS", default_value = "169.254.77.53", value_name = "IP")]
    pub(crate) dns_address: Ipv4Addr,

    /// Who may send orders: the uid that control runs as
    #[arg(long, env = "STEPPE_CONTROL_UID", default_value_t = CONTROL_UID, value_name = "UID")]
    pub(crate) control_uid: u32,

    /// Who may change the tables
    #[arg(long, value_enum, default_value = "auto", value_name = "MODE")]
    pub(crate) table_owner: TableOwner,

    /// Remove the tables, the addresses and the route, and exit; no agent may be running
    #[arg(long)]
    pub(crate) purge: bool,

    #[command(flatten)]
    pub(crate) logging: Logging,
}

/// Flags that make no sense together.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidConfig {
    /// Nobody can listen there.
    #[error(
        "{flag} {address}: an address that is this host's alone is expected, such as 169.254.77.54: not a loopback, \
         multicast or reserved one"
    )]
    Address {
        /// What it was given by.
        flag: &'static str,
        /// The address.
        address: Ipv4Addr,
    },
    /// It would be refused as a virtual IP.
    #[error("{flag} {address} lies in --service-cidr {services}: choose another of either")]
    Overlap {
        /// What it was given by.
        flag: &'static str,
        /// The address.
        address: Ipv4Addr,
        /// The range.
        services: Ipv4Net,
    },
    /// The proxy's listeners would be refused as other ports of dns.
    #[error("--listener-address and --dns-address are both {0}: choose another for either")]
    Same(Ipv4Addr),
    /// Containers could not be told from services.
    #[error(
        "--service-cidr {0}: a range that nobody uses is expected, such as 247.0.0.0/8: not loopback, multicast or broadcast"
    )]
    Services(Ipv4Net),
}

impl Config {
    /// The addresses, checked.
    ///
    /// # Errors
    /// [`InvalidConfig`], with what is expected.
    pub(crate) fn addresses(&self) -> Result<Addresses, InvalidConfig> {
        let (services, listener, dns) = (self.service_cidr, self.listener_address, self.dns_address);
        let reserved =
            |ip: Ipv4Addr| ip.is_loopback() || ip.is_multicast() || ip.is_broadcast() || ip.is_unspecified();
        for (flag, address) in [("--listener-address", listener), ("--dns-address", dns)] {
            if reserved(address) || address.octets()[0] >= 240 {
                return Err(InvalidConfig::Address { flag, address });
            }
            if services.contains(&address) {
                return Err(InvalidConfig::Overlap { flag, address, services });
            }
        }
        if listener == dns {
            return Err(InvalidConfig::Same(dns));
        }
        if services.prefix_len() < 4 || reserved(services.network()) {
            return Err(InvalidConfig::Services(services));
        }
        Ok(Addresses { services, listener, dns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(flags: &[&str]) -> Result<Addresses, InvalidConfig> {
        let name = std::iter::once("steppe-netfilter-agent");
        Config::try_parse_from(name.chain(flags.iter().copied())).unwrap().addresses()
    }

    #[test]
    fn the_defaults_make_sense() {
        let addresses = addresses(&[]).unwrap();
        assert_eq!(addresses.services.to_string(), "247.0.0.0/8");
        assert_eq!(addresses.listener, Ipv4Addr::new(169, 254, 77, 54));
        assert_eq!(addresses.dns, Ipv4Addr::new(169, 254, 77, 53));
    }

    #[test]
    fn nonsense_is_refused() {
        for listener in ["127.0.0.1", "224.0.0.1", "0.0.0.0", "247.0.0.1"] {
            assert!(addresses(&["--listener-address", listener]).is_err(), "{listener}");
            assert!(addresses(&["--dns-address", listener]).is_err(), "{listener}");
        }
        assert!(addresses(&["--service-cidr", "169.254.0.0/16"]).is_err());
        assert!(addresses(&["--dns-address", "169.254.77.54"]).is_err());
        for cidr in ["127.0.0.0/8", "224.0.0.0/4", "0.0.0.0/3"] {
            assert!(addresses(&["--service-cidr", cidr]).is_err(), "{cidr}");
        }
        for cidr in ["247.0.0.1/8", "247.0.0.0", "247.0.0.0/33", "::/8"] {
            assert!(Config::try_parse_from(["agent", "--service-cidr", cidr]).is_err(), "{cidr}");
        }
    }
}
