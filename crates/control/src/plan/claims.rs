//! Resources that are known by an address or a port of the host, which two containers may have for a moment: one of them goes while
//! the other has come already, and whoever is told of last must not decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{PublishedPort, Resource, ResourceId};

use super::planner::Planned;

/// Who claims what.
#[derive(Debug, Default)]
pub struct Claims {
    by_id: BTreeMap<ResourceId, BTreeMap<Arc<str>, Planned>>,
    of: BTreeMap<Arc<str>, BTreeSet<ResourceId>>,
    /// What was told last.
    told: BTreeMap<ResourceId, Planned>,
    dirty: BTreeSet<ResourceId>,
}

impl Claims {
    /// Takes in all that a container claims from now on.
    pub fn replace(&mut self, container: &Arc<str>, claimed: impl IntoIterator<Item = Planned>) {
        let before = self.of.remove(container).unwrap_or_default();
        let mut now = BTreeSet::new();
        for planned in claimed {
            let id = planned.resource.id();
            let claims = self.by_id.entry(id.clone()).or_default();
            let own = match (claims.remove(container), now.insert(id.clone())) {
                // A port that is published twice, at two addresses.
                (Some(other), false) => agreed([&other, &planned].into_iter()),
                _ => Some(planned),
            };
            claims.extend(own.map(|own| (container.clone(), own)));
            self.dirty.insert(id);
        }
        for gone in before.difference(&now) {
            if let Some(claims) = self.by_id.get_mut(gone) {
                claims.remove(container);
                if claims.is_empty() {
                    self.by_id.remove(gone);
                }
            }
            self.dirty.insert(gone.clone());
        }
        if !now.is_empty() {
            self.of.insert(container.clone(), now);
        }
    }

    /// What was told last under an id.
    #[cfg(test)]
    pub fn told(&self, id: &ResourceId) -> Option<&Planned> {
        self.told.get(id)
    }

    /// What has changed since this was called last; `None` for what shall no longer be.
    pub fn take_changed(&mut self) -> Vec<(ResourceId, Option<Planned>)> {
        let mut changed = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let now = self.by_id.get(&id).and_then(|claims| agreed(claims.values()));
            if self.told.get(&id) == now.as_ref() {
                continue;
            }
            match &now {
                Some(planned) => self.told.insert(id.clone(), planned.clone()),
                None => self.told.remove(&id),
            };
            changed.push((id, now));
        }
        changed
    }
}

/// What holds where several claim the same: a published port opens as little as any of them wants, at the addresses of all; and
/// of an address nobody can tell whose it is.
fn agreed<'a>(claims: impl Iterator<Item = &'a Planned> + Clone) -> Option<Planned> {
    let ports = claims.clone().filter_map(|planned| match &*planned.resource {
        Resource::PublishedPort(port) => Some((port, planned)),
        _ => None,
    });
    let Some((narrowest, planned)) = ports.clone().min_by_key(|(port, _)| port.expose) else {
        return claims.clone().next().filter(|_| claims.count() == 1).cloned();
    };
    let mut addresses = BTreeSet::new();
    if ports.clone().all(|(port, _)| !port.addresses.is_empty()) {
        addresses.extend(ports.flat_map(|(port, _)| &port.addresses));
    }
    if addresses.len() > PublishedPort::ADDRESSES {
        addresses.clear();
    }
    let port = PublishedPort { addresses, ..narrowest.clone() };
    Some(Planned { resource: Arc::new(Resource::PublishedPort(port)), requires: planned.requires.clone() })
}
