//! Rules put together of phrases: each has its words in nft's language and the steps that they mean, so that a rule says what
//! it does.

use super::{
    Comparison, Expression, PacketPart, Register, Rule, SetName, Verdict,
    expression::{Fib, Known},
    steps::{DNAT, ESTABLISHED, INVALID, NEW, R0, RELATED, UDP, ipv4, is_bridge, padded_text, some_bit, udp},
};

/// A part of a rule.
pub(super) struct Phrase {
    words: String,
    steps: Vec<Expression>,
}

/// A rule of these.
pub(super) fn sentence<const N: usize>(phrases: [Phrase; N]) -> Rule {
    let words: Vec<_> =
        phrases.iter().map(|phrase| &*phrase.words).filter(|words| !words.is_empty()).collect();
    let words = words.join(" ");
    Rule { words, steps: phrases.into_iter().flat_map(|phrase| phrase.steps).collect() }
}

pub(super) fn phrase(words: impl Into<String>, steps: Vec<Expression>) -> Phrase {
    Phrase { words: words.into(), steps }
}

/// A part of a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    InputName,
    OutputName,
    LinkType,
    Network,
    Transport,
    DestinationPort,
    Uid,
    SourceMac,
    SourceIp,
    DestinationIp,
    SourceIp6,
    DestinationIp6,
    ArpSenderMac,
    ArpSenderIp,
}

impl Part {
    /// In nft's words, how it is loaded, and how many registers it takes.
    fn meaning(self, at: Register) -> (&'static str, Expression, u32) {
        let known = |words, known, registers| (words, Expression::Known(known, at), registers);
        let packet = |words, part, registers| (words, Expression::Packet(part, at), registers);
        match self {
            Self::InputName => known("iifname", Known::InputName, 4),
            Self::OutputName => known("oifname", Known::OutputName, 4),
            Self::LinkType => known("meta iiftype", Known::InputType, 1),
            Self::Network => known("meta nfproto", Known::Network, 1),
            Self::Transport => known("meta l4proto", Known::Transport, 1),
            Self::DestinationPort => packet("th dport", PacketPart::DestinationPort, 1),
            Self::Uid => known("meta skuid", Known::SocketUid, 1),
            Self::SourceMac => packet("ether saddr", PacketPart::SourceMac, 2),
            Self::SourceIp => packet("ip saddr", PacketPart::SourceAddress, 1),
            Self::DestinationIp => packet("ip daddr", PacketPart::DestinationAddress, 1),
            Self::SourceIp6 => packet("ip6 saddr", PacketPart::SourceAddress6, 4),
            Self::DestinationIp6 => packet("ip6 daddr", PacketPart::DestinationAddress6, 4),
            Self::ArpSenderMac => packet("arp saddr ether", PacketPart::ArpSenderMac, 2),
            Self::ArpSenderIp => packet("arp saddr ip", PacketPart::ArpSenderIp, 1),
        }
    }
}

fn load(parts: &[Part]) -> (String, Vec<Expression>) {
    let (mut words, mut steps, mut at) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        let (word, step, registers) = part.meaning(Register(at));
        words.push(word);
        steps.push(step);
        at += registers;
    }
    (words.join(" . "), steps)
}

/// `KEY @SET`
pub(super) fn is_in(parts: &[Part], set: SetName) -> Phrase {
    let (words, mut steps) = load(parts);
    steps.push(Expression::In(set, R0));
    phrase(format!("{words} @{}", set.set().text), steps)
}

/// The same of IPv4 alone, which nft's words for the key say already.
pub(super) fn is_ipv4_in(parts: &[Part], set: SetName) -> Phrase {
    let Phrase { words, steps } = is_in(parts, set);
    phrase(words, [ipv4(), steps].concat())
}

/// `KEY != @SET`
pub(super) fn is_not_in(parts: &[Part], set: SetName) -> Phrase {
    let (words, mut steps) = load(parts);
    steps.push(Expression::NotIn(set, R0));
    phrase(format!("{words} != @{}", set.set().text), steps)
}

/// What nft leaves out of its listings, since what follows says it too.
pub(super) fn unsaid(steps: Vec<Expression>) -> Phrase {
    phrase("", steps)
}

