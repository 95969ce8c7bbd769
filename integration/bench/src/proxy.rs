//! `bench proxy` and `bench kernel`: TCP by Steppe's two paths, beside the programs that would otherwise carry it.

use std::{
    net::Ipv4Addr,
    process::{Child, Command},
    time::Duration,
};

use anyhow::Result;
use clap::Args;

use crate::{
    load::{Load, Measured, Mode},
    peers::{Contender, Who},
    rounds,
    stage::{Room, Stage},
    stats::{Ratio, median},
    table::{Table, number},
};

/// Addresses that clients come from.
const SOURCES: u16 = 250;

/// What to measure, and with how many threads.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    rounds: rounds::Options,
    /// Threads of each proxy
    #[arg(long, default_value_t = 1)]
    workers: usize,
}

/// One kind of load.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    name: &'static str,
    mode: Mode,
    connections: usize,
    bytes: u64,
    piece: u32,
}

const SMALL: u64 = 128;
const WHOLE: u32 = u32::MAX;

impl Case {
    const fn new(name: &'static str, mode: Mode, connections: usize, bytes: u64, piece: u32) -> Self {
        Self { name, mode, connections, bytes, piece }
    }

    const ALL: [Self; 12] = [
        Self::new("new connections, 64 at a time", Mode::Connect, 64, SMALL, WHOLE),
        Self::new("1 kept connection", Mode::Kept, 1, SMALL, WHOLE),
        Self::new("64 kept connections", Mode::Kept, 64, SMALL, WHOLE),
        Self::new("1,000 kept connections", Mode::Kept, 1000, SMALL, WHOLE),
        Self::new("answers of 1 KiB, 64 connections", Mode::Kept, 64, 1 << 10, WHOLE),
        Self::new("answers of 16 KiB, 64 connections", Mode::Kept, 64, 16 << 10, WHOLE),
        Self::new("answers of 1 MiB, 64 connections", Mode::Kept, 64, 1 << 20, WHOLE),
        Self::new("answers of 16 KiB in writes of 64 bytes, 16 connections", Mode::Kept, 16, 16 << 10, 64),
        Self::new("bulk, 1 connection", Mode::Bulk, 1, 0, WHOLE),
        Self::new("bulk, 8 connections", Mode::Bulk, 8, 0, WHOLE),
        Self::new("bulk, 200 connections", Mode::Bulk, 200, 0, WHOLE),
        Self::new("9,000 idle connections", Mode::Idle, 9_000, SMALL, WHOLE),
    ];

    fn load(self, targets: Vec<std::net::SocketAddrV4>, sources: &[Ipv4Addr], time: Duration) -> Load {
        let Self { mode, connections, bytes, piece, .. } = self;
        Load { mode, connections, targets, sources: sources.to_vec(), bytes, piece, time }
    }
}

/// What one contender did in one case, round by round.
#[derive(Debug, Default)]
struct Series {
    /// Answers or bytes, a second.
    rate: Vec<f64>,
    /// Nanoseconds of the proxy's processor time for each of them.
    cpu: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// Bytes of memory for each idle connection.
    memory: Vec<f64>,
    failed: u64,
}

/// Which of Steppe's paths is measured, and beside whom.
#[derive(Debug)]
pub struct Path {
    ours: Who,
    all: &'static [Who],
    cases: &'static [Case],
    sources: fn() -> Vec<Ipv4Addr>,
}

/// Through the proxy.
pub const PROXY: Path = Path {
    ours: Who::Steppe,
    all: &[Who::Direct, Who::Nginx, Who::Haproxy, Who::HaproxyForBulk, Who::Envoy, Who::Steppe],
    cases: &Case::ALL,
    sources: || (1..=SOURCES).map(Stage::source).collect(),
};

/// Through the kernel alone, for which the client is a workload: it has its addresses on the bridge.
pub const KERNEL: Path = Path {
    ours: Who::Kernel,
    all: &[Who::Direct, Who::Nginx, Who::Haproxy, Who::Steppe, Who::Kernel],
    cases: &[Case::ALL[0], Case::ALL[1], Case::ALL[2], Case::ALL[9]],
    sources: Stage::own_sources,
};

/// # Errors
/// Without root, or when a peer is not installed.
pub fn run(path: &Path, options: &Options) -> Result<()> {
    let files = tempfile::tempdir()?;
    let cases = options.rounds.choose(path.cases, |case| case.name)?;
    let stage = Stage::raise()?;
    let sources = (path.sources)();
    let _server = Server::start(&stage.server)?;
    println!(
        "{} rounds of {} s, {} worker{} each. A ratio is Steppe's to the peer's in the same round: its geometric\nmean, and the interval of 95%; above 1 Steppe is faster, or needs less.",
        options.rounds.rounds,
        options.rounds.seconds,
        options.workers,
        if options.workers == 1 { "" } else { "s" }
    );
    for case in cases {
        let all = measure(case, path.all, &stage, files.path(), &sources, options)?;
        report(case, path.ours, &all);
    }
    Ok(())
}

