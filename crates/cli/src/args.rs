//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

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
  steppe --json workloads | jq .      every command has JSON

Everything here only reads, and works with control down as far as the agents know.
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
    /// The workloads of this host: their addresses, their bridge ports, what they are granted
    #[command(after_help = "Example:
  steppe workloads                    PROBLEM says why a grant does not hold")]
    Workloads,
    /// Why a workload may or may not reach a service, link by link; the first broken one has a `fix`
    ///
    /// Exits 0 yes, 1 refused by policy, 2 the question makes no sense, 3 granted but broken, 4 can't tell.
    #[command(after_help = "Examples:
  steppe explain api web:80           container `api`, port 80 of its own user's (or nobody's) `web`
  steppe explain 3f2a bob/pg:5432     by the beginning of an id or alloc; another user's service
  steppe explain shop/web/nginx dns:53/udp
  steppe explain 172.17.0.5 247.12.8.41:80
  steppe explain host web             the host's own processes")]
    Explain {
        /// A container's name or id, an alloc (or the beginning of one), job/group/task, an address, or `host`
        workload: String,
        /// [USER/]NAME[#TAG][:PORT[/udp]], or a virtual IP with or without a port
        service: String,
    },
}

impl Command {
    /// The exit code when nothing can be said.
    pub(crate) fn failure_code(&self) -> u8 {
        match self {
            Self::Explain { .. } => steppe_explain::Verdict::Unknown.exit_code(),
            _ => 1,
        }
    }
}
