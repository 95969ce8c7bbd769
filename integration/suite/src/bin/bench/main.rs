//! `make bench`: how long the three orders and their reverses take on the real thing, counted from Docker's event or
//! Consul's answer; see `steppe_integration::orders` for what they are.

mod report;
mod runs;

use std::{process::ExitCode, time::Instant};

use report::Report;
use steppe_integration::orders::Stage;
use steppe_testbed::Cluster;

const REPEATS: usize = 200;

fn main() -> ExitCode {
    let repeats = std::env::args().nth(1).map_or(Ok(REPEATS), |word| word.parse());
    let Ok(repeats @ 1..) = repeats else {
        eprintln!("usage: bench [REPEATS]    {REPEATS} without saying");
        return ExitCode::from(2);
    };
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
    if report.goal_is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
