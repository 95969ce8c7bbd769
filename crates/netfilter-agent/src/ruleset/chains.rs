//! The chains and their rules, each under its own words in nft's language.

use std::borrow::Cow;

use super::{
    Addresses, Base, Chain, ChainKind, Comparison, Expression, Family, Hook, PacketPart, Rule, SetName,
    UNKNOWN_COUNTER, Verdict, ask, doors,
    expression::Known,
    kernel_path, spoofing,
    steps::{
        CONFIRMED, DNAT, R0, R1, R2, R3, begins, destination_in, end, for_listener, for_services,
        from_workload, ipv4, ipv4_frame, new, originally_for_services, originally_tcp, rule, tcp, udp,
    },
};

/// Hook priorities. They are an interface: whoever writes rules of their own can rely on them.
pub(super) mod priority {
    /// Translation, before Docker's -100, so that none of its rules sees a packet for a virtual IP.
    pub(super) const NAT: i32 = -110;
    /// After every destination translation (the kernel runs them all at -100, in the order of their priorities): what is for a
    /// virtual IP still was not granted.
    pub(super) const GUARD: i32 = -90;
    /// Before any translation: where bridged packets pass the hooks (br_netfilter, which Docker turns on) the kernel sends a
    /// reset straight to the bridge port, untranslated, so it must answer the address that was dialled.
    pub(super) const RECHECK: i32 = -120;
    /// nft's `mangle`: after connection tracking at -200, and before any destination translation.
    pub(in crate::ruleset) const DOORS: i32 = -150;
    /// nft's `mangle`, where marks are set: before the filters at 0, of which Docker's isolation of bridges is one.
    pub(super) const FORWARD: i32 = -150;
    /// Before Docker's translation at 100.
    pub(super) const POSTROUTING: i32 = 90;
    /// Before the host firewall's own filters at 0.
    pub(super) const INPUT: i32 = -10;
    /// As above.
    pub(super) const OUTPUT: i32 = -10;
    /// In the bridge family: ebtables' first, before any translation of hardware addresses.
    pub(in crate::ruleset) const BRIDGE: i32 = -300;
    /// In the bridge family: nft's `filter`.
    pub(in crate::ruleset) const BRIDGE_FORWARD: i32 = -200;
}

/// Chains without a hook, by name.
const GRANTED: &str = "granted";
const TO_ENDPOINT: &str = "to_endpoint";
const TO_ANY_ENDPOINT: &str = "to_any_endpoint";
const EXACT: &str = "exact";
const ANY: &str = "any";
const REFUSE: &str = "refuse";
const STILL_GRANTED: &str = "still_granted";
const ARRIVING: &str = "arriving";
pub(super) const REJECT: &str = "reject_all";
const BOUND: &str = "bound";

pub(super) fn inet(name: &'static str, base: Option<Base>, rules: Vec<Rule>) -> Chain {
    Chain { family: Family::Inet, name: Cow::Borrowed(name), base, rules }
}

pub(super) fn bridge(name: &'static str, base: Option<Base>, rules: Vec<Rule>) -> Chain {
    Chain { family: Family::Bridge, name: Cow::Borrowed(name), base, rules }
}

pub(super) fn hook(kind: ChainKind, hook: Hook, priority: i32) -> Option<Base> {
    Some(Base { kind, hook, priority })
}

/// All chains, those first that others go to.
pub(crate) fn chains(addresses: Addresses) -> Vec<Chain> {
    let mut chains = services(addresses);
    chains.extend(doors::chains());
    chains.extend(ask::chains());
    chains.extend(hooks(addresses));
    chains.extend(spoofing::chains());
    chains.extend(ask::bridge_chains());
    chains.extend(bridge_hooks(addresses));
    chains
}

