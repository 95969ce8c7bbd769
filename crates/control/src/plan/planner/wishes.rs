//! What others must do for containers: networks that must be there, containers that must be attached to them, and resolv.conf.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{Doors, Resource, UserName};

use super::{Delta, Planned, Planner, Workload};
use crate::{
    multimap::MultiMap,
    observe::{AllocNetwork, Attach, Container},
    plan::{NoPort, UserFrom, alloc_of, networks::Changed},
};

/// What was wished, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Whether somebody says how the doors are kept, and not only what is in force does.
    are_doors_told: bool,
    /// Users that Nomad knows.
    users_told: BTreeSet<UserName>,
    /// Whether other users may be wished for than last time.
    are_users_dirty: bool,
    /// Namespaces that Nomad knows, where they are no users.
    namespaces: BTreeSet<UserName>,
    /// The user whose network a workload needs, and the inverse.
    needs: BTreeMap<Arc<str>, UserName>,
    needed_by: MultiMap<UserName, Arc<str>>,
    /// The users wished for last.
    users: BTreeSet<UserName>,
    /// Users who can have no network, and why.
    pub(super) without_network: BTreeMap<UserName, Arc<str>>,
    /// Containers that were made, and have not started.
    created: BTreeMap<Arc<str>, Container>,
    /// Those that somebody was asked to attach.
    attached: BTreeSet<Arc<str>>,
    not_attached: BTreeMap<Arc<str>, Arc<str>>,
    /// Those whose resolv.conf shall lead to dns.
    resolved: BTreeSet<Arc<str>>,
    resolvers: BTreeMap<Arc<str>, Result<(), Arc<str>>>,
}

impl Planner {
    /// Takes in how the doors are kept; `told` by somebody, or else by what an agent has in force from an earlier life of control.
    pub(super) fn set_doors(&mut self, doors: Doors, told: bool) {
        if told || !self.wishes.are_doors_told {
            self.told.push((doors.id(), Some(Planned::new(Resource::Doors(doors)))));
        }
        self.wishes.are_doors_told |= told;
    }

    pub(super) fn set_users(&mut self, users: BTreeSet<UserName>) {
        // Else a namespace is no user.
        if self.options.user_from == UserFrom::Namespace {
            self.wishes.users_told = users;
            self.wishes.are_users_dirty = true;
        } else {
            self.wishes.namespaces = users;
        }
    }

    /// The namespaces of Nomad that are known.
    pub(super) fn namespaces(&self) -> BTreeSet<UserName> {
        let own = self.allocs.namespaces().filter_map(|namespace| namespace.parse().ok());
        self.wishes.namespaces.iter().cloned().chain(own).collect()
    }

    /// Takes in what has changed of networks.
    pub(super) fn take_networks(&mut self, changed: Changed) {
        // Whoever waited for one in vain is moved to it now.
        for user in &changed.new {
            for id in self.wishes.needed_by.get(user) {
                if self.wishes.not_attached.remove(id).is_some() {
                    self.wishes.attached.remove(id);
                    self.dirty_workloads.insert(id.clone());
                }
            }
        }
        self.told.extend(changed.resources);
        let on_bridges = changed.bridges.iter().flat_map(|bridge| self.index.of_bridge(bridge));
        self.dirty_workloads.extend(on_bridges.cloned());
        if changed.subnets {
            self.dirty_names.extend(self.instances.keys().cloned());
        }
    }

    pub(super) fn created(&mut self, container: Container) {
        if !self.workloads.contains_key(&container.id) {
            // What could not be done while it ran can be now.
            self.wishes.attached.remove(&container.id);
            self.dirty_workloads.insert(container.id.clone());
            self.wishes.created.insert(container.id.clone(), container);
        }
    }

    /// A container has started, or is gone.
    pub(super) fn not_created(&mut self, id: &Arc<str>) {
        if self.wishes.created.remove(id).is_some() || self.wishes.attached.contains(id) {
            self.dirty_workloads.insert(id.clone());
        }
    }

    /// Docker has listed what there is.
    pub(super) fn forget_created(&mut self) {
        self.dirty_workloads.extend(std::mem::take(&mut self.wishes.created).into_keys());
    }

    /// An allocation has changed: whose a container of its is may be known now.
    pub(super) fn touch_created(&mut self, alloc: &str) {
        let of_alloc = self.wishes.created.values().filter(|container| alloc_of(container) == Some(alloc));
        self.dirty_workloads.extend(of_alloc.map(|container| container.id.clone()));
    }

    pub(super) fn set_not_attached(&mut self, id: Arc<str>, why: Arc<str>) {
        if self.wishes.attached.contains(&id) {
            self.wishes.not_attached.insert(id, why);
        }
    }

    pub(super) fn set_resolver(&mut self, id: Arc<str>, says: Result<(), Arc<str>>) {
        if self.wishes.resolved.contains(&id) {
            self.wishes.resolvers.insert(id, says);
        }
    }

