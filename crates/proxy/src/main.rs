//! `steppe-proxy`: see `steppe-proxy --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use steppe_daemon::{Failure, exit};
use steppe_proxy::{app, config::Config};

fn main() -> ExitCode {
    exit(run(Config::parse()))
}

/// One thread for the control side: the connections have workers of their own.
fn run(config: Config) -> Result<(), Failure> {
    config.logging.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config)).map_err(Failure::from)
}