/// What becomes of packets for virtual IPs, when they come in.
fn services(addresses: Addresses) -> Vec<Chain> {
    let services = addresses.services;
    let to_service = || for_services(addresses);
    vec![
        inet(
            REJECT,
            None,
            vec![
                rule("meta l4proto tcp reject with tcp reset", [tcp(), end(Verdict::Reset)].concat()),
                rule("reject with icmpx admin-prohibited", end(Verdict::AdminProhibited)),
            ],
        ),
        inet(TO_ENDPOINT, None, kernel_path::to_endpoint()),
        inet(TO_ANY_ENDPOINT, None, kernel_path::to_any_endpoint(TO_ENDPOINT)),
        inet(EXACT, None, kernel_path::exact(TO_ENDPOINT)),
        inet(ANY, None, kernel_path::every_port(TO_ANY_ENDPOINT)),
        inet(
            GRANTED,
            None,
            vec![
                rule(
                    "ip saddr . ip daddr . meta l4proto . th dport @grants goto exact",
                    [
                        ipv4(),
                        vec![
                            Expression::Packet(PacketPart::SourceAddress, R0),
                            Expression::Packet(PacketPart::DestinationAddress, R1),
                            Expression::Known(Known::Transport, R2),
                            Expression::Packet(PacketPart::DestinationPort, R3),
                            Expression::In(SetName::Grants, R0),
                            Expression::Verdict(Verdict::Goto(EXACT)),
                        ],
                    ]
                    .concat(),
                ),
                rule(
                    "meta l4proto tcp ip saddr . ip daddr @grants_any goto any",
                    [
                        ipv4(),
                        tcp(),
                        vec![
                            Expression::Packet(PacketPart::SourceAddress, R0),
                            Expression::Packet(PacketPart::DestinationAddress, R1),
                            Expression::In(SetName::GrantsAny, R0),
                            Expression::Verdict(Verdict::Goto(ANY)),
                        ],
                    ]
                    .concat(),
                ),
            ],
        ),
        inet(
            "nat",
            hook(ChainKind::Nat, Hook::Prerouting, priority::NAT),
            vec![
                // The bridge table let only packets pass that came from the workload's own port; here the bridge's name keeps
                // others out that never crossed a bridge.
                rule(
                    format!("ip daddr {services} iifname . ip saddr @workloads goto {GRANTED}"),
                    [
                        to_service(),
                        from_workload(Expression::In(SetName::Workloads, R0)),
                        end(Verdict::Goto(GRANTED)),
                    ]
                    .concat(),
                ),
            ],
        ),
        inet(
            REFUSE,
            None,
            vec![
                // For the element's counter alone.
                rule(
                    "ip daddr @vips",
                    [
                        ipv4(),
                        vec![
                            Expression::Packet(PacketPart::DestinationAddress, R0),
                            Expression::In(SetName::Vips, R0),
                        ],
                    ]
                    .concat(),
                ),
                rule(format!("goto {REJECT}"), end(Verdict::Goto(REJECT))),
            ],
        ),
        inet(
            "guard",
            hook(ChainKind::Filter, Hook::Prerouting, priority::GUARD),
            vec![
                // For a virtual IP still: no grant, no such port, or no listener.
                rule(
                    format!("ip daddr {services} goto {REFUSE}"),
                    [to_service(), end(Verdict::Goto(REFUSE))].concat(),
                ),
            ],
        ),
        inet(
            STILL_GRANTED,
            None,
            vec![
                rule(
                    "ct original ip saddr . ct original ip daddr . ct protocol . ct original proto-dst @grants accept",
                    vec![
                        Expression::Known(Known::OriginalSource, R0),
                        Expression::Known(Known::OriginalDestination, R1),
                        Expression::Known(Known::OriginalProtocol, R2),
                        Expression::Known(Known::OriginalPort, R3),
                        Expression::In(SetName::Grants, R0),
                        Expression::Verdict(Verdict::Accept),
                    ],
                ),
                rule(
                    "ct protocol tcp ct original ip saddr . ct original ip daddr @grants_any accept",
                    [
                        originally_tcp(),
                        vec![
                            Expression::Known(Known::OriginalSource, R0),
                            Expression::Known(Known::OriginalDestination, R1),
                            Expression::In(SetName::GrantsAny, R0),
                            Expression::Verdict(Verdict::Accept),
                        ],
                    ]
                    .concat(),
                ),
                rule(format!("goto {REJECT}"), end(Verdict::Goto(REJECT))),
            ],
        ),
        inet(
            "recheck",
            hook(ChainKind::Filter, Hook::Prerouting, priority::RECHECK),
            vec![
                // A connection that is being translated, past its first packet, which is for `granted` to look up: a revoked
                // one is cut here.
                rule(
                    format!(
                        "ct status confirmed,dnat / confirmed,dnat ct direction original \
                     ct original ip daddr {services} goto {STILL_GRANTED}"
                    ),
                    [
                        vec![
                            Expression::Known(Known::Status, R0),
                            Expression::Mask(R0, (CONFIRMED | DNAT).to_ne_bytes().into()),
                            Expression::Compare(
                                R0,
                                Comparison::Equal,
                                (CONFIRMED | DNAT).to_ne_bytes().into(),
                            ),
                            Expression::Known(Known::Direction, R0),
                            Expression::Compare(R0, Comparison::Equal, vec![0]),
                        ],
                        originally_for_services(addresses, Comparison::Equal),
                        end(Verdict::Goto(STILL_GRANTED)),
                    ]
                    .concat(),
                ),
            ],
        ),
    ]
}