    /// Why a container that asks for it could not be attached to its user's network.
    #[must_use]
    pub fn not_attached(&self, workload: &Workload) -> Option<Cow<'_, str>> {
        if !workload.wants_network || workload.is_member {
            return None;
        }
        let Some(user) = &workload.user else {
            return Some("it belongs to no user: label steppe.user=USER".into());
        };
        if let Some(why) = self.wishes.without_network.get(user) {
            return Some(format!("{user} gets no network: {why}").into());
        }
        self.wishes.not_attached.get(&workload.container.id).map(|why| (&**why).into())
    }

    /// Users who need a network and can have none, and why.
    pub fn without_network(&self) -> impl Iterator<Item = (&UserName, &str)> {
        self.wishes.without_network.iter().map(|(user, why)| (user, &**why))
    }

    /// Whether a container's resolv.conf leads to dns, or why not; `None` when nobody knows.
    #[must_use]
    pub fn resolver(&self, id: &str) -> Option<Result<(), &str>> {
        let says = self.wishes.resolvers.get(id)?;
        Some(says.as_ref().copied().map_err(|why| &**why))
    }

    /// Says what must be done for containers that were planned just now.
    pub(super) fn wish(&mut self, planned: &BTreeSet<Arc<str>>, delta: &mut Delta) {
        for id in planned {
            let created;
            let workload = match (self.workloads.get(id), self.wishes.created.get(id)) {
                (Some(workload), _) => Some(workload),
                (None, Some(container)) => {
                    let alloc = alloc_of(container).and_then(|alloc| self.allocs.own(alloc));
                    created = Workload::understand(
                        container.clone(),
                        &[],
                        alloc.map(|alloc| &**alloc),
                        None,
                        self.options.user_from,
                    );
                    Some(&created)
                }
                (None, None) => None,
            };
            let needs = workload.and_then(|workload| workload.needs_network_of().cloned());
            let attach = workload.and_then(attach).filter(|_| !self.wishes.attached.contains(id));
            let resolves = self.workloads.get(id).is_some_and(|workload| self.asks_dns(workload));
            if workload.is_none() {
                self.wishes.attached.remove(id);
            }
            let is_member = workload.is_some_and(|workload| workload.is_member);
            if workload.is_none() || is_member {
                self.wishes.not_attached.remove(id);
            }
            self.wishes.need(id, needs);
            if let Some(attach) = attach {
                self.wishes.attached.insert(id.clone());
                delta.attach.push(attach);
            }
            let changes = if resolves {
                self.wishes.resolved.insert(id.clone())
            } else {
                self.wishes.resolvers.remove(id);
                self.wishes.resolved.remove(id)
            };
            if changes {
                delta.resolve.push((id.clone(), resolves));
            }
        }
        delta.users = self.wishes.users();
    }

    /// Whether a container can ask dns, and should.
    fn asks_dns(&self, workload: &Workload) -> bool {
        let container = &workload.container;
        // An allocation is no container.
        if !workload.guarded || self.allocs.own(&container.id).is_some() {
            return false;
        }
        let attached = self.attached.get(&container.id).map_or(&[][..], Vec::as_slice);
        // In bridge mode the tasks ask from their allocation's address.
        let alloc = alloc_of(container).and_then(|alloc| self.allocs.own(alloc));
        let by_alloc = alloc.is_some_and(|alloc| matches!(alloc.network, AllocNetwork::Bridge { .. }));
        by_alloc || attached.iter().any(|attached| attached.port != Err(NoPort::Foreign))
    }
}

impl Wishes {
    fn need(&mut self, id: &Arc<str>, needs: Option<UserName>) {
        if self.needs.get(id) == needs.as_ref() {
            return;
        }
        self.are_users_dirty = true;
        if let Some(before) = self.needs.remove(id) {
            self.needed_by.remove(&before, id);
        }
        if let Some(user) = needs {
            self.needed_by.insert(user.clone(), id.clone());
            self.needs.insert(id.clone(), user);
        }
    }

    /// The users whose networks must be there, when they have changed since this was called last.
    fn users(&mut self) -> Option<BTreeSet<UserName>> {
        if !std::mem::take(&mut self.are_users_dirty) {
            return None;
        }
        let users: BTreeSet<_> = self.needed_by.keys().chain(&self.users_told).cloned().collect();
        if users == self.users {
            return None;
        }
        self.users.clone_from(&users);
        Some(users)
    }
}

/// How a workload that asks for it and is not there is moved to its user's network.
fn attach(workload: &Workload) -> Option<Attach> {
    let container = &workload.container;
    // On both networks it is when a control before this one was killed between Docker's two requests.
    let is_there = workload.is_member && container.attachments.len() < 2;
    let user = workload.user.clone().filter(|_| workload.wants_network && !is_there)?;
    let key = alloc_of(container).map_or_else(|| container.name.clone(), Into::into);
    Some(Attach { container: container.id.clone(), user, key })
}
