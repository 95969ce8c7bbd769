//! The chains and their rules, each under its own words in nft's language.

use super::{
    Addresses, Comparison, Expression, Family, PacketPart, Register, SetName, UNKNOWN_COUNTER, Verdict,
    expression::Known,
};

/// Hook priorities. They are an interface: whoever writes rules of their own can rely on them.
mod priority {
    /// Translation, before Docker's -100, so that none of its rules sees a packet for a virtual IP.
    pub(super) const NAT: i32 = -110;
    /// After every destination translation (the kernel runs them all at -100, in the order of their priorities): what is for a
    /// virtual IP still was not granted.
    pub(super) const GUARD: i32 = -90;
    /// After the guard, on what was translated.
    pub(super) const RECHECK: i32 = -80;
    /// Before the host firewall's own filters at 0.
    pub(super) const INPUT: i32 = -10;
    /// As above.
    pub(super) const OUTPUT: i32 = -10;
    /// In the bridge family: ebtables' first, before any translation of hardware addresses.
    pub(super) const BRIDGE: i32 = -300;
}

/// What a base chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainKind {
    /// Only connections' first packets come here.
    Nat,
    /// All packets come here.
    Filter,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Everything that arrives.
    Prerouting,
    /// What is for this host itself.
    Input,
    /// What local processes send.
    Output,
}

/// A chain that the kernel itself calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) kind: ChainKind,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

/// A rule: what `nft list` prints for it, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) words: String,
    pub(crate) steps: Vec<Expression>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) family: Family,
    pub(crate) name: &'static str,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

impl Chain {
    /// The chain in nft's words.
    pub(crate) fn words(&self) -> String {
        let mut words = format!("{} chain {} {{\n", self.family, self.name);
        if let Some(Base { kind, hook, priority }) = self.base {
            words += &format!("\ttype {kind:?} hook {hook:?} priority {priority}; policy accept;\n")
                .to_lowercase();
        }
        for rule in &self.rules {
            words += &format!("\t{}\n", rule.words);
        }
        words + "}\n"
    }
}

/// Chains without a hook, by name.
const GRANTED: &str = "granted";
const EXACT: &str = "exact";
const REFUSE: &str = "refuse";
const STILL_GRANTED: &str = "still_granted";
const ARRIVING: &str = "arriving";
const REJECT: &str = "reject_all";
const BOUND: &str = "bound";

const R0: Register = Register(0);
const R1: Register = Register(1);
const R2: Register = Register(2);
const R3: Register = Register(3);
const R4: Register = Register(4);
const R6: Register = Register(6);

/// `IPS_CONFIRMED` (linux/netfilter/nf_conntrack_common.h): past its first packet.
const CONFIRMED: u32 = 1 << 3;
/// `IPS_DST_NAT`.
const DNAT: u32 = 1 << 5;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 1 << 3;
/// `NFPROTO_IPV4`.
const IPV4: u8 = 2;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `ETH_P_IP`.
const ETHERTYPE_IPV4: u16 = 0x0800;

