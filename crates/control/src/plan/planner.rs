//! The planner: what is known, what was planned from it, and what has to be looked at again.

mod compose;

pub use compose::workload_id;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};

use steppe_model::{ListenerKey, Mac, Resource, ResourceId, ServiceKey, ServiceName, VirtualPort};

use super::{
    Allocator, BridgePort, Ignored, NoPort, PortChange, Provider, Workload,
    allocs::{Allocs, as_container},
    locate::{Index, Local},
    names::NamesByAddress,
    ports::Ports,
    service::Routing,
    workload::{alloc_of, connect_to_tags, registered_alloc},
};
use crate::{
    agent::AgentName,
    multimap::MultiMap,
    observe::{Alloc, Attachment, Container, Instance, Observation, SourceName},
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
    /// Allocations of this node whose address must be read again.
    pub reread_allocs: BTreeSet<Arc<str>>,
    /// The allocations elsewhere that Nomad must be asked about, when they changed.
    pub wanted_allocs: Option<BTreeSet<Arc<str>>>,
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

impl Attached {
    /// The hardware address that it sends from, as its source or else the kernel says.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        self.attachment.mac.or_else(|| Some(self.port.as_ref().ok()?.mac))
    }
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
    instances: BTreeMap<ServiceName, BTreeMap<SourceName, Vec<Instance>>>,
    allocs: Allocs,
    /// Whether the allocations elsewhere that must be known may have changed.
    are_allocs_dirty: bool,
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
            allocs: Allocs::default(),
            are_allocs_dirty: false,
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
                // Docker says nothing of allocations.
                let is_gone = |id: &Arc<str>| !listed.contains(id) && self.allocs.own(id).is_none();
                let gone: Vec<_> = self.workloads.keys().filter(|id| is_gone(id)).cloned().collect();
                gone.iter().for_each(|id| self.forget(id));
                containers.into_iter().for_each(|container| self.learn(container));
            }
            Observation::Container(container) => self.learn(container),
            Observation::ContainerGone(id) => self.forget(&id),
            Observation::Registrations { node, instances } => self.register(node, instances),
            Observation::Instances(source, name, instances) if self.consumers.contains_key(&name) => {
                self.list(name, source, instances);
            }
            // An answer that was under way when the last consumer went.
            Observation::Instances(..) => {}
            Observation::Allocs(allocs) => self.list_allocs(allocs),
            Observation::AllocElsewhere(id, elsewhere) => {
                self.dirty_names.extend(self.allocs.names(&id).cloned());
                self.allocs.learn(id, elsewhere);
            }
            Observation::Live(_) | Observation::Failed(..) => {}
        }
    }

    /// Takes in what the netfilter-agent tells of bridge ports, and returns how many changes were taken in so far.
    pub fn observe_port(&mut self, change: PortChange) -> u64 {
        let touched = self.ports.apply(change);
        let by_mac = touched.macs.into_iter().flat_map(|mac| self.index.of_mac(mac));
        let by_ip = touched.ips.into_iter().flat_map(|ip| self.index.of_ip(ip));
        self.dirty_workloads.extend(by_mac.chain(by_ip).cloned());
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
            Some(Workload { container: known, .. })
                if known.same_place(&container) && alloc_of(known) == alloc_of(&container) =>
            {
                true
            }
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
        self.touch_names_at(container);
        self.index.add(container)
    }

    fn unplace(&mut self, id: &Arc<str>) -> bool {
        let Some(container) = self.workloads.get(id).map(|workload| workload.container.clone()) else {
            return false;
        };
        self.touch_names_at(&container);
        self.index.remove(&container)
    }

    /// The services that may have an instance in this container.
    fn touch_names_at(&mut self, container: &Container) {
        self.dirty_names.extend(self.names_by_address.of(container).cloned());
        if let Some(alloc) = alloc_of(container) {
            self.dirty_names.extend(self.allocs.names(alloc).cloned());
        }
    }

    fn list_allocs(&mut self, allocs: Vec<Arc<Alloc>>) {
        if !self.allocs.are_listed() {
            // From now on it counts what Nomad says of them.
            self.dirty_names.extend(self.allocs.all_names());
        }
        self.are_allocs_dirty = true;
        for id in self.allocs.list(allocs) {
            self.dirty_workloads.extend(self.index.of_alloc(&id).cloned());
            self.dirty_names.extend(self.allocs.names(&id).cloned());
            match self.allocs.own(&id).and_then(|alloc| as_container(alloc)) {
                Some(container) => self.learn(container),
                None => self.forget(&id),
            }
        }
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
                self.names_by_address.add(name, instances.values().flatten(), &self.node);
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
            // An allocation with an address of its own speaks for its containers, which have none.
            return match self.workloads.contains_key(alloc) {
                true => vec![alloc.into()],
                false => self.index.of_alloc(alloc).cloned().collect(),
            };
        }
        let text = if instance.address.is_empty() { &instance.node_address } else { &instance.address };
        let Ok(ip) = text.parse() else { return Vec::new() };
        let found = self.local().container_at(SocketAddrV4::new(ip, instance.port), instance);
        found.map(|(container, _)| container.id.clone()).into_iter().collect()
    }

    fn local(&self) -> Local<'_> {
        Local { node: &self.node, workloads: &self.workloads, index: &self.index, allocs: &self.allocs }
    }

    fn list(&mut self, name: ServiceName, source: SourceName, instances: Vec<Instance>) {
        self.replace_instances(name, |known| {
            known.insert(source, instances);
        });
    }

    fn replace_instances(
        &mut self,
        name: ServiceName,
        change: impl FnOnce(&mut BTreeMap<SourceName, Vec<Instance>>),
    ) {
        let mut known = self.instances.remove(&name).unwrap_or_default();
        let before = allocs_of(&known);
        self.names_by_address.remove(&name, known.values().flatten(), &self.node);
        change(&mut known);
        self.names_by_address.add(&name, known.values().flatten(), &self.node);
        self.allocs.replace(&name, &before, &allocs_of(&known));
        self.are_allocs_dirty = true;
        if !known.is_empty() {
            self.instances.insert(name.clone(), known);
        }
        self.dirty_names.insert(name);
    }

    /// What the catalogues have of a service.
    fn instances_of(&self, name: &ServiceName) -> impl Iterator<Item = &Instance> {
        self.instances.get(name).into_iter().flat_map(|known| known.values().flatten())
    }

    /// The names of the services that this host's workloads ask for.
    pub fn wanted(&self) -> impl Iterator<Item = &ServiceName> {
        self.consumers.keys()
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
                self.replace_instances(name, BTreeMap::clear);
            }
        }
        for name in std::mem::take(&mut self.dirty_names) {
            self.plan_name(&name, now, &mut delta);
        }
        if std::mem::take(&mut self.are_allocs_dirty) {
            delta.wanted_allocs = self.allocs.wanted();
        }
        delta
    }
}

/// The allocations that instances belong to.
fn allocs_of(instances: &BTreeMap<SourceName, Vec<Instance>>) -> BTreeSet<Arc<str>> {
    instances.values().flatten().filter_map(registered_alloc).map(Into::into).collect()
}

#[cfg(test)]
mod tests;
