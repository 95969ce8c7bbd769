//! Pieces that rules share, each with its words in nft's language.

use std::net::Ipv4Addr;

use super::{Addresses, Comparison, Expression, PacketPart, Register, Rule, Verdict, expression::Known};

pub(super) const R0: Register = Register(0);
pub(super) const R1: Register = Register(1);
pub(super) const R2: Register = Register(2);
pub(super) const R3: Register = Register(3);
pub(super) const R4: Register = Register(4);

/// `IPS_CONFIRMED` (linux/netfilter/nf_conntrack_common.h): past its first packet.
pub(super) const CONFIRMED: u32 = 1 << 3;
/// `IPS_DST_NAT`.
pub(super) const DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_INVALID_BIT`.
pub(super) const INVALID: u32 = 1;
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
pub(super) const ESTABLISHED: u32 = 1 << 1;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`.
pub(super) const RELATED: u32 = 1 << 2;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
pub(super) const NEW: u32 = 1 << 3;
/// `NFPROTO_IPV4`.
pub(super) const IPV4: u8 = 2;
/// `NFPROTO_IPV6`.
pub(super) const IPV6: u8 = 10;
/// `IPPROTO_UDP`.
pub(super) const UDP: u8 = 17;
/// `IPPROTO_ICMPV6`.
pub(super) const ICMPV6: u8 = 58;
/// `IPPROTO_TCP`.
pub(super) const TCP: u8 = 6;
/// `ETH_P_IP`.
pub(super) const ETHERTYPE_IPV4: u16 = 0x0800;
/// `ETH_P_IPV6`.
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;
/// `ETH_P_ARP`.
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;

pub(super) fn rule(words: impl Into<String>, steps: Vec<Expression>) -> Rule {
    Rule { words: words.into(), steps }
}

pub(super) fn end(verdict: Verdict) -> Vec<Expression> {
    vec![Expression::Verdict(verdict)]
}

/// `meta l4proto tcp`
pub(super) fn tcp() -> Vec<Expression> {
    vec![Expression::Known(Known::Transport, R0), Expression::Compare(R0, Comparison::Equal, vec![TCP])]
}

/// `meta l4proto udp`
pub(super) fn udp() -> Vec<Expression> {
    vec![Expression::Known(Known::Transport, R0), Expression::Compare(R0, Comparison::Equal, vec![UDP])]
}

/// `ct protocol tcp`, which holds for the ICMP errors of a TCP connection too.
pub(super) fn originally_tcp() -> Vec<Expression> {
    vec![
        Expression::Known(Known::OriginalProtocol, R0),
        Expression::Compare(R0, Comparison::Equal, vec![TCP]),
    ]
}

/// `meta nfproto ipv4`, which nft leaves out of its listings where an address follows.
pub(super) fn ipv4() -> Vec<Expression> {
    vec![Expression::Known(Known::Network, R0), Expression::Compare(R0, Comparison::Equal, vec![IPV4])]
}

/// `meta nfproto ipv6`, as well.
pub(super) fn ipv6() -> Vec<Expression> {
    vec![Expression::Known(Known::Network, R0), Expression::Compare(R0, Comparison::Equal, vec![IPV6])]
}

/// `ether type …`, as well. Unlike `meta protocol` it is that of a VLAN's tag, where there is one.
pub(super) fn ether_type(number: u16) -> Vec<Expression> {
    let value = number.to_be_bytes().into();
    vec![Expression::Packet(PacketPart::EtherType, R0), Expression::Compare(R0, Comparison::Equal, value)]
}

/// `meta protocol ip`, which nft leaves out as well.
pub(super) fn ipv4_frame() -> Vec<Expression> {
    let ethertype = ETHERTYPE_IPV4.to_be_bytes().into();
    vec![Expression::Known(Known::EtherType, R0), Expression::Compare(R0, Comparison::Equal, ethertype)]
}

/// `ct state new`
pub(super) fn new() -> Vec<Expression> {
    some_bit(Known::State, NEW)
}

/// `tcp flags syn / fin,syn,rst,ack`: the first packet of a connection (RFC 9293 §3.5).
pub(super) fn begins() -> Vec<Expression> {
    const FIN: u8 = 1;
    const SYN: u8 = 1 << 1;
    const RST: u8 = 1 << 2;
    const ACK: u8 = 1 << 4;
    vec![
        Expression::Packet(PacketPart::TcpFlags, R0),
        Expression::Mask(R0, vec![FIN | SYN | RST | ACK]),
        Expression::Compare(R0, Comparison::Equal, vec![SYN]),
    ]
}

/// That one of these bits is set, as nft writes `ct state new` and `ct status dnat`.
pub(super) fn some_bit(known: Known, bits: u32) -> Vec<Expression> {
    vec![
        Expression::Known(known, R0),
        Expression::Mask(R0, bits.to_ne_bytes().into()),
        Expression::Compare(R0, Comparison::Different, 0_u32.to_ne_bytes().into()),
    ]
}

/// `meta iifkind "bridge"`, `meta oifkind "bridge"`
pub(super) fn is_bridge(kind: Known) -> Vec<Expression> {
    vec![Expression::Known(kind, R0), Expression::Compare(R0, Comparison::Equal, padded_text("bridge"))]
}

/// `ip daddr CIDR`
pub(super) fn for_services(addresses: Addresses) -> Vec<Expression> {
    [ipv4(), destination_in(addresses)].concat()
}

pub(super) fn destination_in(addresses: Addresses) -> Vec<Expression> {
    let load = Expression::Packet(PacketPart::DestinationAddress, R0);
    [vec![load], in_services(addresses, Comparison::Equal)].concat()
}

/// `ct original ip daddr CIDR`
pub(super) fn originally_for_services(addresses: Addresses, comparison: Comparison) -> Vec<Expression> {
    let load = Expression::Known(Known::OriginalDestination, R0);
    [vec![load], in_services(addresses, comparison)].concat()
}

pub(super) fn in_services(addresses: Addresses, comparison: Comparison) -> Vec<Expression> {
    vec![
        Expression::Mask(R0, addresses.services.netmask().octets().into()),
        Expression::Compare(R0, comparison, addresses.services.network().octets().into()),
    ]
}

/// `ip daddr LISTENER`
pub(super) fn for_listener(addresses: Addresses) -> Vec<Expression> {
    is_destination(addresses.listener)
}

/// `ip daddr ADDRESS`
pub(super) fn is_destination(address: Ipv4Addr) -> Vec<Expression> {
    vec![
        Expression::Packet(PacketPart::DestinationAddress, R0),
        Expression::Compare(R0, Comparison::Equal, address.octets().into()),
    ]
}

/// `iifname . ip saddr …`
pub(super) fn from_workload(lookup: Expression) -> Vec<Expression> {
    vec![Expression::Known(Known::InputName, R0), Expression::Packet(PacketPart::SourceAddress, R4), lookup]
}

/// Text in 16 bytes, as the kernel has interface names and kinds.
pub(super) fn padded_text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
