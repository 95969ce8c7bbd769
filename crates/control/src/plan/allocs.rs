//! What Nomad told of allocations: those of this node, and those elsewhere that instances of services belong to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{Protocol, ServiceName};

use super::workload::{ALLOC_LABEL, registered_alloc};
use crate::{
    multimap::MultiMap,
    observe::{Alloc, AllocNetwork, Attachment, Container, Elsewhere, Health, Instance, Life, PublishedPort},
};

/// The name of the bridge that Nomad makes for its bridge mode, unless `bridge_network_name` says otherwise, and of its CNI
/// network.
const NOMAD_BRIDGE: &str = "nomad";
/// Nomad's `bridge_network_subnet` is 172.26.64.0/20 unless a client says otherwise.
const NOMAD_PREFIX: u8 = 20;

/// The allocations known.
#[derive(Debug, Default)]
pub struct Allocs {
    /// Those of this node; `None` until Nomad has listed them, and for good where Nomad is no source.
    own: Option<BTreeMap<Arc<str>, Arc<Alloc>>>,
    elsewhere: BTreeMap<Arc<str>, Elsewhere>,
    /// The services that have an instance of an allocation.
    names: MultiMap<Arc<str>, ServiceName>,
    /// What [`Allocs::wanted`] was when it was asked last.
    wanted: BTreeSet<Arc<str>>,
}

/// What is known of the allocation that an instance belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Whereabouts<'a> {
    /// It belongs to none, or Nomad is no source.
    Untold,
    /// It is on this node.
    Here(&'a Alloc),
    /// It is on another.
    Elsewhere(&'a Alloc),
    /// Nomad does not know it.
    Unknown,
    /// The token may not know it.
    Denied,
    /// Nomad was asked, and has not answered.
    Awaited,
}

impl Allocs {
    /// Takes in the allocations of this node, and tells which have changed, come or gone.
    pub fn list(&mut self, allocs: Vec<Arc<Alloc>>) -> BTreeSet<Arc<str>> {
        let new: BTreeMap<_, _> = allocs.into_iter().map(|alloc| (alloc.id.clone(), alloc)).collect();
        let old = self.own.replace(new).unwrap_or_default();
        let new = self.own.iter().flatten();
        let mut changed: BTreeSet<_> =
            new.filter(|(id, alloc)| old.get(*id) != Some(alloc)).map(|(id, _)| id.clone()).collect();
        changed.extend(old.into_keys().filter(|id| self.own(id).is_none()));
        changed
    }

    /// Takes in what Nomad says of one on another node.
    pub fn learn(&mut self, id: Arc<str>, elsewhere: Elsewhere) {
        // An answer may come after the last instance has gone.
        if self.names.contains_key(&id) {
            self.elsewhere.insert(id, elsewhere);
        }
    }

    /// Puts the allocations of a service's instances in the place of its former ones'.
    pub fn replace(&mut self, name: &ServiceName, old: &BTreeSet<Arc<str>>, new: &BTreeSet<Arc<str>>) {
        for id in old.difference(new) {
            self.names.remove(id, name);
            if !self.names.contains_key(id) {
                self.elsewhere.remove(id);
            }
        }
        for id in new.difference(old) {
            self.names.insert(id.clone(), name.clone());
        }
    }

    /// One of this node's.
    #[must_use]
    pub fn own(&self, id: &str) -> Option<&Arc<Alloc>> {
        self.own.as_ref()?.get(id)
    }

    /// The namespaces of this node's.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<str>> {
        self.own.iter().flatten().map(|(_, alloc)| &alloc.namespace)
    }

    /// Whether Nomad has listed this node's.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        self.own.is_some()
    }

    /// The services that have an instance of some allocation.
    pub fn all_names(&self) -> BTreeSet<ServiceName> {
        self.names.keys().flat_map(|id| self.names.get(id)).cloned().collect()
    }

    /// The services that have an instance of this allocation.
    pub fn names(&self, id: &str) -> impl Iterator<Item = &ServiceName> {
        self.names.get(id)
    }

    /// What is known of an instance's allocation.
    #[must_use]
    pub fn of(&self, instance: &Instance) -> Whereabouts<'_> {
        let (Some(own), Some(id)) = (&self.own, registered_alloc(instance)) else {
            return Whereabouts::Untold;
        };
        match (own.get(id), self.elsewhere.get(id)) {
            (Some(alloc), _) => Whereabouts::Here(alloc),
            (None, Some(Elsewhere::Found(alloc))) => Whereabouts::Elsewhere(alloc),
            (None, Some(Elsewhere::Unknown)) => Whereabouts::Unknown,
            (None, Some(Elsewhere::Denied)) => Whereabouts::Denied,
            (None, None) => Whereabouts::Awaited,
        }
    }

    /// The allocations elsewhere that Nomad must be asked about, when they have changed since this was called last.
    pub fn wanted(&mut self) -> Option<BTreeSet<Arc<str>>> {
        let own = self.own.as_ref()?;
        let wanted: BTreeSet<_> = self.names.keys().filter(|id| !own.contains_key(*id)).cloned().collect();
        if wanted == self.wanted {
            return None;
        }
        self.wanted.clone_from(&wanted);
        Some(wanted)
    }

    /// The services of which Nomad has yet to say whose some instance is.
    pub fn awaited(&self) -> impl Iterator<Item = &ServiceName> {
        let own = self.own.as_ref();
        let is_awaited = move |id: &Arc<str>| {
            own.is_some_and(|own| !own.contains_key(id)) && !self.elsewhere.contains_key(id)
        };
        self.names.keys().filter(move |id| is_awaited(id)).flat_map(|id| self.names.get(id))
    }
}

/// An allocation that is a workload itself, for its tasks have no address of their own: what a container would be.
/// Docker knows nothing of its address, nor does Nomad of its hardware address.
#[must_use]
pub fn as_container(alloc: &Alloc) -> Option<Container> {
    if alloc.life == Life::Dead {
        return None;
    }
    let (address, ports_known) = match alloc.network {
        AllocNetwork::Task => return None,
        AllocNetwork::Host | AllocNetwork::Other(_) => (None, 0),
        AllocNetwork::Bridge { address, ports_known } => (address, ports_known),
    };
    let attachment = |ip| Attachment {
        network: NOMAD_BRIDGE.into(),
        bridge: NOMAD_BRIDGE.into(),
        ip,
        prefix_len: NOMAD_PREFIX,
        mac: None,
    };
    // Nomad leads both protocols of a port to the allocation.
    let published = alloc.ports.iter().flat_map(|port| {
        [Protocol::Tcp, Protocol::Udp].map(|protocol| PublishedPort {
            protocol,
            host_ip: port.host_ip.into(),
            host_port: port.host_port,
            container_port: port.to,
        })
    });
    Some(Container {
        id: alloc.id.clone(),
        name: alloc.name.clone(),
        labels: BTreeMap::from([(ALLOC_LABEL.to_owned(), alloc.id.to_string())]),
        attachments: address.map(attachment).into_iter().collect(),
        published: published.collect(),
        aliases: Vec::new(),
        health: Health::Passing,
        ports_known,
    })
}
