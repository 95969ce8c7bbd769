//! `bench control`: what a change costs control, and how soon it is in force, with so many services known; a real Consul and a
//! real Docker on one host of the testbed.

mod catalogue;
mod changes;

use std::time::Duration;

use anyhow::{Result, ensure};
use catalogue::Catalogue;
use changes::{Change, Changes};
use clap::Args;
use steppe_integration::{
    orders::{Stage, since},
    quantiles::Quantiles,
};
use steppe_testbed::{Cluster, Daemon, Host, Run, eventually};

use crate::{
    process,
    table::{Table, number},
};

/// How many services, and how fast they change.
#[derive(Debug, Args)]
pub struct Options {
    /// Services that workloads of the host ask for, a row each
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    services: Vec<usize>,
    /// Endpoints of each
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Changes a second
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// For so many seconds
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// Containers that start, with a label, while all this is known
    #[arg(long, default_value_t = 30)]
    starts: usize,
}

/// Services that one container asks for: its label is a list of them. It may have 256 grants.
const A_CONTAINER: usize = 250;
/// For everything to be known.
const PATIENCE: Duration = Duration::from_secs(120);
/// Connections to Consul's agent beyond those for services.
const OTHERS: usize = 200;

/// What was found with so many services.
struct Row {
    services: usize,
    /// Of one core, while nothing changes, and while it does.
    idle: f64,
    busy: f64,
    answered: Quantiles,
    in_force: Quantiles,
    starts: Quantiles,
    /// Bytes of each process.
    memory: Vec<(String, u64)>,
}

/// # Errors
/// Without root, or when a part of the testbed is missing.
pub fn run(options: &Options) -> Result<()> {
    ensure!(options.rate > 0 && options.seconds > 0 && options.starts > 0, "rates and times of 1 and more");
    let rows: Vec<Row> = options.services.iter().map(|services| measure(*services, options)).collect();
    println!(
        "{} changes a second for {} s, of the port of one of a service's {} endpoints; then {} containers start with a\nlabel. Milliseconds; in force is when the kernel tells that it has the element (`nft monitor`).\n",
        options.rate, options.seconds, options.endpoints, options.starts
    );
    let mut table = Table::new(&[
        "services asked for",
        "control, % of a core",
        "idle",
        "µs a change",
        "Consul's answer → in force, p50",
        "p99",
        "container up → in force, p50",
        "p99",
    ]);
    for row in &rows {
        let quantile = |times: &Quantiles, percent| number(milliseconds(times.percentile(percent)));
        let a_change = (row.busy - row.idle) * 1e6 / f64::from(options.rate);
        table.row(vec![
            row.services.to_string(),
            number(row.busy * 100.0),
            number(row.idle * 100.0),
            number(a_change),
            quantile(&row.in_force, 50),
            quantile(&row.in_force, 99),
            quantile(&row.starts, 50),
            quantile(&row.starts, 99),
        ]);
    }
    println!("{table}");
    let mut columns = vec!["MiB of memory of its own"];
    let Some(first) = rows.first() else { return Ok(()) };
    columns.extend(first.memory.iter().map(|(name, _)| name.as_str()));
    columns.push("together");
    let mut table = Table::new(&columns);
    for row in &rows {
        let mut cells = vec![format!("{} services", row.services)];
        let sum = row.memory.iter().map(|(_, bytes)| bytes).sum::<u64>();
        cells.extend(row.memory.iter().map(|(_, bytes)| *bytes).chain([sum]).map(mebibytes));
        table.row(cells);
    }
    println!("{table}");
    for row in &rows {
        println!(
            "{} services: Consul took {} ms (p50), {} ms (p99) from a change to its answer; this is not counted.",
            row.services,
            number(milliseconds(row.answered.percentile(50))),
            number(milliseconds(row.answered.percentile(99))),
        );
    }
    Ok(())
}

fn measure(services: usize, options: &Options) -> Row {
    eprintln!("{services} services …");
    let cluster = Cluster::hosts(1).start();
    let host = cluster.one();
    // One connection for each service; Consul's own limit is 200 for one address.
    let connections = services + OTHERS;
    host.consul.daemon.arg(format!("-hcl=limits{{http_max_conns_per_client={}}}", 2 * connections));
    host.consul.daemon.restart();
    cluster.wait_consul();
    host.suite.control.arg(format!("--consul-connections={connections}"));
    // A port for each service, and for one of the stage's own; and no more descriptors than one for each.
    host.suite.control.arg("--listener-ports=8000-19999");
    host.suite.proxy.arg("--workers=1");
    let catalogue = Catalogue::fill(&cluster.consul_server, services, options.endpoints);
    let stage = Stage::raise(host);
    // Before there is much: it lists everything first, and begins anew whenever that changes.
    let rules = host.watch_rules();
    eprintln!("  they are registered …");
    ask_for_all(host, services);
    eventually(PATIENCE, "every port of a service is in force", || {
        let listed = host.sh("nft -t list map inet steppe services >/dev/null; nft list map inet steppe services | grep -o ' : ' | wc -l").ok();
        let count: usize = listed.trim().parse().map_err(|_| listed.clone())?;
        if count >= services { Ok(()) } else { Err(format!("{count}")) }
    });
    eprintln!("  and in force: they change …");
    let control = &host.suite.control;
    let memory = host.suite.all().map(|daemon| (daemon.name().to_owned(), memory(daemon))).into();
    let idle = share(control, || std::thread::sleep(Duration::from_secs(2)));
    let mut felt = Vec::new();
    let busy = share(control, || {
        felt = Changes {
            host,
            rules: &rules,
            catalogue: &catalogue,
            rate: options.rate,
            seconds: options.seconds,
        }
        .run();
    });
    let starts = (0..options.starts).map(|nth| {
        let started = stage.start(&format!("starts-{nth}"));
        stage.remove(&started.container);
        since(started.up_ns, started.in_force_ns)
    });
    Row {
        services,
        idle,
        busy,
        starts: Quantiles::of(starts),
        answered: Quantiles::of(felt.iter().map(Change::answered)),
        in_force: Quantiles::of(felt.iter().map(Change::in_force)),
        memory,
    }
}

/// Containers whose labels name every service.
fn ask_for_all(host: &Host, services: usize) {
    let names: Vec<String> = (0..services).map(|nth| format!("{}:80", catalogue::name(nth))).collect();
    for (nth, names) in names.chunks(A_CONTAINER).enumerate() {
        host.docker.run(Run::idle(&format!("asks-{nth}")).label("steppe.connect_to", &names.join(",")));
    }
}

/// The part of one core that a process uses while something is done.
fn share(daemon: &Daemon, work: impl FnOnce()) -> f64 {
    let pid = daemon.pid().expect("it runs");
    let (began, before) = (std::time::Instant::now(), process::cpu_ns_of(pid));
    work();
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let used = (process::cpu_ns_of(pid) - before) as f64;
    used / 1e9 / began.elapsed().as_secs_f64()
}

fn memory(daemon: &Daemon) -> u64 {
    process::private_bytes_of(daemon.pid().expect("it runs"))
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn milliseconds(nanoseconds: Option<i64>) -> f64 {
    nanoseconds.map_or(f64::NAN, |nanoseconds| nanoseconds as f64 / 1e6)
}

#[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
fn mebibytes(bytes: u64) -> String {
    number(bytes as f64 / f64::from(1 << 20))
}