fn measure(
    case: Case,
    all: &[Who],
    stage: &Stage,
    files: &std::path::Path,
    sources: &[Ipv4Addr],
    options: &Options,
) -> Result<Vec<(Who, Series)>> {
    let start = |who: Who| who.start(stage, files, options.workers, sources);
    let contenders = all.iter().copied().map(start).collect::<Result<Vec<Contender>>>()?;
    let mut all: Vec<(Who, Series)> = all.iter().map(|&who| (who, Series::default())).collect();
    // Memory that was let go once would be found again.
    let rounds = if case.mode == Mode::Idle { 1 } else { options.rounds.rounds };
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let nth = (round + turn) % contenders.len();
            let load = case.load(contenders[nth].targets.clone(), sources, options.rounds.time());
            once(&contenders[nth], &load, stage, &mut all[nth].1)?;
        }
    }
    Ok(all)
}

/// One measurement of one contender.
fn once(contender: &Contender, load: &Load, stage: &Stage, series: &mut Series) -> Result<()> {
    let cpu = || contender.process.as_ref().map_or(Ok(0), crate::process::Process::cpu_ns);
    let memory = || contender.process.as_ref().map_or(0, crate::process::Process::private_bytes);
    let memory_before = memory();
    let span = load.begin(&stage.client)?;
    let cpu_before = cpu()?;
    let memory_within = memory();
    let found: Measured = span.end()?;
    let cpu_used = cpu()? - cpu_before;
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    {
        let done = if load.mode == Mode::Bulk { found.bytes } else { found.answers } as f64;
        series.rate.push(done / found.seconds);
        series.cpu.push(cpu_used as f64 / done);
        series.memory.push(memory_within.saturating_sub(memory_before) as f64 / load.connections as f64);
    }
    series.p50.push(found.p50);
    series.p99.push(found.p99);
    series.failed += found.failed;
    Ok(())
}

fn report(case: Case, whose: Who, all: &[(Who, Series)]) {
    println!("\n### {}\n", case.name);
    let Some((_, ours)) = all.iter().find(|(who, _)| *who == whose) else { return };
    let mut table = match case.mode {
        Mode::Bulk => Table::new(&["", "Gbit/s", "CPU s/GB", "ratio of the rate", "ratio of the CPU"]),
        Mode::Idle => Table::new(&["", "bytes each", "ratio"]),
        _ => Table::new(&[
            "",
            "a second",
            "CPU µs each",
            "p50 µs",
            "p99 µs",
            "ratio of the rate",
            "ratio of the CPU",
            "ratio of p50",
        ]),
    };
    for (who, series) in all {
        let each = |series: &Series| median(&series.memory);
        let ratio = |mine: &[f64], theirs: &[f64], peer: bool| match Ratio::paired(mine, theirs) {
            Some(ratio) if peer => ratio.to_string(),
            _ => String::new(),
        };
        let compared = *who != whose;
        // What the kernel does for others is nobody's processor time.
        let has_process = !matches!(who, Who::Direct | Who::Kernel);
        let rate = ratio(&ours.rate, &series.rate, compared);
        let cpu = ratio(&series.cpu, &ours.cpu, who.is_peer() && whose == Who::Steppe);
        let failed = if series.failed > 0 { format!(" ({} failed)", series.failed) } else { String::new() };
        let name = format!("{}{failed}", who.name());
        let costs = |unit: f64| {
            if !has_process { "–".into() } else { number(median(&series.cpu) * unit) }
        };
        table.row(match case.mode {
            // 8 bits a byte; a nanosecond a byte is a second a gigabyte.
            Mode::Bulk => vec![name, number(median(&series.rate) * 8e-9), costs(1.0), rate, cpu],
            Mode::Idle if *who == Who::Direct => continue,
            Mode::Idle => vec![name, number(each(series)), number(each(series) / each(ours))],
            _ => {
                let p50 = ratio(&series.p50, &ours.p50, compared);
                let times = [&series.p50, &series.p99].map(|times| number(median(times)));
                let [half, most] = times;
                vec![name, number(median(&series.rate)), costs(1e-3), half, most, rate, cpu, p50]
            }
        });
    }
    print!("{table}");
}

/// The server's process.
struct Server(Child);

impl Server {
    fn start(room: &Room) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve");
        Ok(Self(room.spawn(&mut command)?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It is ours, and holds nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
