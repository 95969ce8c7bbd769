//! `steppe-proxy`: see `steppe-proxy --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;
use steppe_daemon::{Failure, exit};
use steppe_proxy::{app, config::Config};

fn main() -> ExitCode {
    let config = Config::parse();
    config.logging.start();
    exit(run(config))
}

/// One thread for the control side: the connections have workers of their own.
fn run(config: Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config)).map_err(Failure::from)
}
