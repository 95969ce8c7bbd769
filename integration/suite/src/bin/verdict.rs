//! The end of `make test`: counts the tests of a run, checks the promises and that the machine is as it was.
//! Its last line is `N passed, M failed`; a broken promise counts as a failure.

use std::path::Path;
use std::process::ExitCode;
use steppe_integration::promises::Promises;
use steppe_integration::results::{Ending, Results};

const USAGE: &str = "usage: verdict TEST_LOG PROMISES_TOML MACHINE_BEFORE MACHINE_AFTER";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// The number of failures.
fn run() -> Result<usize, String> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [log, promises, before, after] = <[String; 4]>::try_from(files).map_err(|_| USAGE)?;
    let results = Results::parse(&read(&log)?);
    let promises_text = read(&promises)?;
    let root = Path::new(&promises).parent().and_then(Path::parent).ok_or("promises.toml has no root")?;
    let promises: Promises = toml::from_str(&promises_text).map_err(|e| format!("{promises}: {e}"))?;

    let mut failures = Vec::new();
    failures.extend(results.names(Ending::Failed).map(|name| format!("failed: {name}")));
    failures.extend(results.crashed.iter().map(|program| format!("crashed: {program}")));
    for promise in &promises.promise {
        let broken = promise.broken(&results, root);
        failures.extend(broken.map(|why| format!("promise not shown: \"{}\": {why}", promise.text)));
    }
    let (before, after) = (read(&before)?, read(&after)?);
    failures.extend(changes(&before, &after).map(|line| format!("the machine has changed: {line}")));

    failures.iter().for_each(|failure| println!("{failure}"));
    println!("{} promises", promises.promise.len());
    println!("{} passed, {} failed", results.count(Ending::Passed), failures.len());
    Ok(failures.len())
}

/// The lines that are in one of the two texts alone.
fn changes<'a>(before: &'a str, after: &'a str) -> impl Iterator<Item = String> + 'a {
    let only = |sign, a: &'a str, b: &'a str| {
        a.lines()
            .filter(move |line| !b.lines().any(|other| other == *line))
            .map(move |l| format!("{sign} {l}"))
    };
    only('-', before, after).chain(only('+', after, before))
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))
}
