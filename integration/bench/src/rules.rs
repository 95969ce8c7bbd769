//! `bench rules`: what the netfilter-agent's rules cost to load, to change, to adopt and to pass, beside `nft` and iptables.

mod agent;
mod others;
mod packets;

use std::time::{Duration, Instant};

use agent::Agent;
use anyhow::{Result, ensure};
use clap::Args;
use steppe_integration::quantiles::Quantiles;
use steppe_model::Resource;

use crate::{
    stage::Stage,
    table::{Table, number},
};

/// How much of it.
#[derive(Debug, Args)]
pub struct Options {
    /// Loads and adoptions of each size, of which the median counts
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Changes of one thing
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Rounds of packets
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Seconds of each
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
}

const GRANTS: [u32; 3] = [10, 10_000, 100_000];
const SERVICES: [u32; 3] = [100, 1_000, 20_000];

/// # Errors
/// Without root.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.repeats > 0 && options.changes > 0 && options.rounds > 1, "so many can't be measured");
    println!(
        "Over gRPC, there and back: from the first request until control's end has the acknowledgement. Medians of {} loads\nand adoptions, and of {} changes; an adoption is the start of the process, until the inventory of what it\nfound has been told.\n",
        options.repeats, options.changes
    );
    grants(options)?;
    services(options)?;
    others::run(options.changes.min(30))?;
    packets::run(options.rounds, options.seconds)
}

fn grants(options: &Options) -> Result<()> {
    let mut table = Table::new(&[
        "grants",
        "load, ms",
        "one more, µs, p50",
        "p99",
        "one less, µs, p50",
        "p99",
        "adopt, ms",
    ]);
    for count in GRANTS {
        let mut stage = Stage::raise()?;
        let all = |agent: &Agent| -> Vec<Resource> {
            let grants = (0..count).map(|nth| agent::grant(agent::vip(nth)));
            std::iter::once(agent.workload()).chain(grants).collect()
        };
        let (mut agent, mut cells) = measured(&mut stage, options, all)?;
        let one = agent::grant(agent::vip(count));
        let (mut more, mut less) = (Vec::new(), Vec::new());
        for _ in 0..options.changes {
            more.push(timed(|| agent.sync()?.upsert(&one))?);
            less.push(timed(|| agent.sync()?.remove(&one))?);
        }
        let adopt = cells.pop().unwrap_or_default();
        let mut row = vec![count.to_string()];
        row.extend(cells);
        row.extend([&more, &less].into_iter().flat_map(|took| [quantile(took, 50), quantile(took, 99)]));
        row.push(adopt);
        table.row(row);
    }
    println!("{table}");
    Ok(())
}

fn services(options: &Options) -> Result<()> {
    let mut table = Table::new(&[
        "services of three endpoints",
        "load, ms",
        "one endpoint another, µs, p50",
        "p99",
        "one endpoint more or less, µs, p50",
        "p99",
        "adopt, ms",
    ]);
    for count in SERVICES {
        let mut stage = Stage::raise()?;
        let all = |agent: &Agent| -> Vec<Resource> {
            let services = (0..count).flat_map(|nth| agent::service(agent::vip(nth), &[1, 2, 3]));
            std::iter::once(agent.workload()).chain(services).collect()
        };
        let (mut agent, mut cells) = measured(&mut stage, options, all)?;
        let with = |endpoints: &[u8]| {
            let [_, port] = agent::service(agent::vip(7), endpoints);
            port
        };
        let mut alternate = |[first, second]: [Resource; 2]| -> Result<Vec<Duration>> {
            let turns = [first, second].into_iter().cycle().take(options.changes);
            turns.map(|turn| timed(|| agent.sync()?.upsert(&turn))).collect()
        };
        let another = alternate([with(&[1, 2, 4]), with(&[1, 2, 3])])?;
        let more = alternate([with(&[1, 2, 3, 4]), with(&[1, 2, 3])])?;
        let adopt = cells.pop().unwrap_or_default();
        let mut row = vec![count.to_string()];
        row.extend(cells);
        row.extend([&another, &more].into_iter().flat_map(|took| [quantile(took, 50), quantile(took, 99)]));
        row.push(adopt);
        table.row(row);
    }
    println!("{table}");
    Ok(())
}

/// An agent with all of this in force; how long the load took, and the adoption.
fn measured(
    stage: &mut Stage,
    options: &Options,
    all: impl Fn(&Agent) -> Vec<Resource>,
) -> Result<(Agent, Vec<String>)> {
    let (mut loads, mut adoptions) = (Vec::new(), Vec::new());
    loop {
        let mut agent = Agent::start(stage)?;
        let all = all(&agent);
        loads.push(timed(|| agent.sync()?.snapshot(&all))?);
        adoptions.push(timed(|| agent.restart(stage))?);
        if loads.len() == options.repeats {
            // Its stream begins with a snapshot, which changes nothing.
            agent.sync()?.snapshot(&all)?;
            let cells = [&loads, &adoptions].map(|took| number(median(took).as_secs_f64() * 1e3)).into();
            return Ok((agent, cells));
        }
        drop(agent);
        agent::purge(stage)?;
    }
}

fn timed(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}

fn quantiles(took: &[Duration]) -> Quantiles {
    Quantiles::of(took.iter().map(|took| i64::try_from(took.as_nanos()).unwrap_or(i64::MAX)))
}

fn median(took: &[Duration]) -> Duration {
    Duration::from_nanos(quantiles(took).percentile(50).map_or(0, i64::cast_unsigned))
}

/// In microseconds.
fn quantile(took: &[Duration], percent: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let nanoseconds = quantiles(took).percentile(percent).map_or(f64::NAN, |took| took as f64);
    number(nanoseconds / 1e3)
}
