//! `make demo`: raises two hosts and shows what Steppe does on them, step by step. Each step runs real commands,
//! prints what they print, and checks it. `KEEP=1` leaves the hosts up.
//!
//! Exit codes: 0 every step was as promised, 1 one was not (its name is the last line), 130 interrupted.
#![forbid(unsafe_code)]

mod attempts;
mod interrupt;
mod opening;
mod props;
mod stage;
mod story;

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use interrupt::Interrupt;
use stage::{Stage, Stop};
use steppe_testbed::{Cluster, programs};

const INTRODUCTION: &str = "\
Steppe: service networking for Nomad and plain Docker hosts, shown on two hosts.

The hosts are namespaces on this machine, each with a Docker daemon, a Consul agent and Steppe of its own. This
machine's own network, Docker and firewall are not touched. Each step says what it shows, runs the commands after
`a$` (on host a) and `b$` (on host b), prints what they print, and checks it.";

fn main() -> ExitCode {
    let interrupt = Interrupt::watch();
    let mut stage = Stage::new(interrupt.clone());
    let start = Instant::now();
    // A panic's message is a step's failure, and is told as such.
    std::panic::set_hook(Box::new(|_| {}));
    let mut cluster = None;
    let ending = guarded(|| {
        stage.line(INTRODUCTION)?;
        stage.step("Two hosts come up, with a Consul server between them.")?;
        let cluster = cluster.insert(Cluster::hosts(2).start());
        story::tell(&mut stage, cluster)
    });
    // Ctrl-C in a terminal reaches the hosts' processes too, and what then fails is no news.
    let ending = if interrupt.came() { Err(Stop::Interrupted) } else { ending };

    let steps = stage.steps();
    let seconds = start.elapsed().as_secs_f32();
    // From here on, output that nobody hears must not keep the hosts up.
    let mut out = std::io::stdout();
    writeln!(out).ok();
    if let Some(cluster) = cluster {
        if let (Err(Stop::Failed(_)), Some(file)) = (&ending, dump(&cluster)) {
            writeln!(out, "Rules, addresses and logs of the hosts: {}", file.display()).ok();
        }
        let keep = std::env::var_os("KEEP").is_some_and(|value| value == "1");
        let heard = !matches!(ending, Err(Stop::Interrupted | Stop::Unheard));
        writeln!(out, "{}", part(cluster, keep && heard)).ok();
    }
    let (code, last) = match ending {
        Ok(()) => (0, stage.good(&format!("All {steps} steps went as promised, in {seconds:.0} s."))),
        Err(Stop::Failed(why)) => {
            (1, stage.bad(&format!("FAILED in step {steps} ({}): {why}", stage.title())))
        }
        Err(Stop::Interrupted) => (interrupt::EXIT_CODE, "Interrupted.".to_owned()),
        Err(Stop::Unheard) => (1, "Nobody listens.".to_owned()),
    };
    writeln!(out, "{last}").ok();
    ExitCode::from(code)
}

/// Leaves the hosts up or removes them, and says so.
fn part(cluster: Cluster, keep: bool) -> String {
    // Leaks were a step's concern; dropping the cluster would panic about them.
    cluster.allow_leaks();
    if keep {
        let (how, path) = (cluster.keep(), programs());
        return format!("{how}then, in a host:  export PATH={path}:$PATH; steppe explain api web:80\n");
    }
    drop(cluster);
    "The hosts are gone again. KEEP=1 leaves them up, to look around.".to_owned()
}

/// The testbed panics when it can't do what it says; here that is a failure like others.
fn guarded(work: impl FnOnce() -> Result<(), Stop>) -> Result<(), Stop> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Stop::Failed(text.unwrap_or_else(|| "a panic without words".to_owned())))
    })
}

/// Writes down, for who wants to know why a step failed, what the hosts look like.
fn dump(cluster: &Cluster) -> Option<PathBuf> {
    let file = std::env::current_exe().ok()?.with_file_name("demo-failure.txt");
    let text = catch_unwind(AssertUnwindSafe(|| cluster.iter().map(|host| host.dump()).collect::<String>()));
    std::fs::write(&file, text.ok()?).ok()?;
    Some(file)
}
