//! `probe`: the one program in the testbed's containers. What it prints on stdout is its interface:
//! one line an event, flushed at once.
#![forbid(unsafe_code)]

mod args;
mod client;
mod server;

use args::Args;
use std::process::ExitCode;

const USAGE: &str = "\
usage: probe serve      --port N --name NAME
       probe serve-http --port N --name NAME     answers 503 while the file /fail exists
       probe connect ADDR:PORT [--count N | --forever] [--interval-ms M] [--timeout-ms T] [--changes]
                     --changes prints only the attempts on both sides of each change of outcome
       probe hold    ADDR:PORT [--interval-ms M] [--timeout-ms T]
       probe wait                                does nothing until it is killed";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let result = Args::parse(words).and_then(|args| match command.as_str() {
        "serve" => server::serve(&args, server::lines),
        "serve-http" => server::serve(&args, server::http),
        "connect" => client::connect(&args),
        "hold" => client::hold(&args),
        "wait" => loop {
            std::thread::park();
        },
        _ => Err(USAGE.to_owned()),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}
