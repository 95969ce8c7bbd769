//! A new workload waits for its grants: until an agent knows a workload, its packets are dropped and come again; once it
//! knows it, what is not granted is refused. A workload that came before its grants would be refused what it has a
//! right to.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use steppe_model::{Resource, ResourceId, WorkloadId};

use crate::multimap::MultiMap;

/// How long a workload waits at the most: then what has no listener yet is refused, and the rest works.
pub(super) const LONGEST: Duration = Duration::from_secs(3);

/// The workloads that wait.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// The desired grants of each workload, and the published ports that lead to it.
    grants: MultiMap<ResourceId, ResourceId>,
    /// Workloads that were not looked at since they were desired, or since the agent lost them.
    unseen: BTreeSet<ResourceId>,
    /// Those that wait, and since when.
    waiting: BTreeMap<ResourceId, Instant>,
}

impl Holds {
    /// Takes in what shall be under an id from now on.
    pub(super) fn desire(&mut self, id: &ResourceId, old: Option<&Resource>, new: Option<&Resource>) {
        if let Some(workload) = old.and_then(workload_of) {
            self.grants.remove(&workload, id);
        }
        if let Some(workload) = new.and_then(workload_of) {
            self.grants.insert(workload, id.clone());
        }
        if let Some(Resource::Workload(_)) = new {
            self.unseen.insert(id.clone());
        }
    }

    /// The agent is connected anew, and may know none of them.
    pub(super) fn connected(&mut self) {
        self.unseen.extend(self.grants.keys().cloned());
    }

    /// Decides who waits from now on, and returns who need not any more. `is_new` tells whether a workload is desired
    /// and the agent doesn't know it, `is_ready` whether a grant can be sent.
    pub(super) fn review(
        &mut self,
        now: Instant,
        is_new: impl Fn(&ResourceId) -> bool,
        is_ready: impl Fn(&ResourceId) -> bool,
    ) -> Vec<ResourceId> {
        for id in std::mem::take(&mut self.unseen) {
            if is_new(&id) && !self.grants.get(&id).all(&is_ready) {
                self.waiting.entry(id).or_insert(now);
            }
        }
        let grants = &self.grants;
        let is_over = |id: &ResourceId, since: Instant| {
            now.saturating_duration_since(since) >= LONGEST || !is_new(id) || grants.get(id).all(&is_ready)
        };
        let mut over = Vec::new();
        self.waiting.retain(|id, since| {
            let waits = !is_over(id, *since);
            if !waits {
                over.push(id.clone());
            }
            waits
        });
        over
    }

    /// What comes after a workload: its desired grants, and the published ports that lead to it.
    pub(super) fn grants(&self, workload: &ResourceId) -> impl Iterator<Item = &ResourceId> {
        self.grants.get(workload)
    }

    /// Whether a resource must not be sent now.
    pub(super) fn holds(&self, resource: &Resource) -> bool {
        match resource {
            Resource::Workload(workload) => self.waiting.contains_key(&workload.id.resource_id()),
            other => workload_of(other).is_some_and(|workload| self.waiting.contains_key(&workload)),
        }
    }
}

/// The workload that must be in force before a resource.
fn workload_of(resource: &Resource) -> Option<ResourceId> {
    match resource {
        Resource::Grant(grant) => Some(grant.workload.resource_id()),
        Resource::PublishedPort(port) => port.workload.as_ref().map(WorkloadId::resource_id),
        _ => None,
    }
}