/// All chains, those first that others go to.
pub(crate) fn chains(addresses: Addresses) -> Vec<Chain> {
    let Addresses { services, listener } = addresses;
    let inet = |name, base, rules| Chain { family: Family::Inet, name, base, rules };
    let bridge = |name, base, rules| Chain { family: Family::Bridge, name, base, rules };
    let hook = |kind, hook, priority| Some(Base { kind, hook, priority });
    let to_service = || for_services(addresses);
    let to_listener = || [ipv4(), for_listener(addresses)].concat();
    vec![
        inet(
            REJECT,
            None,
            vec![
                rule("meta l4proto tcp reject with tcp reset", [tcp(), end(Verdict::Reset)].concat()),
                rule("reject with icmpx admin-prohibited", end(Verdict::AdminProhibited)),
            ],
        ),
        inet(
            EXACT,
            None,
            vec![
                // A granted port without a listener is left for `guard` to refuse.
                rule(
                    "dnat ip to ip daddr . meta l4proto . th dport map @listeners",
                    [
                        ipv4(),
                        vec![
                            Expression::Packet(PacketPart::DestinationAddress, R0),
                            Expression::Known(Known::Transport, R1),
                            Expression::Packet(PacketPart::DestinationPort, R2),
                            Expression::Map(SetName::Listeners, R0, R0),
                            Expression::TranslateTo(R0),
                        ],
                    ]
                    .concat(),
                ),
            ],
        ),
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
                    "meta l4proto tcp ip saddr . ip daddr @grants_any dnat ip to ip daddr map @listeners_any",
                    [
                        ipv4(),
                        tcp(),
                        vec![
                            Expression::Packet(PacketPart::SourceAddress, R0),
                            Expression::Packet(PacketPart::DestinationAddress, R1),
                            Expression::In(SetName::GrantsAny, R0),
                            Expression::Packet(PacketPart::DestinationAddress, R0),
                            Expression::Map(SetName::ListenersAny, R0, R0),
                            Expression::TranslateTo(R0),
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
                // Not known yet: silence, so that the client's next try finds its rule.
                rule(
                    format!(
                        "meta iifkind \"bridge\" iifname . ip saddr != @workloads counter name \"{UNKNOWN_COUNTER}\" drop"
                    ),
                    [
                        vec![
                            Expression::Known(Known::InputKind, R0),
                            Expression::Compare(R0, Comparison::Equal, padded_text("bridge")),
                        ],
                        ipv4(),
                        from_workload(Expression::NotIn(SetName::Workloads, R0)),
                        vec![Expression::Count(UNKNOWN_COUNTER)],
                        end(Verdict::Drop),
                    ]
                    .concat(),
                ),
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
                    "meta l4proto tcp ct original ip saddr . ct original ip daddr @grants_any accept",
                    [
                        tcp(),
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
                // A translated connection past its first packet, which `granted` has just looked up: a revoked one is cut here.
                rule(
                    format!(
                        "ct status confirmed,dnat / confirmed,dnat ct direction original \
                     ct original ip daddr {services} goto {STILL_GRANTED}"
                    ),
                    [
                        vec![
                            Expression::Known(Known::Status, R0),
                            Expression::Mask(R0, (CONFIRMED | DNAT).to_ne_bytes()),
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
            vec![rule(
                format!("ip daddr {listener} ct state new goto {ARRIVING}"),
                [to_listener(), new(), end(Verdict::Goto(ARRIVING))].concat(),
            )],
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
            ],
        ),
        bridge(
            BOUND,
            None,
            vec![
                rule(
                    "iifname . ether saddr . ip saddr @bindings accept",
                    [
                        ipv4_frame(),
                        vec![
                            Expression::Known(Known::InputName, R0),
                            Expression::Packet(PacketPart::SourceMac, R4),
                            Expression::Packet(PacketPart::SourceAddress, R6),
                            Expression::In(SetName::Bindings, R0),
                            Expression::Verdict(Verdict::Accept),
                        ],
                    ]
                    .concat(),
                ),
                rule(
                    format!("counter name \"{UNKNOWN_COUNTER}\" drop"),
                    vec![Expression::Count(UNKNOWN_COUNTER), Expression::Verdict(Verdict::Drop)],
                ),
            ],
        ),
        bridge(
            "prerouting",
            hook(ChainKind::Filter, Hook::Prerouting, priority::BRIDGE),
            vec![rule(
                format!("ip daddr {services} goto {BOUND}"),
                [ipv4_frame(), destination_in(addresses), end(Verdict::Goto(BOUND))].concat(),
            )],
        ),
    ]
}

fn rule(words: impl Into<String>, steps: Vec<Expression>) -> Rule {
    Rule { words: words.into(), steps }
}

fn end(verdict: Verdict) -> Vec<Expression> {
    vec![Expression::Verdict(verdict)]
}

/// `meta l4proto tcp`
fn tcp() -> Vec<Expression> {
    vec![Expression::Known(Known::Transport, R0), Expression::Compare(R0, Comparison::Equal, vec![TCP])]
}

/// `meta nfproto ipv4`, which nft leaves out of its listings where an address follows.
fn ipv4() -> Vec<Expression> {
    vec![Expression::Known(Known::Network, R0), Expression::Compare(R0, Comparison::Equal, vec![IPV4])]
}

/// `meta protocol ip`, which nft leaves out as well.
fn ipv4_frame() -> Vec<Expression> {
    let ethertype = ETHERTYPE_IPV4.to_be_bytes().into();
    vec![Expression::Known(Known::EtherType, R0), Expression::Compare(R0, Comparison::Equal, ethertype)]
}

/// `ct state new`
fn new() -> Vec<Expression> {
    vec![
        Expression::Known(Known::State, R0),
        Expression::Mask(R0, NEW.to_ne_bytes()),
        Expression::Compare(R0, Comparison::Different, 0_u32.to_ne_bytes().into()),
    ]
}

/// `ip daddr CIDR`
fn for_services(addresses: Addresses) -> Vec<Expression> {
    [ipv4(), destination_in(addresses)].concat()
}

fn destination_in(addresses: Addresses) -> Vec<Expression> {
    let load = Expression::Packet(PacketPart::DestinationAddress, R0);
    [vec![load], in_services(addresses, Comparison::Equal)].concat()
}

/// `ct original ip daddr CIDR`
fn originally_for_services(addresses: Addresses, comparison: Comparison) -> Vec<Expression> {
    let load = Expression::Known(Known::OriginalDestination, R0);
    [vec![load], in_services(addresses, comparison)].concat()
}

fn in_services(addresses: Addresses, comparison: Comparison) -> Vec<Expression> {
    vec![
        Expression::Mask(R0, addresses.services.mask().to_be_bytes()),
        Expression::Compare(R0, comparison, addresses.services.address.octets().into()),
    ]
}

/// `ip daddr LISTENER`
fn for_listener(addresses: Addresses) -> Vec<Expression> {
    vec![
        Expression::Packet(PacketPart::DestinationAddress, R0),
        Expression::Compare(R0, Comparison::Equal, addresses.listener.octets().into()),
    ]
}

/// `iifname . ip saddr …`
fn from_workload(lookup: Expression) -> Vec<Expression> {
    vec![Expression::Known(Known::InputName, R0), Expression::Packet(PacketPart::SourceAddress, R4), lookup]
}

/// Text in 16 bytes, as the kernel has interface names and kinds.
fn padded_text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}
