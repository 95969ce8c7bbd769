//! `make bench`: Steppe beside the programs that would otherwise do its work, in the same run.

mod control;
mod dns;
mod grants;
mod load;
mod peers;
mod process;
mod proxy;
mod rounds;
mod rules;
mod stage;
mod stats;
mod sync;
mod table;
mod udp;

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{CommandFactory as _, Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the largest measurement, at both ends of a proxy.
const DESCRIPTORS: u64 = 20_000;

/// Measures Steppe beside the programs that would otherwise do its work, in the same run, as root.
#[derive(Debug, Parser)]
#[command(name = "bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// TCP through the proxy: HAProxy, nginx stream, Envoy, no proxy at all
    Proxy(proxy::Options),
    /// TCP by the kernel path: the host's own routing, the proxies
    Kernel(proxy::Options),
    /// UDP through the proxy: nginx stream, no proxy at all
    Udp(rounds::Options),
    /// Names by who asks: unbound, dnsmasq, aardvark-dns
    Dns(rounds::Options),
    /// How soon a grant is in force, and gone
    Grants(grants::Options),
    /// The netfilter-agent's rules: loaded, changed, adopted and passed, beside nft and iptables
    Rules(rules::Options),
    /// What a change costs control, and how soon it is in force
    Control(control::Options),
    /// The names of the measurements
    #[command(hide = true)]
    List,
    /// The client of the other measurements
    #[command(hide = true)]
    Load { load: String },
    /// The server of the other measurements
    #[command(hide = true)]
    Serve,
}

/// What is started inherits it.
fn raise_limits() -> Result<()> {
    let limit = getrlimit(Resource::Nofile).maximum;
    ensure!(
        limit.is_none_or(|limit| limit >= DESCRIPTORS),
        "this needs `ulimit -Hn` of {DESCRIPTORS} at least"
    );
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?)
}

fn main() -> ExitCode {
    match run(Arguments::parse().what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: What) -> Result<()> {
    if matches!(what, What::Proxy(_) | What::Kernel(_) | What::Udp(_) | What::Control(_)) {
        raise_limits()?;
    }
    match what {
        What::List => {
            let command = Arguments::command();
            let shown = command.get_subcommands().filter(|what| !what.is_hide_set());
            shown.for_each(|what| println!("{}", what.get_name()));
            Ok(())
        }
        What::Load { load } => load::client(&serde_json::from_str(&load)?),
        What::Serve => load::serve(),
        What::Proxy(options) => proxy::run(&proxy::PROXY, &options),
        What::Kernel(options) => proxy::run(&proxy::KERNEL, &options),
        What::Udp(options) => udp::run(&options),
        What::Dns(options) => dns::run(&options),
        What::Grants(options) => grants::run(&options),
        What::Rules(options) => rules::run(&options),
        What::Control(options) => control::run(&options),
    }
}
