//! The clients: one attempt after another, and one connection that is held.

use crate::args::Args;
use std::io::{Read, Write};
use std::mem::discriminant;
use std::net::TcpStream;
use std::time::{Duration, Instant};
use steppe_probe::{Attempt, Outcome, greet, now_ns};

/// Default time-out of one attempt: above a SYN's first retransmission at 1 s, below its second at 3 s.
pub(crate) const TIMEOUT_MS: u64 = 2_000;

/// Prints `START_NS END_NS OUTCOME` for each attempt; with `--changes` for those alone whose kind of outcome is not
/// that of the attempt before or after, so that a tight loop costs no more than its connects.
pub(crate) fn connect(args: &Args) -> Result<(), String> {
    let to = args.address()?;
    let count = if args.has("forever") { u64::MAX } else { args.number("count", 1)? };
    let interval = args.millis("interval-ms", 0)?;
    let timeout = args.millis("timeout-ms", TIMEOUT_MS)?;
    let changes = args.has("changes");
    let mut kind = None;
    let mut held_back: Option<Attempt> = None;
    for nth in 0..count {
        if nth > 0 {
            pause(interval);
        }
        let attempt = Attempt::make(to, timeout);
        let before = kind.replace(discriminant(&attempt.outcome));
        if changes && before == kind {
            held_back = Some(attempt);
            continue;
        }
        if let Some(before) = held_back.take() {
            say(&before.to_string())?;
        }
        say(&attempt.to_string())?;
    }
    Ok(())
}

/// Prints `NS open NAME`, or `NS failed OUTCOME`; then keeps talking, and prints `NS closed OUTCOME` when
/// the connection is cut. An echo that is missing for `--timeout-ms` is the outcome `timeout`.
pub(crate) fn hold(args: &Args) -> Result<(), String> {
    let interval = args.millis("interval-ms", 50)?;
    let timeout = args.millis("timeout-ms", TIMEOUT_MS)?;
    let (stream, name) = match greet(args.address()?, timeout) {
        Ok(connected) => connected,
        Err(e) => return say(&format!("{} failed {}", now_ns(), Outcome::of(&e))),
    };
    say(&format!("{} open {name}", now_ns()))?;
    let end = talk(stream, interval, timeout).map_or_else(|e| Outcome::of(&e), |()| Outcome::Eof);
    say(&format!("{} closed {end}", now_ns()))
}

/// Sends a line every `interval`, reads in between, and returns once the peer closes or falls silent.
fn talk(mut stream: TcpStream, interval: Duration, silence: Duration) -> std::io::Result<()> {
    stream.set_read_timeout(Some(interval))?;
    let mut heard = Instant::now();
    let mut buffer = [0; 512];
    loop {
        stream.write_all(b"tick\n")?;
        let next = Instant::now() + interval;
        while Instant::now() < next {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => heard = Instant::now(),
                Err(e) if Outcome::of(&e) == Outcome::Timeout && heard.elapsed() < silence => {}
                Err(e) => return Err(e),
            }
        }
    }
}

fn pause(interval: Duration) {
    let until = Instant::now() + interval;
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        std::thread::park_timeout(left);
    }
}

/// Prints a line, and so that it is seen at once.
pub(crate) fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|e| format!("stdout: {e}"))
}
