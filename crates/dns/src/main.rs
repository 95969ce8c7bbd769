//! `steppe-dns`: see `steppe-dns --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use steppe_daemon::{Failure, exit};
use steppe_dns::{app, config::Config};

fn main() -> ExitCode {
    exit(run(Config::parse()))
}

/// One thread beside the one that answers over UDP.
fn run(config: Config) -> Result<(), Failure> {
    config.check()?;
    config.logging.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config)).map_err(Failure::from)
}
