//! The servers: a line echo that tells its name first, HTTP with a state that can be set, and one for every protocol.

use crate::args::Args;
use crate::client::say;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use steppe_probe::now_ns;

/// While this file exists in the container, `serve-http` answers 503.
const FAIL: &str = "/fail";

/// Accepts on `--port`, a thread a connection, until killed.
pub(crate) fn serve(args: &Args, answer: fn(TcpStream, &str) -> std::io::Result<()>) -> Result<(), String> {
    let (port, name) = (port(args)?, args.text("name")?.to_owned());
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

/// Listens on `--port` of `--address`, or else of all, IPv6 ones too where the kernel has them, for TCP and UDP. Prints `NS tcp FROM` and `NS udp FROM TEXT`;
/// answers each datagram with the name.
pub(crate) fn serve_all(args: &Args) -> Result<(), String> {
    let (port, name) = (port(args)?, args.text("name")?.to_owned());
    let failed = |e: std::io::Error| format!("port {port}: {e}");
    let at: Vec<SocketAddr> = if args.has("address") {
        let ip: IpAddr = args.text("address")?.parse().map_err(|_| "--address: an address is expected")?;
        vec![(ip, port).into()]
    } else {
        vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
    };
    let datagrams = UdpSocket::bind(&at[..]).map_err(failed)?;
    let listener = TcpListener::bind(&at[..]).map_err(failed)?;
    println!("listening {}", listener.local_addr().map_err(failed)?);
    let answer = name.clone();
    std::thread::spawn(move || answer_datagrams(&datagrams, &answer));
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        if let Ok(from) = stream.peer_addr() {
            say(&format!("{} tcp {}", now_ns(), canonical(from)))?;
        }
        std::thread::spawn(move || lines(stream, &name).ok());
    }
    Ok(())
}

/// Never ends: what a datagram that was sent before makes the socket say is not this one's business.
fn answer_datagrams(socket: &UdpSocket, name: &str) {
    let mut buffer = [0; 512];
    loop {
        if let Ok((n, from)) = socket.recv_from(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..n]);
            say(&format!("{} udp {} {}", now_ns(), canonical(from), text.trim_end())).ok();
            socket.send_to(name.as_bytes(), from).ok();
        }
    }
}

/// An IPv4 address as itself, also where an IPv6 socket saw it.
fn canonical(from: SocketAddr) -> SocketAddr {
    (from.ip().to_canonical(), from.port()).into()
}

fn port(args: &Args) -> Result<u16, String> {
    let port = args.number("port", 0)?;
    u16::try_from(port).map_err(|_| format!("--port {port}: 65535 is the largest"))
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
