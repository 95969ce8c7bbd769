//! Which services have registrations of this node with some address: those are looked at again when a container with
//! that address comes or goes.

use std::net::Ipv4Addr;

use steppe_model::ServiceName;

use crate::{
    multimap::MultiMap,
    observe::{Container, Instance},
};

/// Service names by the registered addresses and ports of this node.
#[derive(Debug, Default)]
pub struct NamesByAddress {
    by_ip: MultiMap<Ipv4Addr, ServiceName>,
    by_port: MultiMap<u16, ServiceName>,
}

impl NamesByAddress {
    /// Takes a service's registrations out.
    pub fn remove<'a>(
        &mut self,
        name: &ServiceName,
        instances: impl Iterator<Item = &'a Instance>,
        node: &str,
    ) {
        for instance in instances.filter(|instance| instance.is_on(node)) {
            if let Ok(ip) = instance.address.parse::<Ipv4Addr>() {
                self.by_ip.remove(&ip, name);
            }
            self.by_port.remove(&instance.port, name);
        }
    }

    /// Puts a service's registrations in.
    pub fn add<'a>(&mut self, name: &ServiceName, instances: impl Iterator<Item = &'a Instance>, node: &str) {
        for instance in instances.filter(|instance| instance.is_on(node)) {
            if let Ok(ip) = instance.address.parse() {
                self.by_ip.insert(ip, name.clone());
            }
            self.by_port.insert(instance.port, name.clone());
        }
    }

    /// The services whose registrations may be this container's.
    pub fn of<'a>(&'a self, container: &'a Container) -> impl Iterator<Item = &'a ServiceName> {
        let by_ip = container.attachments.iter().flat_map(|attachment| self.by_ip.get(&attachment.ip));
        let by_port = container.published.iter().flat_map(|port| self.by_port.get(&port.host_port));
        by_ip.chain(by_port)
    }
}
