//! Frames as a container with CAP_NET_RAW may send them, and whoever hears them.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    sys::{
        socket::{
            AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::TimeVal,
    },
};

use crate::net::{DEADLINE, Namespace};

pub type Mac = [u8; 6];

pub const BROADCAST: Mac = [0xff; 6];
pub const IPV4: u16 = 0x0800;
pub const ARP: u16 = 0x0806;
pub const IPV6: u16 = 0x86dd;

pub fn mac(text: &str) -> Mac {
    let bytes: Vec<u8> = text.split(':').map(|part| u8::from_str_radix(part, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

/// A packet socket at one interface of a namespace.
pub struct Wire(OwnedFd);

impl Wire {
    pub fn new(net: &Namespace, interface: &str) -> Self {
        net.run(|| {
            let fd =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                    .unwrap();
            bind(fd.as_raw_fd(), &link(interface)).unwrap();
            setsockopt(&fd, ReceiveTimeout, &TimeVal::new(DEADLINE.as_secs() as i64, 0)).unwrap();
            Self(fd)
        })
    }

    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), frame, MsgFlags::empty()), Ok(frame.len()));
    }

    /// Hears until there is a frame with this in it; gives which of the others there were before.
    pub fn hear(&self, last: &str, others: &[String]) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 2_048];
        loop {
            let length = match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                received => received.unwrap_or_else(|error| panic!("`{last}` was not heard: {error}")),
            };
            let frame = &buffer[..length];
            let has = |cookie: &str| frame.windows(cookie.len()).any(|part| part == cookie.as_bytes());
            if has(last) {
                return heard;
            }
            heard.extend(others.iter().filter(|other| has(other)).cloned());
        }
    }
}

fn link(interface: &str) -> LinkAddr {
    let mut addresses = getifaddrs().unwrap().filter(|found| found.interface_name == interface);
    addresses.find_map(|found| found.address?.as_link_addr().copied()).unwrap()
}

pub fn ethernet(from: Mac, to: Mac, kind: u16, rest: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), rest].concat()
}

/// A UDP datagram in a packet, from and to port 9, without a checksum.
pub fn udp(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: &str) -> Vec<u8> {
    let length = (8 + text.len()) as u16;
    let header = [9, port, length, 0].map(u16::to_be_bytes).concat();
    ipv4(from, to, 17, &[&header, text.as_bytes()].concat())
}

pub fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, rest: &[u8]) -> Vec<u8> {
    let length = ((20 + rest.len()) as u16).to_be_bytes();
    let mut header = vec![0x45, 0, length[0], length[1], 0, 0, 0, 0, 1, protocol, 0, 0];
    header.extend(from.octets());
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    [&header, rest].concat()
}

/// A request (1) or a reply (2), with some text behind it, as padding.
pub fn arp(operation: u8, (mac, ip): (Mac, Ipv4Addr), wanted: Ipv4Addr, text: &str) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &mac, &ip.octets(), &[0; 6], &wanted.octets(), text.as_bytes()].concat()
}

/// A packet for all nodes.
pub fn ipv6(next: u8, rest: &[u8]) -> Vec<u8> {
    ipv6_to("ff02::1", next, rest)
}

/// A packet from an address of the link's.
pub fn ipv6_to(to: &str, next: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    let head = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    let from = "fe80::42".parse::<std::net::Ipv6Addr>().unwrap().octets();
    let to = to.parse::<std::net::Ipv6Addr>().unwrap().octets();
    [&head[..], &from, &to, rest].concat()
}
