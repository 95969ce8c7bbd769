//! Taking facts in: what is known, by what it can be found by, and what a fact touches.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use steppe_model::ServiceName;

use super::Planner;
use crate::{
    observe::{Alloc, Container, Instance, Observation, SourceName},
    plan::{
        PortChange, Workload,
        allocs::as_container,
        locate::Local,
        names::NamesByAddress,
        ports::Touched,
        workload::{alloc_of, registered_alloc},
    },
};

impl Planner {
    /// Takes in what a source tells.
    pub fn observe(&mut self, observation: Observation) {
        match observation {
            Observation::Containers(containers) => {
                self.forget_created();
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
            Observation::Created(container) => self.created(container),
            Observation::Networks(networks) => {
                let changed = self.networks.list(networks);
                self.take_networks(changed);
            }
            Observation::NoNetwork(users) => self.wishes.without_network = users,
            Observation::NotAttached(id, why) => self.set_not_attached(id, why),
            Observation::Resolver(id, says) => self.set_resolver(id, says),
            Observation::Users(users) => self.set_users(users),
            Observation::ServicesOf(user, names) => self.tenants.tell(user, names),
            Observation::Doors(doors) => self.set_doors(doors, true),
            Observation::Live(_) | Observation::Failed(..) => {}
        }
    }

    /// Takes in what the netfilter-agent tells of bridge ports, and returns how many changes were taken in so far.
    pub fn observe_port(&mut self, change: PortChange) -> u64 {
        let touched = self.ports.apply(change);
        self.touch_ports(touched);
        self.ports.changes()
    }

    /// Those are looked at again that may be behind other ports than before.
    pub(super) fn touch_ports(&mut self, touched: Touched) {
        let by_mac = touched.macs.into_iter().flat_map(|mac| self.index.of_mac(mac));
        let by_ip = touched.ips.into_iter().flat_map(|ip| self.index.of_ip(ip));
        self.dirty_workloads.extend(by_mac.chain(by_ip).cloned());
    }

    fn learn(&mut self, container: Container) {
        let id = container.id.clone();
        self.not_created(&id);
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
        self.not_created(id);
        if self.workloads.contains_key(id) {
            if self.unplace(id) {
                self.dirty_names.extend(self.instances.keys().cloned());
            }
            self.dirty_workloads.insert(id.clone());
            if let Some(workload) = self.workloads.remove(id) {
                self.index_asked(&workload, false);
                self.index_tenant(id, Some(&workload), None);
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
        let is_first = !self.allocs.are_listed();
        if is_first {
            // From now on it counts what Nomad says of them.
            self.dirty_names.extend(self.allocs.all_names());
            self.dirty_names.extend(self.offers.keys().cloned());
        }
        let changed = self.allocs.list(allocs);
        self.are_allocs_dirty |= is_first || !changed.is_empty();
        for id in changed {
            self.touch_created(&id);
            self.dirty_workloads.extend(self.index.of_alloc(&id).cloned());
            self.dirty_names.extend(self.allocs.names(&id).cloned());
            match self.allocs.own(&id).and_then(|alloc| as_container(alloc)) {
                Some(container) => self.learn(container),
                None => self.forget(&id),
            }
        }
    }

    /// Adds or removes what a workload asks for and offers, all of which is looked at again.
    pub(super) fn index_asked(&mut self, workload: &Workload, present: bool) {
        let (old, new) = (Some(workload).filter(|_| !present), Some(workload).filter(|_| present));
        self.index_names(&workload.container.id, old, new);
        self.dirty_names.extend(workload.names());
        if let Some(offer) = &workload.offer {
            if present {
                self.offers.insert(offer.name.clone(), workload.container.id.clone());
            } else {
                self.offers.remove(&offer.name, &workload.container.id);
            }
            self.dirty_names.insert(offer.name.clone());
        }
    }

    /// Takes in that a workload asks for something else than before.
    pub(super) fn index_names(&mut self, id: &Arc<str>, old: Option<&Workload>, new: Option<&Workload>) {
        let names = |workload: Option<&Workload>| workload.map(Workload::names).unwrap_or_default();
        let (before, now) = (names(old), names(new));
        for name in before.symmetric_difference(&now) {
            self.wanted_before.entry(name.clone()).or_insert(self.consumers.contains_key(name));
            if now.contains(name) {
                self.consumers.insert(name.clone(), id.clone());
            } else {
                self.consumers.remove(name, id);
            }
        }
        let asked_of = |workload: Option<&Workload>| workload.map(Workload::asked_of).unwrap_or_default();
        let (before, now) = (asked_of(old), asked_of(new));
        for asked in before.symmetric_difference(&now) {
            self.asked_of_before.entry(asked.clone()).or_insert(self.asked_of.contains_key(asked));
            if now.contains(asked) {
                self.asked_of.insert(asked.clone(), id.clone());
            } else {
                self.asked_of.remove(asked, id);
            }
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
        let changed = self.registered.list(instances);
        let touched: BTreeSet<_> = changed.iter().flat_map(|instance| self.containers_of(instance)).collect();
        self.dirty_workloads.extend(touched);
    }

    /// The containers that a registration of this node speaks for.
    pub(super) fn containers_of(&self, instance: &Instance) -> Vec<Arc<str>> {
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

    pub(super) fn local(&self) -> Local<'_> {
        Local {
            node: &self.node,
            workloads: &self.workloads,
            index: &self.index,
            allocs: &self.allocs,
            networks: &self.networks,
            user_from: self.options.user_from,
        }
    }

    fn list(&mut self, name: ServiceName, source: SourceName, instances: Vec<Instance>) {
        self.replace_instances(name, |known| {
            known.insert(source, instances);
        });
    }

    pub(super) fn replace_instances(
        &mut self,
        name: ServiceName,
        change: impl FnOnce(&mut BTreeMap<SourceName, Vec<Instance>>),
    ) {
        let mut known = self.instances.remove(&name).unwrap_or_default();
        let before = allocs_of(&known);
        self.names_by_address.remove(&name, known.values().flatten(), &self.node);
        change(&mut known);
        self.names_by_address.add(&name, known.values().flatten(), &self.node);
        let after = allocs_of(&known);
        self.allocs.replace(&name, &before, &after);
        self.are_allocs_dirty |= before != after;
        if !known.is_empty() {
            self.instances.insert(name.clone(), known);
        }
        self.dirty_names.insert(name);
    }

    /// What the catalogues have of a service.
    pub(super) fn instances_of(&self, name: &ServiceName) -> impl Iterator<Item = &Instance> {
        self.instances.get(name).into_iter().flat_map(|known| known.values().flatten())
    }
}

/// The allocations that instances belong to.
fn allocs_of(instances: &BTreeMap<SourceName, Vec<Instance>>) -> BTreeSet<Arc<str>> {
    instances.values().flatten().filter_map(registered_alloc).map(Into::into).collect()
}
