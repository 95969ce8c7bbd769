//! `steppe`: what control and the agents of this host are doing, in tables and in words.

#![forbid(unsafe_code)]

mod app;
mod args;
mod dns;
mod doctor;
mod explain;
mod network;
mod output;
mod ready;
mod services;
mod status;
mod table;
mod uninstall;
mod workloads;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match app::run(&args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("steppe: {error:#}");
            ExitCode::from(args.command.failure_code())
        }
    }
}
