//! `steppe-netfilter-agent`: which workload reaches which virtual IP, in nftables.

#![deny(unsafe_code)]

mod app;
mod config;
mod docker_user;
mod error;
mod firewall;
mod flows;
mod grpc;
mod host;
mod kernel;
mod links;
mod netlink;
mod ruleset;
mod state;

use std::process::ExitCode;

use clap::Parser as _;
use steppe_daemon::exit;

use crate::config::Config;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let config = Config::parse();
    exit(match config.logging.start() {
        Ok(()) => app::run(config).await,
        failed => failed,
    })
}
