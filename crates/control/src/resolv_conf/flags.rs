//! The flags about resolv.conf.

use std::{net::Ipv4Addr, path::PathBuf};

use clap::Args;

use crate::config::Switch;

/// How containers are led to dns.
#[derive(Debug, Clone, Args)]
pub struct ResolvConfFlags {
    /// Address that dns answers at; dns and the netfilter-agent must be given the same
    #[arg(long, env = "STEPPE_DNS_ADDRESS", default_value = "169.254.77.53", value_name = "IP")]
    pub dns_address: Ipv4Addr,

    /// Whether the resolv.conf of workloads leads to dns; off, they have what Docker gives them
    #[arg(long, value_enum, default_value = "on", value_name = "ON|OFF", hide_possible_values = true)]
    pub resolv_conf: Switch,

    /// Docker's directory of containers. Default: what Docker says
    #[arg(long, env = "STEPPE_CONTAINERS_DIR", value_name = "DIR")]
    pub containers_dir: Option<PathBuf>,
}
