//! What dns is told waits for the rules that it stands on: a name whose service can't be dialled yet would be a broken promise.
//! An asker's workload is waited for as long as it takes, for its questions are dropped until then; so that it is never told what is
//! another's, who had the address before is forgotten meanwhile. Its grants and virtual
//! IPs are not: one that can't be had must not cost the workload all its other names.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Instant,
};

use steppe_model::{Resource, ResourceId};

use super::{
    agent_state::{AgentState, Leave},
    hold::LONGEST,
};
use crate::{multimap::MultiMap, plan::Planned};

/// Askers and members, and what they wait for.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// They, by the netfilter-agent's resources that they require.
    dependents: MultiMap<ResourceId, ResourceId>,
    /// Those that were not looked at since they were desired.
    unseen: BTreeSet<ResourceId>,
    /// Since when those wait whose time is not over.
    since: BTreeMap<ResourceId, Instant>,
    /// The same in the order of time, with what does not wait any more.
    queue: VecDeque<(Instant, ResourceId)>,
    /// Those that have waited long enough.
    overdue: BTreeSet<ResourceId>,
}

impl Names {
    /// Takes in what shall be under an id from now on.
    pub(super) fn desire(&mut self, id: &ResourceId, old: Option<&Planned>, new: Option<&Planned>) {
        for required in old.into_iter().flat_map(|old| &old.requires) {
            self.dependents.remove(required, id);
        }
        for required in new.into_iter().flat_map(|new| &new.requires) {
            self.dependents.insert(required.clone(), id.clone());
        }
        self.since.remove(id);
        self.overdue.remove(id);
        if new.is_some() {
            self.unseen.insert(id.clone());
        } else {
            self.unseen.remove(id);
        }
    }

    /// Who may be waiting for a resource of the netfilter-agent.
    pub(super) fn dependents(&self, required: &ResourceId) -> impl Iterator<Item = &ResourceId> {
        self.dependents.get(required)
    }

    /// Returns those who have waited long enough.
    pub(super) fn review(&mut self, now: Instant) -> Vec<ResourceId> {
        for id in std::mem::take(&mut self.unseen) {
            self.since.insert(id.clone(), now);
            self.queue.push_back((now, id));
        }
        let mut over = Vec::new();
        while let Some((since, _)) = self.queue.front()
            && now.saturating_duration_since(*since) >= LONGEST
            && let Some((since, id)) = self.queue.pop_front()
        {
            // Else it was desired anew, and is in the queue once more.
            if self.since.get(&id) == Some(&since) {
                self.since.remove(&id);
                self.overdue.insert(id.clone());
                over.push(id);
            }
        }
        over
    }

    /// All of them, some several times.
    pub(super) fn all(&self) -> impl Iterator<Item = &ResourceId> {
        self.dependents.values()
    }

    /// Whether dns may be told of something as far as the netfilter-agent is concerned. Until that has the workload, what dns has by
    /// its address is of who had it before; while it is away nobody new can ask.
    pub(super) fn leave(&self, planned: &Planned, netfilter: &AgentState) -> Leave {
        let is_workload = |id: &ResourceId| {
            netfilter.desired(id).is_none_or(|planned| matches!(*planned.resource, Resource::Workload(_)))
        };
        let mut unsettled =
            planned.requires.iter().filter(|required| !netfilter.is_settled(required)).peekable();
        let is_complete = unsettled.peek().is_none();
        if unsettled.any(is_workload) {
            return if netfilter.is_up() { Leave::WaitWithout } else { Leave::Wait };
        }
        Leave::when(is_complete || self.overdue.contains(&planned.resource.id()))
    }
}
