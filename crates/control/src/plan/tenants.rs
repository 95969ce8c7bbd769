//! Who is a member of which user's network, and which services each user has: members may reach them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{ServiceName, UserName};

use crate::multimap::MultiMap;

/// Members and services, by user.
#[derive(Debug, Default)]
pub struct Tenants {
    members: MultiMap<UserName, Arc<str>>,
    /// The services that workloads of this host provide, with those that do.
    provided: BTreeMap<UserName, MultiMap<ServiceName, Arc<str>>>,
    /// The services that Nomad told.
    told: BTreeMap<UserName, BTreeSet<ServiceName>>,
    /// Users who have other services, or had, since they were asked for last.
    dirty: BTreeSet<UserName>,
    /// Whether others may have a member than when they were asked for last.
    are_members_dirty: bool,
    /// What [`Tenants::watched`] was when it was asked last.
    watched: BTreeSet<UserName>,
}

impl Tenants {
    /// Takes in whose network a workload is on from now on, that of its own user.
    pub fn set_member(&mut self, id: &Arc<str>, before: Option<&UserName>, now: Option<&UserName>) {
        if before == now {
            return;
        }
        self.are_members_dirty = true;
        if let Some(user) = before {
            self.members.remove(user, id);
        }
        if let Some(user) = now {
            self.members.insert(user.clone(), id.clone());
        }
    }

    /// Whether a workload of this host is on this user's network.
    #[must_use]
    pub fn has_member(&self, user: &UserName) -> bool {
        self.members.contains_key(user)
    }

    /// Whether Nomad is to tell this user's services, or still tells them.
    #[must_use]
    pub fn wants(&self, user: &UserName) -> bool {
        self.has_member(user) || self.watched.contains(user)
    }

    /// Takes in that a workload of this user provides a service, or does so no more.
    pub fn set_provided(&mut self, user: &UserName, name: &ServiceName, id: &Arc<str>, present: bool) {
        let provided = self.provided.entry(user.clone()).or_default();
        let before = provided.contains_key(name);
        if present {
            provided.insert(name.clone(), id.clone());
        } else {
            provided.remove(name, id);
        }
        if before != provided.contains_key(name) {
            self.dirty.insert(user.clone());
        }
        if provided.keys().next().is_none() {
            self.provided.remove(user);
        }
    }

    /// Takes in what Nomad says of a user's services.
    pub fn tell(&mut self, user: UserName, names: BTreeSet<ServiceName>) {
        // An answer may come after the last member has gone.
        if self.wants(&user) && self.told.get(&user) != Some(&names) {
            self.told.insert(user.clone(), names);
            self.dirty.insert(user);
        }
    }

    /// Whether Nomad has yet to tell the services of a user who has a member here.
    #[must_use]
    pub fn has_untold(&self) -> bool {
        self.members.keys().any(|user| !self.told.contains_key(user))
    }

    /// Every service of a user that is known, in order.
    #[must_use]
    pub fn services(&self, user: &UserName) -> BTreeSet<&ServiceName> {
        let provided = self.provided.get(user).into_iter().flat_map(MultiMap::keys);
        provided.chain(self.told.get(user).into_iter().flatten()).collect()
    }

    /// The members of those whose services have changed since this was called last.
    pub fn take_touched(&mut self) -> BTreeSet<Arc<str>> {
        let dirty = std::mem::take(&mut self.dirty);
        dirty.iter().flat_map(|user| self.members.get(user)).cloned().collect()
    }

    /// The users who have a member here, when they have changed since this was called last.
    pub fn watched(&mut self) -> Option<BTreeSet<UserName>> {
        if !std::mem::take(&mut self.are_members_dirty) {
            return None;
        }
        let watched: BTreeSet<_> = self.members.keys().cloned().collect();
        if watched == self.watched {
            return None;
        }
        // Whoever is watched again is told again; one whose members changed meanwhile is not.
        self.told.retain(|user, _| watched.contains(user));
        self.watched.clone_from(&watched);
        Some(watched)
    }
}
