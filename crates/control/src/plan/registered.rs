//! What is registered on this node, by what its container can be found by.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use super::{
    dial::registered_address,
    workload::{alloc_of, registered_alloc},
};
use crate::{
    multimap::MultiMap,
    observe::{Container, Instance},
};

/// The registrations of this node.
#[derive(Debug, Default)]
pub struct Registered {
    /// By the id, which is unique on a node.
    by_id: BTreeMap<Arc<str>, Instance>,
    by_alloc: MultiMap<Arc<str>, Arc<str>>,
    by_ip: MultiMap<Ipv4Addr, Arc<str>>,
    by_port: MultiMap<u16, Arc<str>>,
}

impl Registered {
    /// Takes in all that there are, and returns those that were and those that are, of which the other has not the same.
    pub fn list(&mut self, instances: Vec<Instance>) -> Vec<Instance> {
        let new: BTreeMap<_, _> =
            instances.into_iter().map(|instance| (instance.id.clone(), instance)).collect();
        let mut changed = Vec::new();
        let is_other = |all: &BTreeMap<_, _>, own: &Instance| all.get(&own.id) != Some(own);
        changed.extend(self.by_id.values().filter(|old| is_other(&new, old)).cloned());
        changed.iter().for_each(|old| self.remove(old));
        let added: Vec<_> = new.into_values().filter(|new| is_other(&self.by_id, new)).collect();
        added.iter().for_each(|new| self.add(new));
        changed.extend(added);
        changed
    }

    fn add(&mut self, instance: &Instance) {
        let id = &instance.id;
        if let Some(alloc) = registered_alloc(instance) {
            self.by_alloc.insert(alloc.into(), id.clone());
        }
        if let Ok(ip) = registered_address(instance).parse() {
            self.by_ip.insert(ip, id.clone());
        }
        self.by_port.insert(instance.port, id.clone());
        self.by_id.insert(id.clone(), instance.clone());
    }

    fn remove(&mut self, instance: &Instance) {
        let id = &instance.id;
        if let Some(alloc) = registered_alloc(instance) {
            self.by_alloc.remove(alloc, id);
        }
        if let Ok(ip) = registered_address(instance).parse::<Ipv4Addr>() {
            self.by_ip.remove(&ip, id);
        }
        self.by_port.remove(&instance.port, id);
        self.by_id.remove(id);
    }

    /// Those that may be a container's, in the order of their ids.
    #[must_use]
    pub fn near(&self, container: &Container) -> Vec<&Instance> {
        let by_alloc = alloc_of(container).into_iter().flat_map(|alloc| self.by_alloc.get(alloc));
        let by_ip = container.attachments.iter().flat_map(|attachment| self.by_ip.get(&attachment.ip));
        let by_port = container.published.iter().flat_map(|port| self.by_port.get(&port.host_port));
        let ids: BTreeSet<_> = by_alloc.chain(by_ip).chain(by_port).collect();
        ids.into_iter().filter_map(|id| self.by_id.get(id)).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Instance> {
        self.by_id.values()
    }
}
