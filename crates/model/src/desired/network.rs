//! A user's network, and the names that workloads have there.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;

use super::ResourceId;
use crate::{DnsName, UserName, VirtualPort};

/// The network of one user: a Docker bridge of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The user.
    pub user: UserName,
    /// The name of the bridge's interface.
    pub bridge: Arc<str>,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The host's own address on it.
    pub gateway: Ipv4Addr,
}

impl Network {
    /// Its id: the user's.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("network {}", self.user))
    }
}

/// Somebody who asks dns, by the address that the questions come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// The workload's address.
    pub ip: Ipv4Addr,
    /// What people call the workload.
    pub workload: Arc<str>,
    /// The user it belongs to.
    pub user: Option<UserName>,
    /// The user whose network's members it sees.
    pub network: Option<UserName>,
    /// The services that it may name, in the order of their names, each name once.
    pub names: Vec<AskedName>,
}

impl Asker {
    /// Its id: the address.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        Self::id_at(self.ip)
    }

    /// The id of who asks from an address.
    #[must_use]
    pub fn id_at(ip: Ipv4Addr) -> ResourceId {
        ResourceId::new(&format!("asker {ip}"))
    }
}

/// A service's name in one asker's view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedName {
    /// The name, without the zone.
    pub name: DnsName,
    /// The service's virtual IP.
    pub vip: Ipv4Addr,
    /// What SRV questions are told, in order; none of them is [`VirtualPort::ANY`].
    pub ports: Vec<VirtualPort>,
}

/// A workload on a user's network, as the others there may name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The user whose network it is on.
    pub network: UserName,
    /// Its address there.
    pub ip: Ipv4Addr,
    /// Its names, without the zone.
    pub names: Vec<DnsName>,
}

impl Member {
    /// Its id: the network's user and the address.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("member {} {}", self.network, self.ip))
    }
}
