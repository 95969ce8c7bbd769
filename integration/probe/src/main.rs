//! `probe`: the one program in the testbed's containers. What it prints on stdout is its interface:
//! one line an event, flushed at once.
#![deny(unsafe_code)]

mod args;
mod client;
mod dial;
mod dns;
mod raw;
mod server;
mod sys;

use args::Args;
use std::process::ExitCode;

const USAGE: &str = "\
usage: probe serve      --port N --name NAME
       probe serve-http --port N --name NAME     answers 503 while the file /fail exists
       probe serve-all  --port N --name NAME [--address IP]
                     TCP and UDP, IPv4 and IPv6; prints who comes
       probe connect ADDR:PORT [--count N | --forever] [--interval-ms M] [--timeout-ms T] [--changes]
                     --changes prints only the attempts on both sides of each change of outcome
       probe hold    ADDR:PORT [--interval-ms M] [--timeout-ms T]
       probe dial    TARGET... [--timeout-ms T] [--from ADDR:PORT]
                     a TARGET is tcp/ADDR:PORT, tcp%DEVICE/ADDR:PORT or udp/ADDR:PORT, ADDR an address or a name,
                     or dns-tcp/ADDR:PORT/NAME or dns-udp/ADDR:PORT/NAME
       probe lookup  NAME                        by the system's resolver
       probe ask     NAME [TYPE] --server ADDR:PORT [--tcp] [--timeout-ms T]
       probe send    HEX... --dev DEVICE [--times N]
                     whole frames
       probe hear    --dev DEVICE                prints whole frames
       probe wait                                does nothing until it is killed";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let result = Args::parse(words).and_then(|args| match command.as_str() {
        "serve" => server::serve(&args, server::lines),
        "serve-http" => server::serve(&args, server::http),
        "serve-all" => server::serve_all(&args),
        "dial" => dial::dial(&args),
        "lookup" => dial::lookup(&args),
        "ask" => dns::ask(&args),
        "send" => raw::send(&args),
        "hear" => raw::hear(&args),
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
