//! Which container of this host has an address.

use std::{
    collections::{BTreeMap, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use ipnet::Ipv4Net;
use steppe_model::{Mac, Protocol};

use super::{
    UserFrom,
    allocs::Allocs,
    networks::Networks,
    provider::subnet,
    workload::{Workload, alloc_of, registered_alloc},
};
use crate::{
    multimap::MultiMap,
    observe::{Container, Instance},
};

/// The containers of this host by what they can be found by.
#[derive(Debug, Default)]
pub struct Index {
    by_ip: MultiMap<Ipv4Addr, Arc<str>>,
    by_host_port: MultiMap<u16, Arc<str>>,
    by_alloc: MultiMap<Arc<str>, Arc<str>>,
    by_mac: MultiMap<Mac, Arc<str>>,
    by_bridge: MultiMap<Arc<str>, Arc<str>>,
    /// Subnets of the bridges, with the number of attachments in each.
    subnets: HashMap<Ipv4Net, usize>,
}

impl Index {
    /// Adds a container. Tells whether a subnet is new.
    pub fn add(&mut self, container: &Container) -> bool {
        let mut new_subnet = false;
        for attachment in &container.attachments {
            self.by_ip.insert(attachment.ip, container.id.clone());
            self.by_bridge.insert(attachment.bridge.clone(), container.id.clone());
            if let Some(mac) = attachment.mac {
                self.by_mac.insert(mac, container.id.clone());
            }
            let attached = self.subnets.entry(subnet(attachment)).or_default();
            *attached += 1;
            new_subnet |= *attached == 1;
        }
        for port in &container.published {
            self.by_host_port.insert(port.host_port, container.id.clone());
        }
        if let Some(alloc) = alloc_of(container) {
            self.by_alloc.insert(alloc.into(), container.id.clone());
        }
        new_subnet
    }

    /// Removes a container as it was added. Tells whether a subnet is gone.
    pub fn remove(&mut self, container: &Container) -> bool {
        let mut gone_subnet = false;
        for attachment in &container.attachments {
            self.by_ip.remove(&attachment.ip, &container.id);
            self.by_bridge.remove(&attachment.bridge, &container.id);
            if let Some(mac) = &attachment.mac {
                self.by_mac.remove(mac, &container.id);
            }
            let block = subnet(attachment);
            if let Some(attached) = self.subnets.get_mut(&block) {
                *attached -= 1;
                if *attached == 0 {
                    self.subnets.remove(&block);
                    gone_subnet = true;
                }
            }
        }
        for port in &container.published {
            self.by_host_port.remove(&port.host_port, &container.id);
        }
        if let Some(alloc) = alloc_of(container) {
            self.by_alloc.remove(alloc, &container.id);
        }
        gone_subnet
    }

    /// The containers with a hardware address.
    pub fn of_mac(&self, mac: Mac) -> impl Iterator<Item = &Arc<str>> {
        self.by_mac.get(&mac)
    }

    /// The containers with an address.
    pub fn of_ip(&self, ip: Ipv4Addr) -> impl Iterator<Item = &Arc<str>> {
        self.by_ip.get(&ip)
    }

    /// The containers on a bridge.
    pub fn of_bridge(&self, bridge: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_bridge.get(bridge)
    }

    /// The containers of a Nomad allocation.
    pub fn of_alloc(&self, alloc: &str) -> impl Iterator<Item = &Arc<str>> {
        self.by_alloc.get(alloc)
    }
}

/// This host, for whoever asks what an address means on it.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// The node's name.
    pub node: &'a Arc<str>,
    /// Its containers.
    pub workloads: &'a BTreeMap<Arc<str>, Workload>,
    /// The same, by address.
    pub index: &'a Index,
    /// What Nomad told.
    pub allocs: &'a Allocs,
    /// The networks of users.
    pub networks: &'a Networks,
    /// What says which user an allocation belongs to.
    pub user_from: UserFrom,
}

impl<'a> Local<'a> {
    /// A container by its id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&'a Container> {
        self.workloads.get(id).map(|workload| &workload.container)
    }

    /// Whether an address belongs to a bridge of this host, or to a user's network: those are the same on every host.
    #[must_use]
    pub fn is_bridged(&self, ip: Ipv4Addr) -> bool {
        self.index.subnets.keys().any(|subnet| subnet.contains(&ip)) || self.networks.contains(ip)
    }

    /// The container that answers at the address of a registration on this node, and where it is dialled: at its own address, not
    /// through the port that Docker published. A registration that belongs to a Nomad allocation is never somebody
    /// else's container, though the address may have passed on.
    #[must_use]
    pub fn container_at(
        &self,
        address: SocketAddrV4,
        registered: &Instance,
    ) -> Option<(&'a Container, SocketAddrV4)> {
        let alloc = registered_alloc(registered);
        let ip = *address.ip();
        // A node can register what runs elsewhere, and the port that is published there may be published here as well.
        let here = alloc.is_some()
            || ip.is_loopback()
            || registered.address.is_empty()
            || registered.node_address.parse() == Ok(ip);
        let own = self.index.by_ip.get(address.ip()).filter_map(|id| {
            let container = self.container(id)?;
            Some((container, address))
        });
        let published = self.index.by_host_port.get(&address.port()).filter_map(|id| {
            let container = self.container(id)?;
            let port = container.published.iter().filter(|port| {
                port.host_port == address.port()
                    && (port.host_ip == ip || (here && port.host_ip == Ipv4Addr::UNSPECIFIED))
            });
            // No catalogue says which protocol it means; mostly it is TCP.
            let port = port.min_by_key(|port| port.protocol != Protocol::Tcp)?;
            let attachment = container.attachments.first()?;
            Some((container, SocketAddrV4::new(attachment.ip, port.container_port)))
        });
        own.chain(published).find(|(container, _)| alloc.is_none() || alloc == alloc_of(container))
    }
}
