//! The door `spoofing`, in the bridge table, where a frame's port and hardware address can be seen. It remembers nothing of
//! connections: each frame is looked at.

use super::{
    Chain, ChainKind, Comparison, Expression, Hook, PacketPart, Rule, SetName,
    chains::{bridge, hook, priority},
    expression::Known,
    phrases::{Part, Phrase, accept, count, drop_it, goto, is_in, is_not_in, jump, phrase, sentence, unsaid},
    steps::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ICMPV6, R0, ether_type},
};

/// The name of its counter.
pub(crate) const COUNTER: &str = "spoofing";

const SPOOFED: &str = "spoofed";
const OWN_IPV6: &str = "own_ipv6";
const SPOOFING: &str = "spoofing";

/// `iifname . ether saddr . ip saddr @bindings accept`. What is tagged for a VLAN is no IPv4 by its Ethernet header.
pub(super) fn bound() -> Rule {
    sentence([
        unsaid(ether_type(ETHERTYPE_IPV4)),
        is_in(&[Part::InputName, Part::SourceMac, Part::SourceIp], SetName::Bindings),
        accept(),
    ])
}

/// `arp htype 1 arp ptype ip arp hlen 6 arp plen 4`: of hardware addresses and IPv4 addresses (RFC 826), so that the sender's
/// are where they are looked for.
fn arp() -> Phrase {
    let steps = vec![
        Expression::Packet(PacketPart::ArpFormat, R0),
        Expression::Compare(R0, Comparison::Equal, vec![0, 1, 8, 0, 6, 4]),
    ];
    phrase("arp htype 1 arp ptype ip arp hlen 6 arp plen 4", [ether_type(ETHERTYPE_ARP), steps].concat())
}

/// `arp saddr ip 0.0.0.0`: a probe, whether somebody has an address (RFC 5227 §2.1.1).
fn probe() -> Phrase {
    let steps = vec![
        Expression::Packet(PacketPart::ArpSenderIp, R0),
        Expression::Compare(R0, Comparison::Equal, vec![0; 4]),
    ];
    phrase("arp saddr ip 0.0.0.0", steps)
}

/// `ip6 daddr ff02::/16`: to several on the link (RFC 4291 §2.7).
fn to_the_link() -> Phrase {
    let steps = vec![
        Expression::Packet(PacketPart::DestinationAddress6, R0),
        Expression::Mask(R0, [&[0xff; 2][..], &[0; 14]].concat()),
        Expression::Compare(R0, Comparison::Equal, [&[0xff, 2][..], &[0; 14]].concat()),
    ];
    phrase("ip6 daddr ff02::/16", [ether_type(ETHERTYPE_IPV6), steps].concat())
}

/// `icmpv6 type …`
fn message(name: &str, number: u8) -> Phrase {
    let steps = vec![
        Expression::Known(Known::Transport, R0),
        Expression::Compare(R0, Comparison::Equal, vec![ICMPV6]),
        Expression::Packet(PacketPart::Icmpv6Type, R0),
        Expression::Compare(R0, Comparison::Equal, vec![number]),
    ];
    phrase(format!("icmpv6 type {name}"), [ether_type(ETHERTYPE_IPV6), steps].concat())
}

/// Those chains that others go to first.
pub(super) fn chains() -> Vec<Chain> {
    let spoofed = || goto(SPOOFED);
    // It counts by container.
    let guarded = || is_in(&[Part::InputName], SetName::Guarded);
    vec![
        bridge(
            SPOOFED,
            None,
            vec![
                sentence([count(COUNTER)]),
                sentence([is_in(&[Part::LinkType], SetName::SpoofingShut), drop_it()]),
            ],
        ),
        // Every stack that has IPv6 asks and reports by itself, which is no lie. An answer that nobody asked for may be one
        // (RFC 4861 §4.2, §4.4).
        bridge(
            OWN_IPV6,
            None,
            vec![
                sentence([message("nd-router-advert", 134), guarded(), spoofed()]),
                sentence([message("nd-neighbor-advert", 136), guarded(), spoofed()]),
                sentence([is_in(&[Part::LinkType], SetName::SpoofingShut), drop_it()]),
            ],
        ),
        bridge(
            SPOOFING,
            None,
            vec![
                bound(),
                // By its own hardware address, in the frame's header too, and its own address.
                sentence([
                    arp(),
                    is_in(&[Part::InputName, Part::SourceMac, Part::ArpSenderIp], SetName::Bindings),
                    is_in(&[Part::InputName, Part::ArpSenderMac, Part::ArpSenderIp], SetName::Bindings),
                    accept(),
                ]),
                sentence([
                    arp(),
                    probe(),
                    is_in(&[Part::InputName, Part::SourceMac], SetName::Hardware),
                    is_in(&[Part::InputName, Part::ArpSenderMac], SetName::Hardware),
                    accept(),
                ]),
                // By a guarded workload's own hardware address.
                sentence([
                    is_in(&[Part::InputName, Part::SourceMac], SetName::Hardware),
                    to_the_link(),
                    goto(OWN_IPV6),
                ]),
                // Whatever else a guarded workload sends.
                sentence([guarded(), spoofed()]),
                // By an address of a network, whoever it is.
                sentence([
                    unsaid(ether_type(ETHERTYPE_IPV4)),
                    is_in(&[Part::SourceIp], SetName::Subnets),
                    spoofed(),
                ]),
                sentence([
                    unsaid(ether_type(ETHERTYPE_ARP)),
                    is_in(&[Part::ArpSenderIp], SetName::Subnets),
                    spoofed(),
                ]),
            ],
        ),
    ]
}

/// What is forwarded from one port to another. Who is no known workload is not heard behind a network's ports, and hears
/// nothing.
pub(super) fn forward() -> Chain {
    bridge(
        "forward",
        hook(ChainKind::Filter, Hook::Forward, priority::BRIDGE_FORWARD),
        vec![
            sentence([
                is_in(&[Part::LinkType], SetName::SpoofingDoor),
                is_in(&[Part::OutputName], SetName::Members),
                is_not_in(&[Part::InputName], SetName::Members),
                goto(SPOOFED),
            ]),
            // Nobody's fault: what is said to all is said to it too.
            sentence([
                is_in(&[Part::LinkType], SetName::SpoofingShut),
                is_in(&[Part::InputName], SetName::Members),
                is_not_in(&[Part::OutputName], SetName::Members),
                drop_it(),
            ]),
        ],
    )
}

/// In `prerouting`.
pub(super) fn what_comes_by_a_port() -> Rule {
    sentence([is_in(&[Part::LinkType], SetName::SpoofingDoor), jump(SPOOFING)])
}
