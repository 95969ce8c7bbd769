//! Sockets, made as dns needs them.

use std::{
    io,
    net::{SocketAddrV4, TcpListener},
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with,
        sockopt::{self, Ipv4PathMtuDiscovery},
    },
};
use tracing::debug;

const NON_BLOCKING: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;
/// Room for questions that have arrived: thousands, where the system lets us (`net.core.rmem_max`).
const QUEUE: usize = 4 << 20;

/// "Don't fragment", whatever is known of the path (ip(7)).
const WHOLE: Ipv4PathMtuDiscovery = Ipv4PathMtuDiscovery::PROBE;

/// Whether somebody else has the port.
///
/// # Errors
/// Any other reason for which it can't be had.
pub(crate) fn probe(address: SocketAddrV4) -> io::Result<bool> {
    match bound(SocketType::DGRAM, address, false) {
        // Shared with nobody, so that no packet of another's comes to this socket; it is closed at once.
        Ok(_) => Ok(false),
        Err(Errno::ADDRINUSE) => Ok(true),
        Err(errno) => Err(errno.into()),
    }
}

/// A socket for questions.
pub(super) fn datagram(address: SocketAddrV4, shared: bool) -> io::Result<OwnedFd> {
    let socket = bound(SocketType::DGRAM, address, shared)?;
    // Answers fit into nearly every path (`UDP_LIMIT`) and may say so (RFC 9715 §3.1): then they need no number by which fragments
    // are put together, and it costs as much as a lookup to draw one.
    sockopt::set_ip_mtu_discover(&socket, WHOLE)?;
    // The kernel gives what it may.
    sockopt::set_socket_recv_buffer_size(&socket, QUEUE)?;
    Ok(socket)
}

/// An answer is longer than what an interface of this host takes at a time: from now on they may come in fragments. Says whether that is
/// new.
pub(super) fn in_fragments(socket: &OwnedFd) -> bool {
    sockopt::ip_mtu_discover(socket) == Ok(WHOLE)
        && sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::WANT).is_ok()
}

/// A socket for connections.
pub(super) fn listening(address: SocketAddrV4, shared: bool) -> io::Result<TcpListener> {
    let socket = bound(SocketType::STREAM, address, shared)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// The address need not be on this host yet (`IP_FREEBIND`, ip(7)).
fn bound(kind: SocketType, address: SocketAddrV4, shared: bool) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET, kind, NON_BLOCKING, None)?;
    sockopt::set_ip_freebind(&socket, true)?;
    if kind == SocketType::STREAM {
        // Connections of the one before us may still be in TIME_WAIT.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

/// Takes a socket out of the choice for new packets while what is in its queue stays to be read: one that is connected hears its peer
/// alone, and among sockets that share a port the kernel passes it by (`reuseport_select_sock`). Closing it would
/// drop its queue. Its peer is itself, which never sends.
pub(super) fn turn_away(socket: &OwnedFd) {
    let connected = rustix::net::getsockname(socket).and_then(|own| connect(socket, &own));
    if let Err(error) = connected {
        // No route to our own address: the address is gone from this host, and nobody can ask.
        debug!(%error, "new questions can't be turned away");
    }
}
