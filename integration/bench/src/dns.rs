//! `bench dns`: names by who asks, beside the name servers that a host would otherwise run.

mod load;
mod message;
mod peers;
mod tcp;
mod upstream;

use std::path::Path;

use anyhow::Result;
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::{
    rounds,
    stage::Stage,
    stats::{Ratio, median},
    table::{Table, number},
};
use load::{Load, Measured};
use message::{Names, Questions};
use peers::{Contender, Who};
use upstream::Upstream;

/// The processor of what is measured; the client has the first.
const SERVERS_CPU: usize = 1;
/// Questions that are open at a time, as dnsperf has it.
const WINDOW: usize = 100;
/// Questions a second where that is given: about a sixth of what the best can.
const PACE: f64 = 50_000.0;

/// One kind of load.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    questions: Questions,
    names: Names,
    /// Questions a second; as many as are answered if there is none.
    pace: Option<f64>,
    who: &'static [Who],
}

/// A host with a thousand workloads, each of which may reach ten of a thousand services.
const MANY: Names = Names { askers: 1_000, each: 10, all: 1_000 };
/// Those that know the rest of the world as well.
const RESOLVERS: &[Who] = &[Who::Unbound, Who::Dnsmasq, Who::Steppe];

impl Case {
    const fn new(name: &'static str, questions: Questions) -> Self {
        Self { name, questions, names: MANY, pace: None, who: RESOLVERS }
    }

    const ALL: [Self; 9] = [
        Self { who: &Who::ALL, ..Self::new("1,000 names, 1,000 askers", Questions::Address) },
        Self { pace: Some(PACE), ..Self::new("the same, 50,000 questions a second", Questions::Address) },
        Self::new("a name that has no AAAA", Questions::NoData),
        Self::new("no such name", Questions::NoName),
        Self::new("names of the world, kept", Questions::World),
        Self { who: &[Who::Unbound, Who::Steppe], ..Self::new("TCP, 16 connections", Questions::Tcp) },
        Self {
            names: Names { askers: 10, each: 10, all: 10 },
            who: &[Who::Steppe],
            ..Self::new("10 names, 10 askers", Questions::Address)
        },
        Self { who: &[Who::Steppe], ..Self::new("again 1,000 names, 1,000 askers", Questions::Address) },
        Self {
            names: Names { askers: 10_000, each: 10, all: 100_000 },
            who: &[Who::Steppe],
            ..Self::new("100,000 names, 10,000 askers", Questions::Address)
        },
    ];
}

/// What one contender did in one case, round by round.
#[derive(Debug, Default)]
struct Series {
    /// Answers a second.
    rate: Vec<f64>,
    /// Nanoseconds of the server's processor time for each of them.
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Bytes of memory in the end.
    memory: u64,
    lost: u64,
}

/// # Errors
/// Without root, or when a peer is not installed.
pub fn run(options: &rounds::Options) -> Result<()> {
    let files = tempfile::tempdir()?;
    let cases = options.choose(&Case::ALL, |case| case.name)?;
    let stage = Stage::raise()?;
    let upstream = Upstream::start(&stage.server)?;
    println!(
        "{} rounds of {} s; server and client have a processor each. A ratio is the peer's CPU time to Steppe's,\nor Steppe's rate to the peer's, in the same round: its geometric mean, and the interval of 95%; above 1\nSteppe needs less, or is faster.",
        options.rounds, options.seconds,
    );
    for case in cases {
        let all = measure(case, &stage, &upstream, files.path(), options)?;
        report(case, &all);
    }
    Ok(())
}

fn measure(
    case: Case,
    stage: &Stage,
    upstream: &Upstream,
    files: &Path,
    options: &rounds::Options,
) -> Result<Vec<(Who, Series)>> {
    let start = |&who: &Who| who.start(stage, files, case.names, upstream.address());
    let contenders = case.who.iter().map(start).collect::<Result<Vec<Contender>>>()?;
    let load = Load {
        questions: case.questions.of(case.names),
        window: WINDOW,
        pace: case.pace,
        time: options.time(),
    };
    let ask = |contender: &Contender, load: &Load| {
        stage.client.enter(|| {
            pin_client()?;
            if case.questions == Questions::Tcp {
                tcp::ask(contender.address, load)
            } else {
                load.ask(contender.address)
            }
        })
    };
    let mut all: Vec<(Who, Series)> =
        contenders.iter().map(|contender| (contender.who, Series::default())).collect();
    for contender in &contenders {
        // What is kept is kept then.
        ask(contender, &load)?;
    }
    for round in 0..options.rounds {
        for turn in 0..contenders.len() {
            let nth = (round + turn) % contenders.len();
            let process = &contenders[nth].process;
            let series = &mut all[nth].1;
            let before = process.cpu_ns()?;
            let found: Measured = ask(&contenders[nth], &load)?;
            let used = process.cpu_ns()? - before;
            #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
            {
                series.rate.push(found.answered as f64 / found.seconds);
                series.cpu.push(used as f64 / found.answered as f64);
            }
            series.p50.push(found.p50);
            series.p99.push(found.p99);
            series.memory = process.private_bytes();
            series.lost += found.lost;
        }
    }
    Ok(all)
}

fn pin_client() -> Result<()> {
    let mut set = CpuSet::new();
    set.set(0);
    sched_setaffinity(None, &set)?;
    Ok(())
}

fn report(case: Case, all: &[(Who, Series)]) {
    println!("\n### {}\n", case.name);
    let Some((_, ours)) = all.iter().find(|(who, _)| *who == Who::Steppe) else { return };
    let mut table = Table::new(&[
        "",
        "a second",
        "CPU µs each",
        "p50 µs",
        "p99 µs",
        "MiB",
        "ratio of the rate",
        "ratio of the CPU",
        "Steppe's CPU is",
    ]);
    for (who, series) in all {
        let lost = if series.lost > 0 { format!(" ({} lost)", series.lost) } else { String::new() };
        #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
        let memory = series.memory as f64 / f64::from(1 << 20);
        let mut row = vec![
            format!("{}{lost}", who.name()),
            number(median(&series.rate)),
            number(median(&series.cpu) * 1e-3),
            number(median(&series.p50)),
            number(median(&series.p99)),
            number(memory),
        ];
        if *who != Who::Steppe {
            let rate = Ratio::paired(&ours.rate, &series.rate).filter(|_| case.pace.is_none());
            row.push(rate.map_or_else(String::new, |ratio| ratio.to_string()));
            let cpu = Ratio::paired(&series.cpu, &ours.cpu);
            row.push(cpu.map_or_else(String::new, |ratio| ratio.to_string()));
            row.push(cpu.map_or_else(String::new, |ratio| format!("{} ×", number(1.0 / ratio.mean))));
        }
        table.row(row);
    }
    print!("{table}");
}
