//! Many targets at once, TCP and UDP, by address or by name: what one place reaches.

use crate::args::Args;
use crate::client::{TIMEOUT_MS, say};
use crate::dns;
use crate::sys::{connect_from, device_index};
use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};
use steppe_probe::{Outcome, greet, read_name};

/// A datagram that was lost on its way is sent again after this.
const AGAIN: Duration = Duration::from_millis(300);

/// Prints `TARGET OUTCOME` for each target as soon as it is known. A target is `tcp/ADDR:PORT`, `udp/ADDR:PORT`, or the
/// same with a name for ADDR, or `dns-tcp/ADDR:PORT/NAME` or `dns-udp/ADDR:PORT/NAME`, which asks for a name. `tcp%DEVICE/ADDR:PORT` goes
/// by that device whatever the routes say. `--from ADDR:PORT` is the source, of which either may be the unspecified one.
pub(crate) fn dial(args: &Args) -> std::result::Result<(), String> {
    let timeout = args.millis("timeout-ms", TIMEOUT_MS)?;
    let from = args.has("from").then(|| args.text("from")).transpose()?;
    let from = from.map(|text| text.parse().map_err(|_| "--from: ADDR:PORT is expected")).transpose()?;
    std::thread::scope(|scope| {
        let running: Vec<_> = args
            .words()
            .iter()
            .map(|target| {
                scope.spawn(move || {
                    let outcome = one(target, from, timeout)?;
                    say(&format!("{target} {outcome}"))
                })
            })
            .collect();
        running
            .into_iter()
            .try_for_each(|thread| thread.join().unwrap_or_else(|_| Err("a thread died".into())))
    })
}

fn one(target: &str, from: Option<SocketAddr>, timeout: Duration) -> std::result::Result<Outcome, String> {
    let words: Vec<_> = target.split('/').collect();
    let (protocol, address) = (words[0], words.get(1).copied().unwrap_or_default());
    let Some(to) = resolve(address) else {
        return Ok(Outcome::NoName);
    };
    let asked = words.get(2).copied().unwrap_or_default();
    let (protocol, device) = protocol.split_once('%').map_or((protocol, None), |(p, d)| (p, Some(d)));
    let result = match protocol {
        "tcp" => tcp(to, from, device, timeout),
        "udp" => udp(to, from, timeout),
        "dns-tcp" | "dns-udp" => dns::address(to, protocol == "dns-tcp", from, asked, timeout),
        _ => return Err(format!("`{target}`: tcp/…, udp/…, dns-tcp/… or dns-udp/…?")),
    };
    Ok(result.map_or_else(|e| Outcome::of(&e), Outcome::Ok))
}

/// The address and port that a text means; `[fe80::1%eth0]:80` with the name of a device as well.
fn resolve(text: &str) -> Option<SocketAddr> {
    let Some((ip, rest)) = text.split_once('%') else {
        return text.to_socket_addrs().ok()?.next();
    };
    let (device, port) = rest.split_once(']')?;
    format!("{ip}%{}]{port}", device_index(device).ok()?).parse().ok()
}

fn tcp(to: SocketAddr, from: Option<SocketAddr>, device: Option<&str>, timeout: Duration) -> Result<String> {
    if from.is_none() && device.is_none() {
        return greet(to, timeout).map(|(_, name)| name);
    }
    let began = Instant::now();
    let stream = connect_from(from.unwrap_or(any(to)), device, to, timeout)?;
    read_name(stream, timeout.saturating_sub(began.elapsed())).map(|(_, name)| name)
}

/// Whatever source the kernel chooses for it.
pub(crate) fn any(to: SocketAddr) -> SocketAddr {
    if to.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

/// Sends a datagram, again and again, until the server answers with its name or an ICMP error comes.
fn udp(to: SocketAddr, from: Option<SocketAddr>, timeout: Duration) -> Result<String> {
    let socket = UdpSocket::bind(from.unwrap_or(any(to)))?;
    // Connected, so that ICMP errors are told.
    socket.connect(to)?;
    let until = Instant::now() + timeout;
    let mut buffer = [0; 512];
    loop {
        socket.send(b"who\n")?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::from(ErrorKind::TimedOut));
        }
        socket.set_read_timeout(Some(left.min(AGAIN)))?;
        match socket.recv(&mut buffer) {
            Ok(n) => return Ok(String::from_utf8_lossy(&buffer[..n]).trim_end().to_owned()),
            Err(e) if Outcome::of(&e) == Outcome::Timeout => {}
            Err(e) => return Err(e),
        }
    }
}

/// Prints what the system's resolver says to a name: an address a line, or `noname` and why.
pub(crate) fn lookup(args: &Args) -> std::result::Result<(), String> {
    let name = args.word()?;
    match (name, 0).to_socket_addrs() {
        Ok(found) => found.map(|address| address.ip().to_string()).try_for_each(|line| say(&line)),
        Err(e) => say(&format!("noname {e}")),
    }
}
