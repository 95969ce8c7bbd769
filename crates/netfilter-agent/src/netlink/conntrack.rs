//! Deletes connection tracking entries (linux/netfilter/nfnetlink_conntrack.h), so that both ends of a revoked connection see
//! it at once, and that a client whom nobody answered is led elsewhere. The `recheck` chain cuts a revoked connection anyway, at
//! its client's next packet.

use std::{io, net::Ipv4Addr};

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
    /// The client's port.
    pub(crate) client_port: u16,
    /// The port that was dialled.
    pub(crate) server_port: u16,
    /// Where it was led: who answers.
    pub(crate) leads_to: Ipv4Addr,
    /// Whether there was an answer.
    pub(crate) answered: bool,
    /// Whether it was reset. Its entry stays for ten seconds, and the kernel leads a new connection from the same port by it.
    pub(crate) closed: bool,
}

/// Deletes the entries of the translated IPv4 connections for which `matches` holds, and tells how many there were.
///
/// # Errors
/// The kernel's.
pub(crate) fn delete(socket: &mut Socket, mut matches: impl FnMut(&Flow) -> bool) -> io::Result<usize> {
    let mut request = socket.request();
    request.add(GET, DUMP, &fixed(AF_INET), |attrs| {
        attrs.be32(CTA_STATUS, DNAT);
        attrs.be32(CTA_STATUS_MASK, DNAT);
    });
    let flows = socket.ask(&request, |message| read(message).filter(&mut matches))?;
    for flow in &flows {
        let mut request = socket.request();
        request.add(DELETE, ACK, &fixed(AF_INET), |attrs| {
            attrs.nest(CTA_TUPLE_ORIG, |attrs| write(attrs, flow));
        });
        match socket.ask(&request, |_| None::<()>) {
            // It ended by itself meanwhile.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(flows.len())
}

fn read(message: Message<'_>) -> Option<Flow> {
    let attrs = message.attributes(FIXED);
    let tuple = attrs.nested(CTA_TUPLE_ORIG)?;
    let reply = attrs.nested(CTA_TUPLE_REPLY)?.nested(CTA_TUPLE_IP)?;
    let (ip, protocol) = (tuple.nested(CTA_TUPLE_IP)?, tuple.nested(CTA_TUPLE_PROTO)?);
    Some(Flow {
        client: address(ip, CTA_IP_V4_SRC)?,
        server: address(ip, CTA_IP_V4_DST)?,
        protocol: *protocol.get(CTA_PROTO_NUM)?.first()?,
        client_port: port(protocol, CTA_PROTO_SRC_PORT)?,
        server_port: port(protocol, CTA_PROTO_DST_PORT)?,
        leads_to: address(reply, CTA_IP_V4_SRC)?,
        answered: attrs.be32(CTA_STATUS)? & SEEN_REPLY != 0,
        closed: state(attrs) == Some(CLOSED),
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

fn write(attrs: &mut Attrs<'_>, flow: &Flow) {
    attrs.nest(CTA_TUPLE_IP, |attrs| {
        attrs.bytes(CTA_IP_V4_SRC, &flow.client.octets());
        attrs.bytes(CTA_IP_V4_DST, &flow.server.octets());
    });
    attrs.nest(CTA_TUPLE_PROTO, |attrs| {
        attrs.bytes(CTA_PROTO_NUM, &[flow.protocol]);
        attrs.bytes(CTA_PROTO_SRC_PORT, &flow.client_port.to_be_bytes());
        attrs.bytes(CTA_PROTO_DST_PORT, &flow.server_port.to_be_bytes());
    });
}
