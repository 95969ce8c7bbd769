//! `bench grants`: how long the three orders and their reverses take on the real thing, counted from Docker's event or
//! Consul's answer; see `steppe_integration::orders` for what they are.

mod report;
mod runs;

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Args;
use report::Report;
use steppe_integration::orders::Stage;
use steppe_testbed::Cluster;

/// How often.
#[derive(Debug, Args)]
pub struct Options {
    /// Repeats of each order
    #[arg(default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..))]
    repeats: u16,
}

/// # Errors
/// When the goal is missed.
pub fn run(options: &Options) -> Result<()> {
    let repeats = usize::from(options.repeats);
    let began = Instant::now();
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::raise(cluster.one());
    let report = Report {
        starts: runs::starts(&stage, repeats),
        registrations: runs::registrations(&stage, repeats),
        services: runs::services(&stage, repeats),
        tags: runs::tags(&stage, repeats),
    };
    cluster.assert_no_leak();
    print!("{}", report.text());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "\n{repeats} repeats of each order, {:.0} s in all; {} CPUs, load averages {}",
        began.elapsed().as_secs_f64(),
        std::thread::available_parallelism().map_or(0, usize::from),
        load.split(' ').take(3).collect::<Vec<_>>().join(" "),
    );
    ensure!(report.goal_is_met(), "the goal is missed");
    Ok(())
}
