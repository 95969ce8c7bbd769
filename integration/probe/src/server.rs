//! The servers: a line echo that tells its name first, and HTTP with a state that can be set.

use crate::args::Args;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;

/// While this file exists in the container, `serve-http` answers 503.
const FAIL: &str = "/fail";

/// Accepts on `--port`, a thread a connection, until killed.
pub(crate) fn serve(args: &Args, answer: fn(TcpStream, &str) -> std::io::Result<()>) -> Result<(), String> {
    let port = args.number("port", 0)?;
    let port = u16::try_from(port).map_err(|_| format!("--port {port}: 65535 is the largest"))?;
    let name = args.text("name")?.to_owned();
    let listener =
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|e| format!("port {port}: {e}"))?;
    let at = listener.local_addr().map_err(|e| e.to_string())?;
    println!("listening {at}");
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        // The peer's resets are the test's business, not ours.
        std::thread::spawn(move || answer(stream, &name).ok());
    }
    Ok(())
}

/// `NAME`, then an echo of each line, then `bye` once the peer has shut down its side.
pub(crate) fn lines(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(format!("{name}\n").as_bytes())?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        stream.write_all(&line)?;
        line.clear();
    }
    stream.write_all(b"bye\n")
}

/// HTTP/1.0, one request a connection: 200 and the name, or 503 while [`FAIL`] exists.
pub(crate) fn http(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.trim_end() != "" {
        line.clear();
    }
    let status = if Path::new(FAIL).exists() { "503 Service Unavailable" } else { "200 OK" };
    let length = name.len() + 1;
    let head = format!("HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{name}\n").as_bytes())
}
