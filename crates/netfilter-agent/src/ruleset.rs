//! The ruleset as a pure value: sets, chains and rules, each rule with its own words in nft's language.
//!
//! It is fixed and small. Everything that grows is an element of a set, so a packet costs the same whatever the number of
//! grants, and a change costs what changed.

mod ask;
mod chain;
mod chains;
mod doors;
mod element;
mod expression;
mod kernel_path;
mod phrases;
mod sets;
mod spoofing;
mod steps;

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;

pub(crate) use chain::{Base, Chain, ChainKind, Hook, Rule};
pub(crate) use chains::chains;
pub(crate) use doors::counter;
pub(crate) use element::{Element, IfName, Parts, Value};
pub(crate) use expression::{Comparison, Expression, Fib, Known, PacketPart, Register, Verdict};
pub(crate) use kernel_path::{BRIDGED, Balancer};
pub(crate) use sets::{CLOSED_FOR, Key, Kind, SETS, Set, SetName};

/// The name of both tables. Nothing outside them is ever touched.
pub(crate) const TABLE: &str = "steppe";
/// The named counter: packets for a virtual IP that came by a bridge from nobody we know, dropped.
pub(crate) const UNKNOWN_COUNTER: &str = "unknown";
/// What the door `dns` refused, one in each table.
pub(crate) const DNS_COUNTER: &str = ask::COUNTER;
/// What the door `spoofing` refused.
pub(crate) const SPOOFING_COUNTER: &str = spoofing::COUNTER;
/// All named counters.
pub(crate) const COUNTERS: [(Family, &str); 7] = [
    (Family::Inet, counter::NETWORKS),
    (Family::Inet, counter::PUBLISHED),
    (Family::Inet, counter::LEAVING),
    (Family::Inet, DNS_COUNTER),
    (Family::Bridge, UNKNOWN_COUNTER),
    (Family::Bridge, SPOOFING_COUNTER),
    (Family::Bridge, DNS_COUNTER),
];

/// The two tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    /// Where packets are translated, refused and cut.
    Inet,
    /// Where a frame's bridge port and hardware address can be seen.
    Bridge,
}

impl Family {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Inet, Self::Bridge];

    /// `NFPROTO_*` (linux/netfilter.h).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Bridge => 7,
        }
    }
}

/// What nft calls it
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        })
    }
}

/// What the ruleset depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Where virtual IPs are chosen from.
    pub(crate) services: Ipv4Net,
    /// Where the proxy listens.
    pub(crate) listener: Ipv4Addr,
    /// Where dns listens.
    pub(crate) dns: Ipv4Addr,
}

/// What a table's comment says, so that a later start of the agent knows whether its sets and chains are the ones it would
/// make itself.
pub(crate) fn stamp(addresses: Addresses) -> String {
    let mut hasher = DefaultHasher::new();
    for set in SETS {
        set.words().hash(&mut hasher);
    }
    for chain in chains(addresses) {
        chain.words().hash(&mut hasher);
    }
    let Addresses { services, listener, dns } = addresses;
    format!("steppe {:016x} {services} {listener} {dns}", hasher.finish())
}

#[cfg(test)]
mod tests;
