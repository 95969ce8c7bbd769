//! What rules are made of: the kernel's expressions, as values.

use super::SetName;

/// A register of four bytes; longer values take several in a row. There are sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

/// A part of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PacketPart {
    /// `ip saddr`
    SourceAddress,
    /// `ip daddr`
    DestinationAddress,
    /// `th dport`
    DestinationPort,
    /// `tcp flags`
    TcpFlags,
    /// `ether saddr`
    SourceMac,
    /// `ether type`, as the frame has it: that of a VLAN's tag, where there is one
    EtherType,
    /// `ip6 saddr`
    SourceAddress6,
    /// `ip6 daddr`
    DestinationAddress6,
    /// `icmpv6 type`
    Icmpv6Type,
    /// `arp htype`, `ptype`, `hlen` and `plen`
    ArpFormat,
    /// `arp saddr ether`
    ArpSenderMac,
    /// `arp saddr ip`
    ArpSenderIp,
}

/// What the kernel knows of a packet beside its bytes: its interface, protocol and connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// `meta iifname`
    InputName,
    /// `meta iifkind` (Linux 5.6)
    InputKind,
    /// `meta iiftype`
    InputType,
    /// `meta oifname`
    OutputName,
    /// `meta oifkind` (Linux 5.6)
    OutputKind,
    /// `meta mark`
    Mark,
    /// `meta priority`
    Priority,
    /// `meta nfproto`
    Network,
    /// `meta l4proto`
    Transport,
    /// `meta protocol`
    EtherType,
    /// `meta skuid`: ends the rule when no process's socket sent it
    SocketUid,
    /// `ct state`
    State,
    /// `ct status`
    Status,
    /// `ct direction`
    Direction,
    /// `ct original ip saddr` (Linux 4.17)
    OriginalSource,
    /// `ct original ip daddr` (Linux 4.17)
    OriginalDestination,
    /// `ct protocol`
    OriginalProtocol,
    /// `ct original proto-dst`
    OriginalPort,
    /// `socket transparent`: ends the rule when no socket takes the packet (Linux 4.18)
    SocketTransparent,
    /// `socket wildcard`: the same; whether it listens at every address (Linux 5.10)
    SocketWildcard,
}

/// What the routing tables say of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fib {
    /// `fib daddr type`
    DestinationType,
    /// `fib saddr . iif oif exists`
    SourceByInput,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// `==`
    Equal,
    /// `!=`
    Different,
    /// `<=`
    AtMost,
}

/// What becomes of the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// `accept`
    Accept,
    /// `drop`
    Drop,
    /// `jump CHAIN`: comes back when nothing there decides.
    Jump(&'static str),
    /// `goto CHAIN`
    Goto(&'static str),
    /// `return`
    Return,
    /// `reject with tcp reset` (in prerouting: Linux 5.9)
    Reset,
    /// `reject with icmpx admin-prohibited` (in prerouting: Linux 5.9)
    AdminProhibited,
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads a part of the packet.
    Packet(PacketPart, Register),
    /// Loads what the kernel knows.
    Known(Known, Register),
    /// Loads what the routing tables say.
    Fib(Fib, Register),
    /// Keeps only some bits.
    Mask(Register, Vec<u8>),
    /// Sets some bits, and leaves the others as they are.
    SetBits(Register, [u8; 4]),
    /// Ends the rule unless the comparison holds.
    Compare(Register, Comparison, Vec<u8>),
    /// Ends the rule unless the set has the key at this register.
    In(SetName, Register),
    /// Ends the rule if the set has the key at this register.
    NotIn(SetName, Register),
    /// Loads what the map has for the key at the first register into the second; ends the rule if it has nothing.
    Map(SetName, Register, Register),
    /// Goes where the map says for the key at this register; ends the rule if it has nothing.
    Follow(SetName, Register),
    /// Loads these bytes.
    Constant([u8; 4], Register),
    /// Loads a random number below the first.
    Random(u32, Register),
    /// `meta mark set` what is in this register.
    MarkWith(Register),
    /// `meta priority set` what is in this register.
    PriorityWith(Register),
    /// Counts in a named counter.
    Count(&'static str),
    /// `dnat ip to` the address in this register and the port in the next.
    TranslateTo(Register),
    /// `masquerade`
    Masquerade,
    /// Decides.
    Verdict(Verdict),
}
