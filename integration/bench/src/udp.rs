//! `bench udp`: datagrams through the proxy, beside nginx stream and no proxy at all.

mod load;
mod peers;

use std::{net::Ipv4Addr, path::Path};

use anyhow::{Result, ensure};

use crate::{
    rounds::Options,
    stage::Stage,
    stats::{Ratio, median},
    table::{Table, number},
};
use load::{Echoes, Load};
use peers::{Contender, Who};

/// Addresses that clients come from.
const SOURCES: u16 = 250;

/// One kind of load: so many questions of so many bytes are open at a time, each from a port that is kept, or is new.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    clients: usize,
    bytes: usize,
    new: bool,
}

impl Case {
    const ALL: [Self; 4] = [
        Self { name: "64 clients, 64 bytes", clients: 64, bytes: 64, new: false },
        Self { name: "1 client, 64 bytes", clients: 1, bytes: 64, new: false },
        Self { name: "64 clients, 1,400 bytes", clients: 64, bytes: 1_400, new: false },
        Self { name: "new flows, 64 at a time", clients: 64, bytes: 64, new: true },
    ];
}

/// What one contender did in one case, round by round.
#[derive(Debug, Default)]
struct Series {
    /// Answers a second.
    rate: Vec<f64>,
    /// Nanoseconds of the proxy's processor time for each of them.
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    lost: u64,
}

/// # Errors
/// Without root, or when a peer is not installed.
pub fn run(options: &Options) -> Result<()> {
    let files = tempfile::tempdir()?;
    let cases = options.choose(&Case::ALL, |case| case.name)?;
    let stage = Stage::raise()?;
    let sources: Vec<Ipv4Addr> = (1..=SOURCES).map(Stage::source).collect();
    let _echoes = Echoes::start(&stage.server, Who::ALL.into_iter().flat_map(Who::backends))?;
    println!(
        "{} rounds of {} s, 1 worker each. A ratio is Steppe's rate to the other's, or the peer's CPU time to Steppe's,\nin the same round: its geometric mean, and the interval of 95%; above 1 Steppe is faster, or needs less.",
        options.rounds, options.seconds
    );
    for case in cases {
        report(case, &measure(case, &stage, files.path(), &sources, options)?);
    }
    Ok(())
}

fn measure(
    case: Case,
    stage: &Stage,
    files: &Path,
    sources: &[Ipv4Addr],
    options: &Options,
) -> Result<Vec<(Who, Series)>> {
    let start = |who: Who| who.start(stage, files, sources, case.new);
    let contenders = Who::ALL.into_iter().map(start).collect::<Result<Vec<Contender>>>()?;
    let mut all: Vec<(Who, Series)> = Who::ALL.map(|who| (who, Series::default())).into();
    let time = options.time();
    for round in 0..options.rounds {
        for turn in 0..contenders.len() {
            let nth = (round + turn) % contenders.len();
            let contender = &contenders[nth];
            let load = Load {
                targets: contender.targets.clone(),
                sources: sources.to_vec(),
                clients: case.clients,
                bytes: case.bytes,
                new: case.new,
                time,
            };
            let cpu = || contender.process.as_ref().map_or(Ok(0), crate::process::Process::cpu_ns);
            let before = cpu()?;
            let mut found = stage.client.enter(|| load.run())?;
            let used = cpu()? - before;
            ensure!(!found.micros.is_empty(), "{:?} answered nothing", all[nth].0);
            found.micros.sort_unstable_by(f64::total_cmp);
            let series = &mut all[nth].1;
            #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
            {
                let answers = found.micros.len() as f64;
                series.rate.push(answers / found.seconds);
                series.cpu.push(used as f64 / answers);
            }
            series.p50.push(found.micros[found.micros.len() / 2]);
            series.p99.push(found.micros[found.micros.len() * 99 / 100]);
            series.lost += found.lost;
        }
    }
    Ok(all)
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
        "lost",
        "ratio of the rate",
        "ratio of the CPU",
    ]);
    let ratio = |mine: &[f64], theirs: &[f64], is_shown: bool| match Ratio::paired(mine, theirs) {
        Some(ratio) if is_shown => ratio.to_string(),
        _ => String::new(),
    };
    for (who, series) in all {
        let cpu = if *who == Who::Direct { "–".into() } else { number(median(&series.cpu) * 1e-3) };
        table.row(vec![
            who.name().to_owned(),
            number(median(&series.rate)),
            cpu,
            number(median(&series.p50)),
            number(median(&series.p99)),
            series.lost.to_string(),
            ratio(&ours.rate, &series.rate, *who != Who::Steppe),
            ratio(&series.cpu, &ours.cpu, *who == Who::Nginx),
        ]);
    }
    print!("{table}");
}
