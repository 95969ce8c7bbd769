//! The ruleset as a pure value: sets, chains and rules, each rule with its own words in nft's language.
//!
//! It is fixed and small. Everything that grows is an element of a set, so a packet costs the same whatever the number of
//! grants, and a change costs what changed.

mod chain;
mod chains;
mod element;
mod expression;
mod kernel_path;
mod sets;
mod steps;

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    str::FromStr,
};

use thiserror::Error;

pub(crate) use chain::{Base, Chain, ChainKind, Hook, Rule};
pub(crate) use chains::chains;
pub(crate) use element::{Element, IfName, Parts, Value};
pub(crate) use expression::{Comparison, Expression, Known, PacketPart, Register, Verdict};
pub(crate) use kernel_path::{BRIDGED, Balancer};
pub(crate) use sets::{Key, SETS, Set, SetName};

/// The name of both tables. Nothing outside them is ever touched.
pub(crate) const TABLE: &str = "steppe";
/// The named counter, one in each table: packets for a virtual IP that came from nobody we know, dropped.
pub(crate) const UNKNOWN_COUNTER: &str = "unknown";

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

/// A range of IPv4 addresses, such as 247.0.0.0/8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Cidr {
    /// The first address.
    pub(crate) address: Ipv4Addr,
    /// How many leading bits all addresses have in common, 1 to 32.
    pub(crate) prefix: u8,
}

impl Cidr {
    /// The bits that all addresses have in common.
    pub(crate) fn mask(self) -> u32 {
        u32::MAX << (32 - u32::from(self.prefix))
    }

    /// Whether the address is one of them.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.address.to_bits()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The text is no range of addresses.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum InvalidCidr {
    /// It does not look like one.
    #[error("an IPv4 range is expected, such as 247.0.0.0/8")]
    Malformed,
    /// The address has bits behind the prefix.
    #[error("the address has bits behind the prefix: write {0}")]
    NotTheFirst(Cidr),
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let (address, prefix) = text.split_once('/').ok_or(InvalidCidr::Malformed)?;
        let address: Ipv4Addr = address.parse().map_err(|_| InvalidCidr::Malformed)?;
        let prefix =
            prefix.parse().ok().filter(|prefix| (1..=32).contains(prefix)).ok_or(InvalidCidr::Malformed)?;
        let cidr = Self { address, prefix };
        let first = Self { address: Ipv4Addr::from_bits(address.to_bits() & cidr.mask()), prefix };
        if first == cidr { Ok(cidr) } else { Err(InvalidCidr::NotTheFirst(first)) }
    }
}

/// What the ruleset depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// Where virtual IPs are chosen from.
    pub(crate) services: Cidr,
    /// Where the proxy listens.
    pub(crate) listener: Ipv4Addr,
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
    format!("steppe {:016x} {} {}", hasher.finish(), addresses.services, addresses.listener)
}

#[cfg(test)]
mod tests;
