//! The planner: what is known, what was planned from it, and what has to be looked at again.

mod compose;

pub use compose::workload_id;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};

use steppe_model::{ListenerKey, Resource, ResourceId, ServiceKey, ServiceName, VirtualPort};

use super::{
    Allocator, BridgePort, Ignored, NoPort, PortChange, Provider, Workload,
    locate::{Index, Local},
    names::NamesByAddress,
    ports::Ports,
    service::Routing,
    workload::{connect_to_tags, registered_alloc},
};
use crate::{
    agent::AgentName,
    multimap::MultiMap,
    observe::{Attachment, Container, Instance, Observation},
};

/// A resource, and what must be in force on the proxy before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What an agent must make true.
    pub resource: Arc<Resource>,
    /// Resources of the proxy without which it would lead into the void.
    pub requires: Vec<ResourceId>,
}

impl Planned {
    fn new(resource: Resource) -> Self {
        Self { resource: Arc::new(resource), requires: Vec::new() }
    }
}

/// What changed since the last plan.
#[derive(Debug, Default)]
pub struct Delta {
    /// Resources, in the order in which they should be sent; `None` for those that shall no longer be.
    pub resources: Vec<(AgentName, ResourceId, Option<Planned>)>,
    /// Whether [`Planner::wanted`] changed.
    pub wanted_changed: bool,
    /// Containers that Docker must be asked about again.
    pub reread: BTreeSet<Arc<str>>,
    /// Input that was not ignored before.
    pub ignored: Vec<Ignored>,
}

/// An attachment, and the bridge port that it was found behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The container's address.
    pub attachment: Attachment,
    /// Its bridge port.
    pub port: Result<BridgePort, NoPort>,
}

/// One service that some workload of this host asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedService {
    /// Its virtual IP; `None` when none is left.
    pub vip: Option<Ipv4Addr>,
    /// Its instances, those that can't be dialled included.
    pub providers: Vec<Provider>,
    /// The ports that grants name.
    pub ports: BTreeMap<VirtualPort, PlannedPort>,
    /// The containers that ask for it, and whether they may.
    pub consumers: BTreeMap<Arc<str>, Result<(), String>>,
    /// Since when it has had no endpoint.
    pub empty_since: Option<Instant>,
    resources: BTreeMap<(AgentName, ResourceId), Planned>,
}

/// A port of a service that some grant names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPort {
    /// The proxy's listener, when there is an instance.
    pub listener: Option<SocketAddrV4>,
    /// Where its connections go.
    pub routing: Routing,
}

/// Plans.
#[derive(Debug)]
pub struct Planner {
    node: Arc<str>,
    allocator: Allocator,
    ports: Ports,

    workloads: BTreeMap<Arc<str>, Workload>,
    index: Index,
    attached: BTreeMap<Arc<str>, Vec<Attached>>,
    /// The Workload resources of each container.
    bound: BTreeMap<Arc<str>, BTreeMap<ResourceId, Planned>>,

    /// Registrations of this node that ask for something.
    asking: Vec<Instance>,
    instances: BTreeMap<ServiceName, Vec<Instance>>,
    names_by_address: NamesByAddress,
    offers: MultiMap<ServiceName, Arc<str>>,
    consumers: MultiMap<ServiceName, Arc<str>>,

    services: BTreeMap<ServiceKey, PlannedService>,
    /// The services of each name that are asked for.
    keys: BTreeMap<ServiceName, BTreeSet<ServiceKey>>,
    /// What of a service's settings makes no sense.
    ignored: BTreeMap<ServiceName, Vec<Ignored>>,

    dirty_workloads: BTreeSet<Arc<str>>,
    dirty_names: BTreeSet<ServiceName>,
    /// Of the names that somebody began or ceased to ask for since the last plan: whether they were wanted then.
    wanted_before: BTreeMap<ServiceName, bool>,
}

impl Planner {
    /// Plans for the node with this name.
    #[must_use]
    pub fn new(node: Arc<str>, allocator: Allocator) -> Self {
        Self {
            node,
            allocator,
            ports: Ports::default(),
            workloads: BTreeMap::new(),
            index: Index::default(),
            attached: BTreeMap::new(),
            bound: BTreeMap::new(),
            asking: Vec::new(),
            instances: BTreeMap::new(),
            names_by_address: NamesByAddress::default(),
            offers: MultiMap::default(),
            consumers: MultiMap::default(),
            services: BTreeMap::new(),
            keys: BTreeMap::new(),
            ignored: BTreeMap::new(),
            dirty_workloads: BTreeSet::new(),
            dirty_names: BTreeSet::new(),
            wanted_before: BTreeMap::new(),
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
            Resource::Client(_) | Resource::Workload(_) | Resource::Grant(_) | Resource::Takeover(_) => {}
        }
    }