/// `accept`, `drop`, `return`
pub(super) fn verdict(verdict: Verdict) -> Phrase {
    let words = match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Reset => "reject with tcp reset".into(),
        Verdict::AdminProhibited => "reject with icmpx admin-prohibited".into(),
    };
    phrase(words, vec![Expression::Verdict(verdict)])
}

pub(super) fn goto(chain: &'static str) -> Phrase {
    verdict(Verdict::Goto(chain))
}

pub(super) fn jump(chain: &'static str) -> Phrase {
    verdict(Verdict::Jump(chain))
}

pub(super) fn accept() -> Phrase {
    verdict(Verdict::Accept)
}

pub(super) fn drop_it() -> Phrase {
    verdict(Verdict::Drop)
}

/// `counter name "NAME"`
pub(super) fn count(counter: &'static str) -> Phrase {
    phrase(format!("counter name \"{counter}\""), vec![Expression::Count(counter)])
}

/// `ct state new`
pub(super) fn is_new() -> Phrase {
    phrase("ct state new", some_bit(Known::State, NEW))
}

/// `ct direction original`: from whom the flow began with.
pub(super) fn is_first_direction() -> Phrase {
    equal("ct direction original", Known::Direction, vec![0])
}

/// `meta l4proto udp`
pub(super) fn by_udp() -> Phrase {
    phrase("meta l4proto udp", udp())
}

/// `ct state != invalid`
pub(super) fn is_not_invalid() -> Phrase {
    let steps = vec![
        Expression::Known(Known::State, R0),
        Expression::Compare(R0, Comparison::Different, INVALID.to_ne_bytes().into()),
    ];
    phrase("ct state != invalid", steps)
}

/// `ct state established,related`
pub(super) fn is_known() -> Phrase {
    phrase("ct state established,related", some_bit(Known::State, ESTABLISHED | RELATED))
}

/// `ct status dnat`
pub(super) fn is_translated() -> Phrase {
    phrase("ct status dnat", some_bit(Known::Status, DNAT))
}

/// `iifname "lo"`
pub(super) fn by_loopback() -> Phrase {
    equal("iifname \"lo\"", Known::InputName, padded_text("lo"))
}

/// `meta iifkind "bridge"`
pub(super) fn from_bridge() -> Phrase {
    phrase("meta iifkind \"bridge\"", is_bridge(Known::InputKind))
}

/// `meta skuid 0`. Who has no uid is no local process, and not root.
pub(super) fn by_root() -> Phrase {
    equal("meta skuid 0", Known::SocketUid, 0_u32.to_ne_bytes().into())
}

fn equal(words: &'static str, known: Known, value: Vec<u8>) -> Phrase {
    phrase(words, vec![Expression::Known(known, R0), Expression::Compare(R0, Comparison::Equal, value)])
}

/// `fib daddr type local`
pub(super) fn to_this_host() -> Phrase {
    destination_type("fib daddr type local", Comparison::Equal)
}

/// `fib daddr type != local`
pub(super) fn not_to_this_host() -> Phrase {
    destination_type("fib daddr type != local", Comparison::Different)
}

fn destination_type(words: &'static str, comparison: Comparison) -> Phrase {
    /// `RTN_LOCAL` (linux/rtnetlink.h).
    const LOCAL: u32 = 2;
    let value = LOCAL.to_ne_bytes().into();
    phrase(words, vec![Expression::Fib(Fib::DestinationType, R0), Expression::Compare(R0, comparison, value)])
}

/// `fib saddr . iif oif exists`: what goes to the sender leaves by the interface that this came by.
pub(super) fn from_where_it_lives() -> Phrase {
    let found = Expression::Compare(R0, Comparison::Equal, 1_u32.to_ne_bytes().into());
    phrase("fib saddr . iif oif exists", vec![Expression::Fib(Fib::SourceByInput, R0), found])
}

/// `udp dport PORT`, `tcp dport PORT`
pub(super) fn to_port(protocol: u8, port: u16) -> Phrase {
    let name = if protocol == UDP { "udp" } else { "tcp" };
    let steps = vec![
        Expression::Known(Known::Transport, R0),
        Expression::Compare(R0, Comparison::Equal, vec![protocol]),
        Expression::Packet(PacketPart::DestinationPort, R0),
        Expression::Compare(R0, Comparison::Equal, port.to_be_bytes().into()),
    ];
    phrase(format!("{name} dport {port}"), steps)
}
