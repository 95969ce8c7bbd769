//! Sockets, made as the data plane needs them.

use std::{
    net::SocketAddrV4,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, connect, getsockname, listen, socket_with, sockopt},
};

/// Idle time after which a peer is asked whether it still lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered questions after which it is given up: a vanished host is noticed after 75 s.
const KEEPALIVE_PROBES: u32 = 4;
/// Connections that may wait to be accepted; the kernel takes no more than `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;

/// What may wait at a UDP listener.
const RECEIVE_BYTES: usize = 1 << 20;

const NON_BLOCKING: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// One listening socket a worker, all on one address: the kernel spreads connections over them by hash, so that long ones
/// don't pile up on one worker, as they do where several wait for one socket (EPOLLEXCLUSIVE wakes the same one first).
///
/// The address need not be on this host yet (`IP_FREEBIND`, ip(7)).
///
/// # Errors
/// The system's; EADDRINUSE if anybody else listens there.
pub(crate) fn listen_sockets(address: SocketAddrV4, workers: usize) -> Result<Vec<OwnedFd>, Errno> {
    let sockets = (0..workers).map(|i| listening(address, i == 0)).collect::<Result<Vec<_>, _>>()?;
    for socket in &sockets {
        listen(socket, BACKLOG)?;
    }
    Ok(sockets)
}

fn listening(address: SocketAddrV4, first: bool) -> Result<OwnedFd, Errno> {
    let socket = stream_socket()?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ip_freebind(&socket, true)?;
    // What is set here, the sockets of accepted connections inherit.
    set_stream_options(&socket)?;
    keep_alive(&socket)?;
    bind_shared(&socket, address, first)?;
    Ok(socket)
}

/// The same for UDP: the kernel spreads by hash of both addresses, so that a client's datagrams all come to one worker.
///
/// # Errors
/// The system's; EADDRINUSE if anybody else has the address.
pub(crate) fn datagram_sockets(address: SocketAddrV4, workers: usize) -> Result<Vec<OwnedFd>, Errno> {
    (0..workers).map(|i| hearing(address, i == 0)).collect()
}

fn hearing(address: SocketAddrV4, first: bool) -> Result<OwnedFd, Errno> {
    let socket = datagram_socket()?;
    sockopt::set_ip_freebind(&socket, true)?;
    // As much as the kernel lets everybody have (`net.core.rmem_max`): what comes while the worker is busy waits here.
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BYTES)?;
    bind_shared(&socket, address, first)?;
    Ok(socket)
}

/// A socket that sends to one address alone, hears from it alone, and is told when it can't be reached.
///
/// # Errors
/// The system's.
pub(crate) fn datagrams_towards(address: SocketAddrV4) -> Result<OwnedFd, Errno> {
    let socket = datagram_socket()?;
    connect(&socket, &address)?;
    Ok(socket)
}

fn datagram_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, NON_BLOCKING, None)
}

/// Binds one of the sockets that share an address. The first is bound before it is willing to share: so it takes the address only if
/// nobody has it, whereas sharing sockets of two processes of one uid would silently split what comes.
fn bind_shared(socket: &OwnedFd, address: SocketAddrV4, first: bool) -> Result<(), Errno> {
    if first {
        bind(socket, &address)?;
        sockopt::set_socket_reuseport(socket, true)
    } else {
        sockopt::set_socket_reuseport(socket, true)?;
        bind(socket, &address)
    }
}

/// Begins to connect. `true` if that is done already, else the socket becomes writable when it is.
///
/// # Errors
/// The system's.
pub(crate) fn start_connect(address: SocketAddrV4) -> Result<(OwnedFd, bool), Errno> {
    let socket = stream_socket()?;
    set_stream_options(&socket)?;
    match connect(&socket, &address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS) => Ok((socket, false)),
        Err(errno) => Err(errno),
    }
}

fn stream_socket() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::INET, SocketType::STREAM, NON_BLOCKING, None)
}

/// TCP_USER_TIMEOUT is left alone: it would also end a connection whose reader just pauses (tcp(7): "due to zero window
/// size"), which without a proxy goes on.
fn set_stream_options(socket: &OwnedFd) -> Result<(), Errno> {
    // What comes in is passed on at once, as it came.
    sockopt::set_tcp_nodelay(socket, true)?;
    // An urgent byte is passed on as an ordinary one instead of being lost.
    sockopt::set_socket_oobinline(socket, true)
}

/// Has the peer asked from time to time whether it still lives.
///
/// # Errors
/// The system's.
pub(crate) fn keep_alive(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)
}

/// Flags for accept4(2).
pub(crate) const ACCEPT_FLAGS: SocketFlags = NON_BLOCKING;

/// Closes a connection so that the peer sees a reset (socket(7), SO_LINGER with 0 s): a truncated stream must not look
/// like a complete one.
pub(crate) fn reset(socket: OwnedFd) {
    // On a socket that is broken already this fails, and closing is all that is left.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
}

/// The address that the client dialled, before a rule turned it to the listener (SO_ORIGINAL_DST,
/// linux/netfilter_ipv4.h); the listener's own if no rule did.
///
/// # Errors
/// When the connection is gone.
pub(crate) fn dialled_address(socket: impl AsFd) -> Result<SocketAddrV4, Errno> {
    // ENOENT: conntrack does not know the connection; ENOPROTOOPT: the kernel has no conntrack.
    sockopt::ip_original_dst(&socket).or_else(|_| getsockname(&socket)?.try_into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn local_address(socket: &OwnedFd) -> SocketAddrV4 {
        getsockname(socket).unwrap().try_into().unwrap()
    }

    #[test]
    fn an_address_is_shared_among_workers_and_with_nobody_else() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = free.local_addr().unwrap() else { unreachable!() };
        assert_eq!(listen_sockets(address, 2).unwrap_err(), Errno::ADDRINUSE);
        drop(free);
        let sockets = listen_sockets(address, 3).unwrap();
        assert!(sockets.iter().all(|socket| local_address(socket) == address));
        assert_eq!(listen_sockets(address, 3).unwrap_err(), Errno::ADDRINUSE);
        drop(sockets);
        listen_sockets(address, 3).unwrap();
    }

    #[test]
    fn so_is_one_for_datagrams() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(address) = free.local_addr().unwrap() else { unreachable!() };
        assert_eq!(datagram_sockets(address, 2).unwrap_err(), Errno::ADDRINUSE);
        drop(free);
        let sockets = datagram_sockets(address, 3).unwrap();
        assert_eq!(datagram_sockets(address, 1).unwrap_err(), Errno::ADDRINUSE);
        drop(sockets);
        datagram_sockets(address, 1).unwrap();
    }

    #[test]
    fn an_address_need_not_be_here_yet() {
        // TEST-NET-3 (RFC 5737) is on no host.
        let elsewhere = "203.0.113.77:17001".parse().unwrap();
        listen_sockets(elsewhere, 2).unwrap();
        datagram_sockets(elsewhere, 2).unwrap();
    }
}
