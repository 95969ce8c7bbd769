//! The planner: what is known, what was planned from it, and what has to be looked at again.

mod bind;
mod compose;
mod learn;
mod members;
mod names;
mod planned;
mod publish;
mod wishes;

pub use bind::workload_id;
pub use compose::meant;
pub use planned::{Attached, Delta, Planned, PlannedPort, PlannedService};
use wishes::Wishes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use steppe_model::{ListenerKey, Resource, ResourceId, ServiceKey, ServiceName, UserName};

use super::{
    Allocator, Ignored, NoPort, Options, Provider, UserFrom, Workload, allocs::Allocs, claims::Claims,
    locate::Index, names::NamesByAddress, networks::Networks, ports::Ports, registered::Registered,
    tenants::Tenants, workload::connect_to_tags,
};
use crate::{
    agent::AgentName,
    multimap::MultiMap,
    observe::{Alloc, Instance, Network, SourceName},
};

/// Plans.
#[derive(Debug)]
pub struct Planner {
    node: Arc<str>,
    options: Options,
    allocator: Allocator,
    ports: Ports,
    networks: Networks,

    workloads: BTreeMap<Arc<str>, Workload>,
    index: Index,
    attached: BTreeMap<Arc<str>, Vec<Attached>>,
    /// The Workload resources of each container.
    bound: BTreeMap<Arc<str>, BTreeMap<ResourceId, Planned>>,

    /// The published ports of each container.
    published: Claims,
    /// What dns is told of each container.
    names: Claims,

    registered: Registered,
    instances: BTreeMap<ServiceName, BTreeMap<SourceName, Vec<Instance>>>,
    allocs: Allocs,
    /// Whether the allocations elsewhere that must be known may have changed.
    are_allocs_dirty: bool,
    names_by_address: NamesByAddress,
    offers: MultiMap<ServiceName, Arc<str>>,
    consumers: MultiMap<ServiceName, Arc<str>>,
    tenants: Tenants,
    /// The workloads that ask for a service which may be this user's.
    asked_of: MultiMap<(ServiceName, UserName), Arc<str>>,

    services: BTreeMap<ServiceKey, PlannedService>,
    /// The services of each name that are asked for.
    keys: BTreeMap<ServiceName, BTreeSet<ServiceKey>>,
    /// What of a service's settings makes no sense.
    ignored: BTreeMap<ServiceName, Vec<Ignored>>,

    wishes: Wishes,
    /// Resources of networks and doors that are to be told.
    told: Vec<(ResourceId, Option<Planned>)>,

    dirty_workloads: BTreeSet<Arc<str>>,
    /// Those of whom dns may have to be told something else.
    dirty_askers: BTreeSet<Arc<str>>,
    dirty_names: BTreeSet<ServiceName>,
    /// Of the names that somebody began or ceased to ask for since the last plan: whether they were wanted then.
    wanted_before: BTreeMap<ServiceName, bool>,
    /// The same of the users that a service is asked of.
    asked_of_before: BTreeMap<(ServiceName, UserName), bool>,
}

impl Planner {
    /// Plans for the node with this name.
    #[must_use]
    pub fn new(node: Arc<str>, allocator: Allocator, options: Options) -> Self {
        Self {
            node,
            networks: Networks::new(options.user_cidr),
            options,
            allocator,
            ports: Ports::default(),
            workloads: BTreeMap::new(),
            index: Index::default(),
            attached: BTreeMap::new(),
            bound: BTreeMap::new(),
            published: Claims::default(),
            names: Claims::default(),
            registered: Registered::default(),
            instances: BTreeMap::new(),
            allocs: Allocs::default(),
            are_allocs_dirty: false,
            names_by_address: NamesByAddress::default(),
            offers: MultiMap::default(),
            consumers: MultiMap::default(),
            tenants: Tenants::default(),
            asked_of: MultiMap::default(),
            services: BTreeMap::new(),
            keys: BTreeMap::new(),
            ignored: BTreeMap::new(),
            wishes: Wishes::default(),
            told: Vec::new(),
            dirty_workloads: BTreeSet::new(),
            dirty_askers: BTreeSet::new(),
            dirty_names: BTreeSet::new(),
            wanted_before: BTreeMap::new(),
            asked_of_before: BTreeMap::new(),
        }
    }

