//! Doors: what is kept shut besides virtual IPs and listeners.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
    ops::RangeInclusive,
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;
use thiserror::Error;

use super::ResourceId;
use crate::{Protocol, UserName, WorkloadId};

/// A way in that is kept shut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoorName {
    /// A workload that sends by another's hardware or IP address.
    Spoofing,
    /// From one user's network to anywhere else on this host's bridges, and back; from local processes to a network's members.
    Networks,
    /// Published ports of this host, where traffic arrives.
    Published,
    /// Published ports of peers, where traffic leaves.
    Leaving,
    /// The address of dns, from anywhere but a workload's own bridge port.
    Dns,
}

impl DoorName {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Spoofing, Self::Networks, Self::Published, Self::Leaving, Self::Dns];

    /// Its name in flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spoofing => "spoofing",
            Self::Networks => "networks",
            Self::Published => "published",
            Self::Leaving => "leaving",
            Self::Dns => "dns",
        }
    }

    /// How it is kept when nobody says otherwise. A running cluster must be able to move to Steppe without a surprise: what it
    /// had before is only watched; what Steppe itself brought is kept shut.
    #[must_use]
    pub fn default_mode(self) -> DoorMode {
        match self {
            Self::Spoofing | Self::Networks | Self::Dns => DoorMode::Enforce,
            Self::Published | Self::Leaving => DoorMode::Audit,
        }
    }
}

impl fmt::Display for DoorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a door is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoorMode {
    /// What it should keep out is refused, and counted.
    Enforce,
    /// What it should keep out passes, and is counted.
    Audit,
    /// Nothing is looked at.
    Off,
}

impl DoorMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Audit, Self::Off];

    /// Its name in flags and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for DoorMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no door, or no mode of one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidDoor {
    /// No such door.
    #[error("no such door: spoofing, networks, published, leaving or dns is expected")]
    Name,
    /// No such mode.
    #[error("no such mode: enforce, audit or off is expected")]
    Mode,
}

impl FromStr for DoorName {
    type Err = InvalidDoor;

    fn from_str(text: &str) -> Result<Self, InvalidDoor> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or(InvalidDoor::Name)
    }
}

impl FromStr for DoorMode {
    type Err = InvalidDoor;

    fn from_str(text: &str) -> Result<Self, InvalidDoor> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or(InvalidDoor::Mode)
    }
}

/// How the doors are kept, and for whom they open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doors {
    /// How each is kept; one that is not here is off.
    pub modes: BTreeMap<DoorName, DoorMode>,
    /// Other hosts whose proxies dial published ports here, in order and without doubles.
    pub peers: Vec<IpNet>,
    /// Uids of local processes that may dial published ports, here and on peers, and members of networks, in order and without
    /// doubles. 0 always may.
    pub local_uids: Vec<u32>,
    /// The peers' published ports.
    pub published_ports: RangeInclusive<u16>,
}

impl Doors {
    /// Its id: there is one.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new("doors")
    }

    /// How a door is kept.
    #[must_use]
    pub fn mode(&self, name: DoorName) -> DoorMode {
        self.modes.get(&name).copied().unwrap_or(DoorMode::Off)
    }
}

/// Who may dial a published port (`steppe.expose`), the narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Expose {
    /// The proxies of other hosts.
    Proxies,
    /// Every process and container of this host too.
    Host,
    /// Whoever is behind the peers' addresses too.
    Cluster,
    /// Everybody.
    Public,
}

/// A port of this host that Docker published for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the host.
    pub port: u16,
    /// The addresses of the host that it is published at, [`PublishedPort::ADDRESSES`] at the most; empty for all of them, by
    /// IPv6 too.
    pub addresses: BTreeSet<Ipv4Addr>,
    /// The workload that it leads to; `None` when that has no address to be bound to.
    pub workload: Option<WorkloadId>,
    /// Who may dial it.
    pub expose: Expose,
    /// What people call the container.
    pub name: Arc<str>,
    /// The user it belongs to.
    pub user: Option<UserName>,
}

impl PublishedPort {
    /// Addresses that one port can be published at: each is an element in the kernel.
    pub const ADDRESSES: usize = 64;

    /// Its id: the port and the protocol.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("published {}/{}", self.port, self.protocol))
    }
}
