//! Deletes connection tracking entries (linux/netfilter/nfnetlink_conntrack.h), so that both ends of a revoked connection see
//! it at once, and that a client whom nobody answered is led elsewhere. The `recheck` chain cuts a revoked connection anyway, at
//! its client's next packet.

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
};

use super::{
    ACK, DUMP, Message, Socket,
    attr::{Attributes, Attrs},
    nftables::{FIXED, fixed},
};

/// `NFNL_SUBSYS_CTNETLINK << 8`, and its messages.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const AF_INET: u8 = 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_ID: u16 = 12;
const CTA_STATUS_MASK: u16 = 26;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
/// `IPS_DST_NAT`: ours are all translated. A kernel that can't filter by it (before 5.15) lists the others too.
const DNAT: u32 = 1 << 5;
/// `IPS_SEEN_REPLY`.
const SEEN_REPLY: u32 = 1 << 1;
/// `TCP_CONNTRACK_CLOSE` (linux/netfilter/nf_conntrack_tcp.h): it was reset.
const CLOSED: u8 = 8;

/// A connection as its client began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Who began it.
    pub(crate) client: Ipv4Addr,
    /// What was dialled.
    pub(crate) server: Ipv4Addr,
    /// The IP protocol number.
    pub(crate) protocol: u8,
    /// The port that was dialled.
    pub(crate) server_port: u16,
    /// The packets that come back: their source is where it was led.
    pub(crate) reply: Tuple,
    /// Whether there was an answer.
    pub(crate) answered: bool,
    /// Whether it was reset. Its entry stays for ten seconds, and the kernel leads a new connection from the same port by it.
    pub(crate) closed: bool,
    /// The entry's. The kernel makes it from the entry's place in memory and from what the client sent, so that a later entry may have
    /// it again.
    id: u32,
}

/// The packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tuple {
    /// Where they come from.
    pub(crate) source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Tuple {
    /// Where they come from, with the port.
    pub(crate) fn from(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.source, self.source_port)
    }
}

/// The entries of the translated IPv4 connections for which `matches` holds.
///
/// # Errors
/// The kernel's.
pub(crate) fn list(socket: &mut Socket, mut matches: impl FnMut(&Flow) -> bool) -> io::Result<Vec<Flow>> {
    let mut request = socket.request();
    request.add(GET, DUMP, &fixed(AF_INET), |attrs| {
        attrs.be32(CTA_STATUS, DNAT);
        attrs.be32(CTA_STATUS_MASK, DNAT);
    });
    socket.ask(&request, |message| read(message).filter(&mut matches))
}

/// Deletes the entry, and tells whether it was still there.
///
/// It may have ended since it was listed, and its client begun anew from the same port: what is told to the kernel is therefore not what
/// the client sends, which is the same, but what comes back, which is not where the new connection is led elsewhere.
///
/// # Errors
/// The kernel's.
pub(crate) fn delete(socket: &mut Socket, flow: &Flow) -> io::Result<bool> {
    let mut request = socket.request();
    request.add(DELETE, ACK, &fixed(AF_INET), |attrs| {
        attrs.nest(CTA_TUPLE_REPLY, |attrs| write(attrs, &flow.reply));
        attrs.be32(CTA_ID, flow.id);
    });
    match socket.ask(&request, |_| None::<()>) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        result => result.map(|_| true),
    }
}

fn read(message: Message<'_>) -> Option<Flow> {
    let attrs = message.attributes(FIXED);
    let original = tuple(attrs.nested(CTA_TUPLE_ORIG)?)?;
    Some(Flow {
        client: original.source,
        server: original.destination,
        protocol: original.protocol,
        server_port: original.destination_port,
        reply: tuple(attrs.nested(CTA_TUPLE_REPLY)?)?,
        answered: attrs.be32(CTA_STATUS)? & SEEN_REPLY != 0,
        closed: state(attrs) == Some(CLOSED),
        id: attrs.be32(CTA_ID)?,
    })
}

fn tuple(attrs: Attributes<'_>) -> Option<Tuple> {
    let (ip, protocol) = (attrs.nested(CTA_TUPLE_IP)?, attrs.nested(CTA_TUPLE_PROTO)?);
    Some(Tuple {
        source: address(ip, CTA_IP_V4_SRC)?,
        destination: address(ip, CTA_IP_V4_DST)?,
        protocol: *protocol.get(CTA_PROTO_NUM)?.first()?,
        source_port: port(protocol, CTA_PROTO_SRC_PORT)?,
        destination_port: port(protocol, CTA_PROTO_DST_PORT)?,
    })
}

fn state(attrs: Attributes<'_>) -> Option<u8> {
    let tcp = attrs.nested(CTA_PROTOINFO)?.nested(CTA_PROTOINFO_TCP)?;
    tcp.get(CTA_PROTOINFO_TCP_STATE)?.first().copied()
}

fn address(attrs: Attributes<'_>, kind: u16) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = attrs.get(kind)?.try_into().ok()?;
    Some(octets.into())
}

fn port(attrs: Attributes<'_>, kind: u16) -> Option<u16> {
    attrs.get(kind)?.try_into().ok().map(u16::from_be_bytes)
}

fn write(attrs: &mut Attrs<'_>, tuple: &Tuple) {
    attrs.nest(CTA_TUPLE_IP, |attrs| {
        attrs.bytes(CTA_IP_V4_SRC, &tuple.source.octets());
        attrs.bytes(CTA_IP_V4_DST, &tuple.destination.octets());
    });
    attrs.nest(CTA_TUPLE_PROTO, |attrs| {
        attrs.bytes(CTA_PROTO_NUM, &[tuple.protocol]);
        attrs.bytes(CTA_PROTO_SRC_PORT, &tuple.source_port.to_be_bytes());
        attrs.bytes(CTA_PROTO_DST_PORT, &tuple.destination_port.to_be_bytes());
    });
}
