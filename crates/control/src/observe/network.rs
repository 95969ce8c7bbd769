//! What is told of users' networks, and of what control asked Docker for.

use std::{net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use steppe_model::UserName;

/// A Docker network that Steppe made for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Docker's id of it.
    pub id: Arc<str>,
    /// The user, from its label.
    pub user: UserName,
    /// The name of the bridge's interface.
    pub bridge: Arc<str>,
    /// Its addresses.
    pub subnet: Ipv4Net,
    /// The host's own address on it.
    pub gateway: Ipv4Addr,
    /// Why its subnet is not the one that its user has on other hosts: what was in the way. `None` when it is that one.
    pub moved: Option<Arc<str>>,
}

/// A container to be moved from Docker's default bridge to its user's network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attach {
    /// The container's id.
    pub container: Arc<str>,
    /// Whose network.
    pub user: UserName,
    /// What its address follows from: the allocation's id, else the container's name.
    pub key: Arc<str>,
}