/// Where packets come by later.
fn hooks(addresses: Addresses) -> Vec<Chain> {
    let Addresses { services, listener, .. } = addresses;
    let to_service = || for_services(addresses);
    let to_listener = || [ipv4(), for_listener(addresses)].concat();
    vec![
        inet(
            "forward",
            hook(ChainKind::Filter, Hook::Forward, priority::FORWARD),
            vec![kernel_path::between_bridges(addresses), doors::what_is_forwarded()],
        ),
        inet(
            "postrouting",
            hook(ChainKind::Nat, Hook::Postrouting, priority::POSTROUTING),
            vec![kernel_path::to_own_bridge(addresses)],
        ),
        inet(
            ARRIVING,
            None,
            vec![
                // Not by way of a virtual IP, so not by a grant.
                rule(
                    format!("ct original ip daddr != {services} goto {REJECT}"),
                    [originally_for_services(addresses, Comparison::Different), end(Verdict::Goto(REJECT))]
                        .concat(),
                ),
                rule(
                    "socket transparent <= 1 accept",
                    vec![
                        Expression::Known(Known::SocketTransparent, R0),
                        Expression::Compare(R0, Comparison::AtMost, vec![1]),
                        Expression::Verdict(Verdict::Accept),
                    ],
                ),
                // Nobody listens now: silence, so that the client's next try finds the proxy that is being restarted.
                rule("drop", end(Verdict::Drop)),
            ],
        ),
        inet(
            "input",
            hook(ChainKind::Filter, Hook::Input, priority::INPUT),
            vec![
                rule(
                    format!("ip daddr {listener} ct state new goto {ARRIVING}"),
                    [to_listener(), new(), end(Verdict::Goto(ARRIVING))].concat(),
                ),
                // A client that was reset may begin anew from the same port, and connection tracking takes that for the old
                // connection for ten seconds.
                rule(
                    format!("ip daddr {listener} tcp flags syn / fin,syn,rst,ack goto {ARRIVING}"),
                    [to_listener(), tcp(), begins(), end(Verdict::Goto(ARRIVING))].concat(),
                ),
                // A UDP client goes on, and would be told that its port is unreachable before it is led elsewhere.
                rule(
                    format!("ip daddr {listener} meta l4proto udp goto {ARRIVING}"),
                    [to_listener(), udp(), end(Verdict::Goto(ARRIVING))].concat(),
                ),
            ]
            .into_iter()
            .chain(ask::what_arrives(addresses))
            .chain(doors::what_arrives())
            .collect(),
        ),
        inet(
            "output",
            hook(ChainKind::Filter, Hook::Output, priority::OUTPUT),
            vec![
                // Local processes have no grant.
                rule(
                    format!("ip daddr {services} goto {REJECT}"),
                    [to_service(), end(Verdict::Goto(REJECT))].concat(),
                ),
                rule(
                    format!("ip daddr {listener} ct state new goto {REJECT}"),
                    [to_listener(), new(), end(Verdict::Goto(REJECT))].concat(),
                ),
            ]
            .into_iter()
            .chain(ask::what_is_sent(addresses))
            .collect(),
        ),
    ]
}

fn bridge_hooks(addresses: Addresses) -> Vec<Chain> {
    let services = addresses.services;
    vec![
        bridge(
            BOUND,
            None,
            vec![
                spoofing::bound(),
                // Not known yet: silence, so that the client's next try finds its rule.
                rule(
                    format!("counter name \"{UNKNOWN_COUNTER}\" drop"),
                    vec![Expression::Count(UNKNOWN_COUNTER), Expression::Verdict(Verdict::Drop)],
                ),
            ],
        ),
        bridge(
            "prerouting",
            hook(ChainKind::Filter, Hook::Prerouting, priority::BRIDGE),
            vec![
                ask::flood(addresses),
                spoofing::what_comes_by_a_port(),
                rule(
                    format!("ip daddr {services} goto {BOUND}"),
                    [ipv4_frame(), destination_in(addresses), end(Verdict::Goto(BOUND))].concat(),
                ),
                ask::what_comes_by_a_port(addresses),
            ],
        ),
        spoofing::forward(),
    ]
}
