//! Whole frames, sent and heard: for showing what a container may not send. Both need CAP_NET_RAW.

use crate::args::Args;
use crate::sys::packet_socket;
use std::fs::File;
use std::io::{Read, Write};
use steppe_probe::{frame, now_ns};

/// The longest frame, with what virtual devices leave joined.
const LONGEST: usize = 65_600;

/// Sends frames, each given in hex digits, from `--dev`, all of them `--times` over, and prints how many.
pub(crate) fn send(args: &Args) -> Result<(), String> {
    let device = args.text("dev")?;
    let mut socket = open(device)?;
    let frames: Vec<_> = args.words().iter().map(|word| frame::parse_hex(word)).collect::<Result<_, _>>()?;
    let times = args.number("times", 1)?;
    for _ in 0..times {
        for frame in &frames {
            socket.write_all(frame).map_err(|e| format!("{device}: {e}"))?;
        }
    }
    println!("sent {}", frames.len() as u64 * times);
    Ok(())
}

/// Prints `listening`, then `NS HEX` for each frame on `--dev`, until killed.
pub(crate) fn hear(args: &Args) -> Result<(), String> {
    let device = args.text("dev")?;
    let mut socket = open(device)?;
    println!("listening {device}");
    let mut buffer = vec![0; LONGEST];
    loop {
        let n = socket.read(&mut buffer).map_err(|e| format!("{device}: {e}"))?;
        println!("{} {}", now_ns(), frame::hex(&buffer[..n]));
    }
}

fn open(device: &str) -> Result<File, String> {
    packet_socket(device).map(File::from).map_err(|e| format!("{device}: {e}"))
}