    /// Keeps the choices of an earlier life that an agent still has in force.
    pub fn keep(&mut self, resource: &Resource) {
        match resource {
            Resource::Listener(listener) => self.allocator.keep_listener(&listener.key, listener.address),
            Resource::VirtualIp(virtual_ip) => self.allocator.keep_vip(&virtual_ip.service, virtual_ip.vip),
            Resource::ServicePort(port) => {
                let key = ListenerKey { service: port.service.clone(), port: port.port };
                if let Some(listener) = port.listener {
                    self.allocator.keep_listener(&key, listener);
                }
            }
            Resource::Network(network) => {
                let changed = self.networks.keep(network);
                self.take_networks(changed);
            }
            Resource::Doors(doors) => self.set_doors(doors.clone(), false),
            Resource::Workload(workload) => {
                let touched = self.ports.keep(workload.port_ifindex, bind::container_of(&workload.id));
                self.touch_ports(touched);
            }
            Resource::Client(_)
            | Resource::Grant(_)
            | Resource::Takeover(_)
            | Resource::PublishedPort(_)
            | Resource::Asker(_)
            | Resource::Member(_) => {}
        }
    }

    /// Gives up the kept choices that no service needs. Call it when everything has been listed and planned.
    pub fn release_unused(&mut self) {
        self.ports.forget_kept();
        let services = &self.services;
        self.allocator.retain(
            |key| services.contains_key(key),
            |key| services.get(&key.service).is_some_and(|service| service.ports.contains_key(&key.port)),
        );
    }

    /// Whether the bridge ports have been listed.
    #[must_use]
    pub fn knows_ports(&self) -> bool {
        self.ports.changes() > 0
    }

    /// Whether the networks have been listed.
    #[must_use]
    pub fn knows_networks(&self) -> bool {
        self.networks.are_listed()
    }

    /// Whether Nomad has yet to tell the services of a user who has a member here.
    #[must_use]
    pub fn has_untold_tenant(&self) -> bool {
        self.tenants.has_untold()
    }

    /// Whether Docker must be asked again about some container, as [`Delta::reread`] says: what is in force for it could not be
    /// told from a predecessor's.
    #[must_use]
    pub fn has_unproven(&self) -> bool {
        self.attached.values().flatten().any(|attached| attached.port == Err(NoPort::Unproven))
    }

    /// The names of the services that this host's workloads ask for.
    pub fn wanted(&self) -> impl Iterator<Item = &ServiceName> {
        self.consumers.keys()
    }

    /// The same, with the users whose service may be meant: who vouches for users need look for theirs alone. Where a user's
    /// jobs may be in any namespace, those stand in their place.
    #[must_use]
    pub fn wanted_by_user(&self) -> BTreeMap<ServiceName, BTreeSet<UserName>> {
        if self.options.user_from != UserFrom::Namespace {
            let namespaces = self.namespaces();
            return self.wanted().map(|name| (name.clone(), namespaces.clone())).collect();
        }
        let mut wanted: BTreeMap<_, _> = self.wanted().map(|name| (name.clone(), BTreeSet::new())).collect();
        for (name, user) in self.asked_of.keys() {
            wanted.entry(name.clone()).or_default().insert(user.clone());
        }
        wanted
    }

