//! Resources that are known by an address or a port of the host, which two containers may have for a moment: one of them goes while
//! the other has come already, and whoever is told of last must not decide.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{Resource, ResourceId};

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
                (Some(other), false) => winner([&other, &planned].into_iter()).cloned(),
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
            let now = self.by_id.get(&id).and_then(|claims| winner(claims.values())).cloned();
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

/// What holds where several claim the same: a published port opens as little as any of them wants; and of an address nobody
/// can tell whose it is.
fn winner<'a>(claims: impl Iterator<Item = &'a Planned> + Clone) -> Option<&'a Planned> {
    let narrowest = claims.clone().min_by_key(|planned| match &*planned.resource {
        Resource::PublishedPort(port) => Some(port.expose),
        _ => None,
    });
    let is_port = |planned: &&Planned| matches!(*planned.resource, Resource::PublishedPort(_));
    narrowest.filter(|planned| is_port(planned) || claims.count() == 1)
}
