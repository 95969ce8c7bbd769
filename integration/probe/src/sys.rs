//! The system calls for which the standard library has no words: packet sockets, and a source that the caller picks.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int, c_uint, c_ulong, c_void};
use std::io::{Error, ErrorKind, Result};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

// linux/if_ether.h, bits/socket.h, linux/in.h
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;
const AF_PACKET: u16 = 17;
const SOCK_STREAM: c_int = 1;
const SOCK_RAW: c_int = 3;
const SOCK_CLOEXEC: c_int = 0o2_000_000;
const SOCK_NONBLOCK: c_int = 0o4_000;
const ETH_P_ALL: u16 = 3;
const SOL_SOCKET: c_int = 1;
const SO_REUSEADDR: c_int = 2;
const SO_BINDTODEVICE: c_int = 25;
const POLLOUT: u16 = 4;
/// What connect(2) says of a socket that does not block.
const EINPROGRESS: i32 = 115;

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
    fn connect(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, length: c_uint) -> c_int;
    fn poll(fds: *mut c_void, count: c_ulong, timeout: c_int) -> c_int;
    fn if_nametoindex(name: *const c_char) -> c_uint;
}

/// A socket that sends and receives whole frames on a device. Needs CAP_NET_RAW.
pub(crate) fn packet_socket(device: &str) -> Result<OwnedFd> {
    let index = device_index(device)?;
    let fd = open(AF_PACKET, SOCK_RAW, c_int::from(ETH_P_ALL.to_be()))?;
    // struct sockaddr_ll: family, protocol, index, type of hardware and of packet, length of address, address.
    let mut address = [0; 20];
    address[..2].copy_from_slice(&AF_PACKET.to_ne_bytes());
    address[2..4].copy_from_slice(&ETH_P_ALL.to_be_bytes());
    address[4..8].copy_from_slice(&index.to_ne_bytes());
    bind_to(&fd, &address)?;
    Ok(fd)
}

/// The number of a network device.
pub(crate) fn device_index(device: &str) -> Result<u32> {
    let name = CString::new(device)?;
    // SAFETY: the name ends with a zero and lives as long as the call.
    match unsafe { if_nametoindex(name.as_ptr()) } {
        0 => Err(Error::last_os_error()),
        index => Ok(index),
    }
}

/// Connects from a source address and port, each of which may be the unspecified one, and by a device if one is named.
pub(crate) fn connect_from(
    from: SocketAddr,
    device: Option<&str>,
    to: SocketAddr,
    timeout: Duration,
) -> Result<TcpStream> {
    let family = if to.is_ipv4() { AF_INET } else { AF_INET6 };
    // gVisor knows no time limit for a connect(2) that blocks.
    let fd = open(family, SOCK_STREAM | SOCK_NONBLOCK, 0)?;
    set(&fd, SO_REUSEADDR, &1_i32.to_ne_bytes())?;
    if let Some(device) = device {
        set(&fd, SO_BINDTODEVICE, device.as_bytes())?;
    }
    bind_to(&fd, &encode(from))?;
    let address = encode(to);
    // SAFETY: the address lives as long as the call, and its length is told.
    let result = unsafe { connect(fd.as_raw_fd(), address.as_ptr().cast(), length(&address)) };
    match check(result) {
        Err(error) if error.raw_os_error() == Some(EINPROGRESS) => wait_writable(&fd, timeout)?,
        other => other?,
    }
    let stream = TcpStream::from(fd);
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn wait_writable(fd: &OwnedFd, timeout: Duration) -> Result<()> {
    // struct pollfd: the descriptor, what is awaited, what has come.
    let awaited = [POLLOUT.to_ne_bytes(), [0; 2]].concat();
    let mut entry = [&fd.as_raw_fd().to_ne_bytes()[..], &awaited].concat();
    let millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: the one entry lives as long as the call.
    let ready = unsafe { poll(entry.as_mut_ptr().cast(), 1, millis) };
    check(ready)?;
    if ready == 0 { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
}

fn open(family: u16, kind: c_int, protocol: c_int) -> Result<OwnedFd> {
    // SAFETY: no pointer is handed over.
    let fd = unsafe { socket(c_int::from(family), kind | SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: it has just been opened, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind_to(fd: &OwnedFd, address: &[u8]) -> Result<()> {
    // SAFETY: the address lives as long as the call, and its length is told.
    check(unsafe { bind(fd.as_raw_fd(), address.as_ptr().cast(), length(address)) })
}

fn set(fd: &OwnedFd, name: c_int, value: &[u8]) -> Result<()> {
    // SAFETY: the value lives as long as the call, and its length is told.
    check(unsafe { setsockopt(fd.as_raw_fd(), SOL_SOCKET, name, value.as_ptr().cast(), length(value)) })
}

/// struct sockaddr_in or sockaddr_in6.
fn encode(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => [&AF_INET.to_ne_bytes()[..], &port, &v4.ip().octets(), &[0; 8]].concat(),
        SocketAddr::V6(v6) => {
            let scope = v6.scope_id().to_ne_bytes();
            [&AF_INET6.to_ne_bytes()[..], &port, &[0; 4], &v6.ip().octets(), &scope].concat()
        }
    }
}

fn length(bytes: &[u8]) -> c_uint {
    c_uint::try_from(bytes.len()).unwrap_or(0)
}

fn check(result: c_int) -> Result<()> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(()) }
}