    /// The services that are asked for, and of which one of these catalogues has not said all yet.
    #[must_use]
    pub fn unanswered(&self, catalogues: &[SourceName]) -> BTreeSet<&ServiceName> {
        let is_answered = |name: &ServiceName| {
            let known = self.instances.get(name);
            catalogues.iter().all(|source| known.is_some_and(|known| known.contains_key(source)))
        };
        let unanswered = self.consumers.keys().filter(|name| !is_answered(name));
        unanswered.chain(self.allocs.awaited()).collect()
    }

    /// The allocation of this node with this id.
    #[must_use]
    pub fn alloc(&self, id: &str) -> Option<&Alloc> {
        self.allocs.own(id).map(|alloc| &**alloc)
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// The networks of users.
    pub fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.iter()
    }

    /// The services that are asked for.
    #[must_use]
    pub fn services(&self) -> &BTreeMap<ServiceKey, PlannedService> {
        &self.services
    }

    /// The containers of this host, with their attachments.
    pub fn workloads(&self) -> impl Iterator<Item = (&Workload, &[Attached])> {
        self.workloads.keys().filter_map(|id| self.workload(id))
    }

    /// One of them, by its id.
    #[must_use]
    pub fn workload(&self, id: &str) -> Option<(&Workload, &[Attached])> {
        let workload = self.workloads.get(id)?;
        Some((workload, self.attached.get(id).map_or(&[][..], Vec::as_slice)))
    }

    /// All input that is left out.
    pub fn ignored(&self) -> impl Iterator<Item = Ignored> {
        let of_workloads = self.workloads.values().flat_map(|workload| &workload.ignored);
        let malformed = of_workloads.chain(self.ignored.values().flatten()).cloned();
        let left_out = self.workloads.values().filter_map(Workload::left_out);
        malformed
            .chain(left_out)
            .chain(self.registered.iter().filter_map(|instance| self.speaks_for_nobody(instance)))
    }

    /// A registration that asks for something, and that no container of this host has.
    fn speaks_for_nobody(&self, instance: &Instance) -> Option<Ignored> {
        let asked: Vec<_> = connect_to_tags(instance).collect();
        if asked.is_empty() || !self.containers_of(instance).is_empty() {
            return None;
        }
        Some(Ignored::new(
            &format!("tag of Consul service {}", instance.id),
            format!("connect_to={}", asked.join(",")),
            "no container of this host has the registered address and port: register the container's own address, \
             or a port that it publishes",
        ))
    }

    /// Plans again what was touched, and tells what changed.
    pub fn plan(&mut self, now: Instant) -> Delta {
        let mut delta = Delta::default();
        // What workloads are on comes before them.
        delta.tell(AgentName::NetfilterAgent, std::mem::take(&mut self.told));
        let dirty = std::mem::take(&mut self.dirty_workloads);
        for id in &dirty {
            self.plan_workload(id, &mut delta);
        }
        self.imply(&dirty, &mut delta);
        for (name, before) in std::mem::take(&mut self.wanted_before) {
            let wanted = self.consumers.contains_key(&name);
            delta.wanted_changed |= wanted != before;
            if !wanted {
                // Nobody watches it any more, so what was known of it must not be believed later.
                self.replace_instances(name, BTreeMap::clear);
            }
        }
        for (asked, before) in std::mem::take(&mut self.asked_of_before) {
            delta.wanted_changed |= self.asked_of.contains_key(&asked) != before;
        }
        for name in std::mem::take(&mut self.dirty_names) {
            self.plan_name(&name, now, &mut delta);
        }
        for id in std::mem::take(&mut self.dirty_askers) {
            self.plan_asker(&id);
        }
        delta.tell(AgentName::NetfilterAgent, self.published.take_changed());
        delta.tell(AgentName::Dns, self.names.take_changed());
        if std::mem::take(&mut self.are_allocs_dirty) {
            delta.wanted_allocs = self.allocs.wanted();
        }
        delta.services_of = self.tenants.watched();
        self.wish(&dirty, &mut delta);
        delta
    }
}

#[cfg(test)]
mod tests;
