//! The command line.

use std::{net::Ipv4Addr, ops::RangeInclusive, path::PathBuf};

use clap::{Parser, Subcommand, ValueEnum};
use ipnet::Ipv4Net;
use steppe_model::{UserName, parse_block};

use crate::ready::Component;

/// What Steppe is doing on this host, and why a workload may or may not reach a service.
#[derive(Debug, Parser)]
#[command(
    name = "steppe",
    version,
    about = "What Steppe is doing on this host, and why a workload may or may not reach a service",
    after_help = "Examples:
  steppe status                       is everything well, and what to do next
  steppe services                     who offers what, at which virtual IP, to how many
  steppe explain api web:80           why container `api` may or may not reach port 80 of `web`
  steppe dns query --as api web       what container `api` is told when it asks for the name `web`
  steppe --json workloads | jq .      every command has JSON

All but `uninstall`, `network ensure` and `network rm` only read, and work with control down as far as the agents know.
Run it as root, or as a member of the group `steppe` (gid 60700)."
)]
pub(crate) struct Args {
    /// Directory of the suite's sockets, the same for all its processes
    #[arg(long, global = true, env = "STEPPE_RUN_DIR", default_value = "/run/steppe", value_name = "DIR")]
    pub(crate) run_dir: PathBuf,
    /// Print JSON in the place of tables and words
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Colour the words: `auto` does so on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub(crate) color: Color,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where Steppe is on this host.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Addresses {
    /// Where virtual IPs are chosen from, as control and the netfilter-agent were told
    #[arg(long, env = "STEPPE_SERVICE_CIDR", default_value = "247.0.0.0/8", value_name = "CIDR", value_parser = parse_block)]
    pub(crate) service_cidr: Ipv4Net,
    /// Where the proxy listens, as control and the netfilter-agent were told
    #[arg(long, env = "STEPPE_LISTENER_ADDRESS", default_value = "169.254.77.54", value_name = "IP")]
    pub(crate) listener_address: Ipv4Addr,
    /// Where dns answers, as dns, control and the netfilter-agent were told
    #[arg(long, env = "STEPPE_DNS_ADDRESS", default_value = "169.254.77.53", value_name = "IP")]
    pub(crate) dns_address: Ipv4Addr,
}

/// When text is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The suite at a glance: its processes, its sources, what it ignored, and what to do next
    ///
    /// Exits 0 when all is well, 1 when something is not.
    #[command(after_help = "Example:
  steppe status || steppe status --json | mail -s 'steppe is degraded' ops")]
    Status,
    /// Whether one process does its work, for scripts and health checks
    ///
    /// Says nothing and exits 0 when it does; else says why not and exits 1.
    #[command(after_help = "Example:
  until steppe ready control; do sleep 1; done")]
    Ready {
        /// The process
        component: Component,
    },
    /// The services that this host's workloads are granted
    ///
    /// PORTS are those that grants name, `*` for every TCP port. UP/ALL counts the instances that get connections, and all.
    /// REFUSED are packets for the service's virtual IP that had no grant, no such port or no endpoint.
    #[command(after_help = "Examples:
  steppe services                     with the rates of one second
  steppe services --no-rates          at once, with the totals")]
    Services {
        /// Do not measure for a second: show totals (always so with --json)
        #[arg(long)]
        no_rates: bool,
    },
    /// What on this host is in the way of Steppe, and what to do about it
    ///
    /// Looks at the kernel, Docker, other firewalls, routes, addresses and ports, and at this host's Nomad agent (NOMAD_ADDR,
    /// NOMAD_TOKEN, NOMAD_CACERT, …). It changes nothing. Run it as root.
    /// Exits 0 when nothing is in the way, 1 when something is, 2 when the question makes no sense, 4 when something could not be
    /// examined. Every finding but `ok` has a `fix`.
    #[command(after_help = "Examples:
  steppe doctor --preflight           before the installation: also what a Nomad client must allow
  steppe doctor --audit               before doors are shut: what they would have refused, of whom, and what to write
  NOMAD_TOKEN=… steppe doctor         with the token that control has: whether it can read every job")]
    Doctor {
        /// Steppe is not installed yet: what the system job needs of this client is looked at, too
        #[arg(long)]
        preflight: bool,
        /// Nothing of the above: sum up what doors refused, or would refuse that only watch. Exits 1 when enforcing would cut
        /// something, 4 when the netfilter-agent can't be asked
        #[arg(long, conflicts_with = "preflight")]
        audit: bool,
        #[command(flatten)]
        addresses: Addresses,
        /// As control's
        #[arg(long, env = "STEPPE_USER_CIDR", default_value = "10.208.0.0/12", value_name = "CIDR", value_parser = parse_block)]
        user_cidr: Ipv4Net,
        /// As control's
        #[arg(long, default_value = "10000-19999", value_parser = parse_ports, value_name = "FIRST-LAST")]
        listener_ports: RangeInclusive<u16>,
    },
    /// Remove everything that Steppe has put on this host: tables, route, addresses, empty networks of users, run directory
    ///
    /// Containers are not touched, but for their resolv.conf, which gets back what Docker had written. Every step is reported, and one that fails does not keep the others from being done.
    /// Exits 0 when nothing is left, 1 when something is. Run it as root, after Steppe's processes were stopped.
    #[command(after_help = "Example:
  nomad job stop steppe && steppe uninstall")]
    Uninstall {
        /// Go on although processes of Steppe run; what they hold may stay, or come back
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        addresses: Addresses,
        /// Docker's directory of containers, in which their resolv.conf lie
        #[arg(
            long,
            env = "STEPPE_CONTAINERS_DIR",
            default_value = "/var/lib/docker/containers",
            value_name = "DIR"
        )]
        containers_dir: PathBuf,
    },
    /// The workloads of this host: their addresses, their bridge ports, what they are granted
    #[command(after_help = "Example:
  steppe workloads                    PROBLEM says why a grant does not hold")]
    Workloads,
    /// Why a workload may or may not reach a service or an address, link by link; the first broken one has a `fix`
    ///
    /// An address that is no virtual IP leads to the doors: published ports of this host and of others, other workloads, users'
    /// networks, dns and the listeners. A door that only watches (audit) lets pass, and what it would refuse is said.
    /// Exits 0 yes, 1 refused by policy, 2 the question makes no sense, 3 granted but broken, 4 can't tell.
    #[command(after_help = "Examples:
  steppe explain api web:80           container `api`, port 80 of its own user's (or nobody's) `web`
  steppe explain 3f2a bob/pg:5432     by the beginning of an id or alloc; another user's service
  steppe explain shop/web/nginx dns:53/udp
  steppe explain 172.17.0.5 247.12.8.41:80
  steppe explain api db               another container on the network of its user
  steppe explain api 10.0.0.5:24011   a published port: which door is on the way, and is it shut
  steppe explain host 127.0.0.1:24011 the host's own processes")]
    Explain {
        /// A container's name or id, an alloc (or the beginning of one), JOB[/GROUP[/TASK]], an address, or `host`
        workload: String,
        /// [USER/]NAME[#TAG][:PORT[/udp]], or an address (IPv6 in brackets) with or without a port
        service: String,
        #[command(flatten)]
        addresses: Addresses,
    },
    /// Users' networks on this host
    Network {
        #[command(subcommand)]
        order: Network,
    },
    /// Names, as dns answers them
    Dns {
        #[command(subcommand)]
        question: Dns,
    },
}

