//! What a packet costs: new connections and kept requests through the rules, with few grants and with many, in turn.

use std::{fs::File, net::SocketAddrV4, process::Command, time::Duration};

use anyhow::Result;

use super::{
    agent::{self, Agent},
    others,
};
use crate::{
    load::{Load, Mode, PORT},
    process::Process,
    stage::{CLIENT, Stage},
    stats::{Ratio, median},
    table::{Table, number},
};

/// Services that are dialled: a client has 64,000 ports for each, and this is less than it takes.
const DIALLED: u32 = 10;
const MANY: u32 = 100_000;
const SMALL: u64 = 128;

/// One set of rules, on a stage of its own.
struct Contender {
    name: String,
    stage: Stage,
    _agent: Option<Agent>,
    _server: Process,
}

/// # Errors
/// Without root.
pub fn run(rounds: usize, seconds: f64) -> Result<()> {
    let files = tempfile::tempdir()?;
    let contenders = [
        with_grants(files.path(), DIALLED)?,
        with_grants(files.path(), MANY)?,
        with_rules(files.path(), DIALLED)?,
        with_rules(files.path(), others::RULES)?,
    ];
    println!("Packets: {rounds} rounds of {seconds} s; a ratio is to {}.\n", contenders[0].name);
    for (what, mode, connections) in [
        ("new connections a second, 64 at a time", Mode::Connect, 64),
        ("requests a second, 64 connections", Mode::Kept, 64),
    ] {
        let mut rates = vec![Vec::new(); contenders.len()];
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                let nth = (round + turn) % contenders.len();
                rates[nth].push(rate(&contenders[nth].stage, mode, connections, seconds)?);
            }
        }
        let mut table = Table::new(&[what, "median", "ratio"]);
        for (contender, mine) in contenders.iter().zip(&rates) {
            let ratio = Ratio::paired(mine, &rates[0]).map(|ratio| ratio.to_string()).unwrap_or_default();
            table.row(vec![contender.name.clone(), number(median(mine)), ratio]);
        }
        println!("{table}");
    }
    Ok(())
}

fn rate(stage: &Stage, mode: Mode, connections: usize, seconds: f64) -> Result<f64> {
    let load = Load {
        mode,
        connections,
        targets: (0..DIALLED).map(|nth| SocketAddrV4::new(agent::vip(nth), PORT)).collect(),
        sources: vec![CLIENT],
        bytes: SMALL,
        piece: u32::MAX,
        time: Duration::from_secs_f64(seconds),
    };
    let found = load.begin(&stage.client)?.end()?;
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let answers = found.answers as f64;
    Ok(answers / found.seconds)
}

fn serve(stage: &Stage, files: &std::path::Path) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve");
    let mut server =
        Process::start(&stage.server, "the server", &mut command, File::create(files.join("server"))?)?;
    server.listening(&stage.server, SocketAddrV4::new(Stage::backend(1, 1), PORT))?;
    Ok(server)
}

fn with_grants(files: &std::path::Path, grants: u32) -> Result<Contender> {
    let stage = Stage::raise()?;
    let server = serve(&stage, files)?;
    let mut agent = Agent::start(&stage)?;
    let services = (0..DIALLED).flat_map(|nth| agent::service(agent::vip(nth), &[1, 2, 3]));
    let grants_of = (0..grants).map(|nth| agent::grant(agent::vip(nth)));
    let all: Vec<_> = std::iter::once(agent.workload()).chain(services).chain(grants_of).collect();
    agent.sync()?.snapshot(&all)?;
    Ok(Contender { name: format!("{grants} grants"), stage, _agent: Some(agent), _server: server })
}

fn with_rules(files: &std::path::Path, rules: u32) -> Result<Contender> {
    let stage = Stage::raise()?;
    let server = serve(&stage, files)?;
    let text = files.join("rules");
    std::fs::write(&text, others::linear(rules))?;
    stage.host.sh(&format!("iptables-restore --noflush {}", text.display()))?;
    Ok(Contender { name: format!("{rules} rules of iptables"), stage, _agent: None, _server: server })
}