    /// Gives up the kept choices that no service needs. Call it when everything has been listed and planned.
    pub fn release_unused(&mut self) {
        let services = &self.services;
        self.allocator.retain(
            |key| services.contains_key(key),
            |key| services.get(&key.service).is_some_and(|service| service.ports.contains_key(&key.port)),
        );
    }

    /// Takes in what a source tells.
    pub fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Containers(containers) => {
                let listed: BTreeSet<_> = containers.iter().map(|container| container.id.clone()).collect();
                let gone: Vec<_> =
                    self.workloads.keys().filter(|id| !listed.contains(*id)).cloned().collect();
                gone.iter().for_each(|id| self.forget(id));
                containers.into_iter().for_each(|container| self.learn(container));
            }
            Observation::Container(container) => self.learn(container),
            Observation::ContainerGone(id) => self.forget(&id),
            Observation::Registrations { node, instances } => self.register(node, instances),
            Observation::Instances(_, name, instances) if self.consumers.contains_key(&name) => {
                self.list(name, instances);
            }
            // An answer that was under way when the last consumer went.
            Observation::Instances(..) => {}
            Observation::Allocs(_) | Observation::AllocElsewhere(..) => {}
            Observation::Live(_) | Observation::Failed(..) => {}
        }
    }

    /// Takes in what the netfilter-agent tells of bridge ports, and returns how many changes were taken in so far.
    pub fn observe_port(&mut self, change: PortChange) -> u64 {
        for mac in self.ports.apply(change) {
            self.dirty_workloads.extend(self.index.of_mac(mac).cloned());
        }
        self.ports.changes()
    }

    /// Whether the bridge ports have been listed.
    #[must_use]
    pub fn knows_ports(&self) -> bool {
        self.ports.changes() > 0
    }

    /// Whether Docker must be asked again about some container, as [`Delta::reread`] says: what is in force for it could not be
    /// told from a predecessor's.
    #[must_use]
    pub fn has_unproven(&self) -> bool {
        self.attached.values().flatten().any(|attached| attached.port == Err(NoPort::Unproven))
    }

    fn learn(&mut self, container: Container) {
        let id = container.id.clone();
        let is_bound = self.attached.get(&id).is_some_and(|all| all.iter().all(|one| one.port.is_ok()));
        if let Some(known) = self.workloads.get_mut(&id).filter(|_| is_bound)
            && known.container.same_facts(&container)
        {
            known.container.ports_known = container.ports_known;
            return;
        }
        let unchanged_subnets = match self.workloads.get(&id) {
            Some(known) if known.container.same_place(&container) => true,
            Some(_) => {
                let gone = self.unplace(&id);
                !(self.place(&container) || gone)
            }
            None => !self.place(&container),
        };
        if !unchanged_subnets {
            self.dirty_names.extend(self.instances.keys().cloned());
        }
        // What it asks for is found out when the plan is made.
        let workload = match self.workloads.remove(&id) {
            Some(known) => Workload { container, ..known },
            None => Workload::bare(container),
        };
        self.workloads.insert(id.clone(), workload);
        self.dirty_workloads.insert(id);
    }

    fn forget(&mut self, id: &Arc<str>) {
        if self.workloads.contains_key(id) {
            if self.unplace(id) {
                self.dirty_names.extend(self.instances.keys().cloned());
            }
            self.dirty_workloads.insert(id.clone());
            if let Some(workload) = self.workloads.remove(id) {
                self.index_asked(&workload, false);
            }
        }
    }

    fn place(&mut self, container: &Container) -> bool {
        self.dirty_names.extend(self.names_by_address.of(container).cloned());
        self.index.add(container)
    }

    fn unplace(&mut self, id: &Arc<str>) -> bool {
        let Some(workload) = self.workloads.get(id) else { return false };
        self.dirty_names.extend(self.names_by_address.of(&workload.container).cloned());
        self.index.remove(&workload.container)
    }

    /// Adds or removes what a workload asks for and offers.
    fn index_asked(&mut self, workload: &Workload, present: bool) {
        let id = &workload.container.id;
        let names = workload.names().into_iter().map(|name| (name, true));
        let offer = workload.offer.iter().map(|offer| (offer.name.clone(), false));
        for (name, asks) in names.chain(offer) {
            if asks {
                let wanted = self.consumers.contains_key(&name);
                self.wanted_before.entry(name.clone()).or_insert(wanted);
            }
            let map = if asks { &mut self.consumers } else { &mut self.offers };
            if present {
                map.insert(name.clone(), id.clone());
            } else {
                map.remove(&name, id);
            }
            self.dirty_names.insert(name);
        }
    }

    fn register(&mut self, node: Arc<str>, instances: Vec<Instance>) {
        if self.node != node {
            self.node = node;
            self.names_by_address = NamesByAddress::default();
            for (name, instances) in &self.instances {
                self.names_by_address.replace(name, &[], instances, &self.node);
            }
            self.dirty_names.extend(self.consumers.keys().cloned());
        }
        let asking: Vec<_> =
            instances.into_iter().filter(|instance| connect_to_tags(instance).next().is_some()).collect();
        let old = std::mem::replace(&mut self.asking, asking);
        let changed = (old.iter().filter(|instance| !self.asking.contains(instance)))
            .chain(self.asking.iter().filter(|instance| !old.contains(instance)));
        let touched: BTreeSet<_> = changed.flat_map(|instance| self.containers_of(instance)).collect();
        self.dirty_workloads.extend(touched);
    }

    /// The containers that a registration of this node speaks for.
    fn containers_of(&self, instance: &Instance) -> Vec<Arc<str>> {
        if let Some(alloc) = registered_alloc(instance) {
            return self.index.of_alloc(alloc).cloned().collect();
        }
        let text = if instance.address.is_empty() { &instance.node_address } else { &instance.address };
        let Ok(ip) = text.parse() else { return Vec::new() };
        let found = self.local().container_at(SocketAddrV4::new(ip, instance.port), instance);
        found.map(|(container, _)| container.id.clone()).into_iter().collect()
    }

    fn local(&self) -> Local<'_> {
        Local { node: &self.node, workloads: &self.workloads, index: &self.index }
    }

    fn list(&mut self, name: ServiceName, instances: Vec<Instance>) {
        let old = self.instances.get(&name).map_or(&[][..], Vec::as_slice);
        self.names_by_address.replace(&name, old, &instances, &self.node);
        self.instances.insert(name.clone(), instances);
        self.dirty_names.insert(name);
    }

    /// The names of the services that this host's workloads ask for.
    pub fn wanted(&self) -> impl Iterator<Item = &ServiceName> {
        self.consumers.keys()
    }

    /// The services that are asked for, and for which the catalogue has not answered yet.
    pub fn unanswered(&self) -> impl Iterator<Item = &ServiceName> {
        self.consumers.keys().filter(|name| !self.instances.contains_key(*name))
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &Arc<str> {
        &self.node
    }

    /// The services that are asked for.
    #[must_use]
    pub fn services(&self) -> &BTreeMap<ServiceKey, PlannedService> {
        &self.services
    }

    /// The containers of this host, with their attachments.
    pub fn workloads(&self) -> impl Iterator<Item = (&Workload, &[Attached])> {
        self.workloads.values().map(|workload| {
            let attached = self.attached.get(&workload.container.id).map_or(&[][..], Vec::as_slice);
            (workload, attached)
        })
    }

    /// All input that is left out.
    pub fn ignored(&self) -> impl Iterator<Item = Ignored> {
        let of_workloads = self.workloads.values().flat_map(|workload| &workload.ignored);
        let malformed = of_workloads.chain(self.ignored.values().flatten()).cloned();
        malformed.chain(self.asking.iter().filter_map(|instance| self.speaks_for_nobody(instance)))
    }

    /// A registration that asks for something, and that no container of this host has.
    fn speaks_for_nobody(&self, instance: &Instance) -> Option<Ignored> {
        if !self.containers_of(instance).is_empty() {
            return None;
        }
        let asked: Vec<_> = connect_to_tags(instance).collect();
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
        for id in std::mem::take(&mut self.dirty_workloads) {
            self.plan_workload(&id, &mut delta);
        }
        for (name, before) in std::mem::take(&mut self.wanted_before) {
            let wanted = self.consumers.contains_key(&name);
            delta.wanted_changed |= wanted != before;
            if !wanted {
                // Nobody watches it any more, so what was known of it must not be believed later.
                self.list(name.clone(), Vec::new());
                self.instances.remove(&name);
            }
        }
        for name in std::mem::take(&mut self.dirty_names) {
            self.plan_name(&name, now, &mut delta);
        }
        delta
    }
}

#[cfg(test)]
mod tests;