/// What is done with users' networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Network {
    /// The networks there are, who is attached, and who needs one and has none
    ///
    /// KEPT says why one stays with nothing attached: `needed` by a namespace, a workload or --users, or `ensured`.
    Ls,
    /// Make the network of a user, if there is none, and keep it
    ///
    /// For `docker run --network steppe-USER` before control knows of the user. Run it as root.
    /// Exits 0 when it is there, 1 when it can't be, 2 when the name is none, 4 when control does not answer.
    #[command(after_help = "Example:
  steppe network ensure alice && docker run --network steppe-alice …")]
    Ensure {
        /// The user
        user: UserName,
    },
    /// Remove the network of a user
    ///
    /// Not while a container names it, running or not, nor while something needs it. Run it as root.
    /// Exits 0 when it is gone, 1 when it can't be, 2 when the name is none, 4 when control does not answer.
    #[command(after_help = "Example:
  steppe network rm alice")]
    Rm {
        /// The user
        user: UserName,
    },
}

/// What dns is asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Dns {
    /// What a workload would be told of a name, and why
    ///
    /// Asks as the workload's resolver library would: a name that has dots and is not found is asked for with .steppe.internal, too. The
    /// question is not counted as one of the workload's. Exits 0 when there is an answer, 1 when there is no such name for this
    /// workload (or no record of that type), 2 when the question makes no sense, 4 when it can't be told.
    #[command(after_help = "Examples:
  steppe dns query --as api web             the virtual IP of `web`, as container `api` sees it
  steppe dns query --as api web.service.consul
  steppe dns query --as shop/web/nginx _web._tcp.steppe.internal SRV
  steppe dns query --as 172.17.0.5 4.3.2.247.in-addr.arpa PTR
  steppe dns query --as api deb.debian.org AAAA   no name of Steppe's: what the host's resolvers say")]
    Query {
        /// A container's name or id, an alloc (or the beginning of one), JOB[/GROUP[/TASK]], or an address
        #[arg(long = "as", value_name = "WORKLOAD")]
        workload: String,
        /// The name
        name: String,
        /// A record type, such as A, AAAA, SRV or PTR, or TYPE and a number
        #[arg(default_value = "A", value_name = "TYPE")]
        kind: String,
    },
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range.ok_or_else(|| "write two ports, the smaller first, such as 10000-19999".to_owned())
}

impl Command {
    /// The exit code when nothing can be said.
    pub(crate) fn failure_code(&self) -> u8 {
        match self {
            Self::Explain { .. } | Self::Doctor { .. } | Self::Dns { .. } => {
                steppe_explain::Verdict::Unknown.exit_code()
            }
            _ => 1,
        }
    }
}
