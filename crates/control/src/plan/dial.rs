//! Where a registered instance is dialled from this host (LANGUAGE.md, "Endpoints").

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use super::{allocs::Whereabouts, locate::Local};
use crate::observe::{Alloc, AllocNetwork, AllocPort, Instance, Life};

/// A registration without an address.
pub const NO_IPV4: &str = "its registered address is no IPv4 address: register one, such as 10.0.0.5";
/// A registration without a port.
pub const NO_PORT: &str = "it is registered without a port from 1 to 65535";

const OWN_ADDRESS: &str = "it is registered with an address that only its own node can dial";
const STRANGER: &str =
    "it is registered with a container's address, which means somebody else on this host: publish its port";
const NOT_HERE: &str = "no container of this host has its address";
const NOT_ITS_OWN: &str = "its job names an address and port that are not its allocation's: register one of the allocation's ports, by its label";
/// A namespace of Nomad that is no user.
pub const NO_USER: &str =
    "its namespace has a name that no user can have: 1 to 63 letters, digits, `-` or `_`";
/// Its allocation is dead.
pub const ENDED: &str = "its allocation has ended";
/// Its allocation is about to be.
pub const STOPPING: &str = "its allocation is being stopped: it gets no new connections";
const UNKNOWN: &str =
    "nomad does not know its allocation: it has ended, or NOMAD_TOKEN may not read its namespace";
/// Whose an instance is has been asked.
pub const AWAITED: &str = "nomad has not said yet whose it is";
const DENIED: &str = "NOMAD_TOKEN may not read its allocation: it needs `read-job` in every namespace";

/// Where an instance is, as far as this host can tell.
#[derive(Debug)]
pub struct Found {
    /// Where it is dialled, or why it can't be.
    pub address: Result<SocketAddrV4, &'static str>,
    /// Its port in the container, where that is known.
    pub container_port: Option<u16>,
    /// The container of this host that it is.
    pub workload: Option<Arc<str>>,
}

impl Found {
    fn nowhere(why: &'static str) -> Self {
        Self { address: Err(why), container_port: None, workload: None }
    }

    fn at(address: SocketAddrV4) -> Self {
        Self { address: Ok(address), container_port: None, workload: None }
    }
}

/// The address that an instance was registered with: its own, or else its node's.
#[must_use]
pub fn registered_address(instance: &Instance) -> &str {
    if instance.address.is_empty() { &instance.node_address } else { &instance.address }
}

/// Finds an instance.
#[must_use]
pub fn locate(instance: &Instance, local: &Local<'_>) -> Found {
    let Ok(ip) = registered_address(instance).parse::<Ipv4Addr>() else { return Found::nowhere(NO_IPV4) };
    if instance.port == 0 {
        return Found::nowhere(NO_PORT);
    }
    let address = SocketAddrV4::new(ip, instance.port);
    match local.allocs.of(instance) {
        Whereabouts::Awaited => Found::nowhere(AWAITED),
        Whereabouts::Denied => Found::nowhere(DENIED),
        Whereabouts::Here(alloc) | Whereabouts::Elsewhere(alloc) if alloc.life == Life::Dead => {
            Found::nowhere(ENDED)
        }
        Whereabouts::Here(alloc) | Whereabouts::Elsewhere(alloc) if alloc.life == Life::Stopping => {
            Found::nowhere(STOPPING)
        }
        Whereabouts::Here(alloc) => match here(address, instance, local) {
            Found { address: Ok(_), workload: None, .. } => match own_port(address, instance, alloc) {
                Some(_) => Found::at(address),
                None => Found::nowhere(NOT_ITS_OWN),
            },
            found => found,
        },
        Whereabouts::Elsewhere(alloc) => on_its_node(address, instance, alloc, local),
        // Nomad says the same of one whose namespace the token may not read, and then it is somebody's.
        Whereabouts::Unknown => Found::nowhere(UNKNOWN),
        Whereabouts::Untold if instance.is_on(local.node) => here(address, instance, local),
        Whereabouts::Untold => elsewhere(address, local),
    }
}

fn here(address: SocketAddrV4, instance: &Instance, local: &Local<'_>) -> Found {
    match local.container_at(address, instance) {
        Some((container, address)) => Found {
            address: Ok(address),
            container_port: Some(address.port()),
            workload: Some(container.id.clone()),
        },
        None if local.is_bridged(*address.ip()) => Found::nowhere(NOT_HERE),
        None => Found::at(address),
    }
}

/// The port of its allocation on the node that an instance is registered with. The author of a job chooses what it registers,
/// and the proxy, which connects from the host's own network, is let in where others are not: it must not be led to what the host
/// serves to itself alone, to another user's published port, or to a router.
fn own_port<'a>(address: SocketAddrV4, instance: &Instance, alloc: &'a Alloc) -> Option<&'a AllocPort> {
    let is_nodes = instance.address.is_empty() || instance.node_address.parse() == Ok(*address.ip());
    let mut given = alloc.ports.iter().filter(|port| port.host_port == address.port());
    given.find(|port| port.host_ip == *address.ip() || is_nodes)
}

fn elsewhere(address: SocketAddrV4, local: &Local<'_>) -> Found {
    let ip = address.ip();
    match () {
        () if ip.is_loopback() || ip.is_unspecified() => Found::nowhere(OWN_ADDRESS),
        () if local.is_bridged(*ip) => Found::nowhere(STRANGER),
        () => Found::at(address),
    }
}

/// Where an instance on another node is dialled whose allocation is known: at its node, by the port that it was given there. With a
/// network of its own it may be registered with its container's address, which somebody else may have here.
fn on_its_node(address: SocketAddrV4, instance: &Instance, alloc: &Alloc, local: &Local<'_>) -> Found {
    if let Some(port) = own_port(address, instance, alloc) {
        return Found { container_port: Some(port.to), ..elsewhere(address, local) };
    }
    let node = instance.node_address.parse::<Ipv4Addr>().ok();
    let is_nodes = instance.address.is_empty()
        || node == Some(*address.ip())
        || alloc.ports.iter().any(|port| port.host_ip == *address.ip());
    let inside = alloc.ports.iter().find(|port| port.to == address.port()).filter(|_| !is_nodes);
    let dialled = inside.and_then(|port| {
        let ip = if port.host_ip.is_unspecified() { node? } else { port.host_ip };
        Some((port, SocketAddrV4::new(ip, port.host_port)))
    });
    match dialled {
        Some((port, address)) => Found { container_port: Some(port.to), ..elsewhere(address, local) },
        None if matches!(alloc.network, AllocNetwork::Bridge { .. }) => Found::nowhere(STRANGER),
        None => Found::nowhere(NOT_ITS_OWN),
    }
}
