//! steppe-control

use std::{fs, process::ExitCode};

use clap::Parser as _;
use steppe_control::{
    app,
    config::{Config, Flags},
};
use steppe_daemon::{Failure, exit};
use tracing::info;

fn main() -> ExitCode {
    exit(start())
}

fn start() -> Result<(), Failure> {
    let flags = Flags::parse();
    flags.logging.start()?;
    let node = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let config = Config::new(flags, node.trim().into(), |name| std::env::var(name).ok());
    let config = config.map_err(Failure::usage)?;
    info!(?config, "steppe-control {}", env!("CARGO_PKG_VERSION"));
    config.flags.run_dir.prepare()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(app::run(config)).map_err(|error| Failure::Other(error.into()))
}
