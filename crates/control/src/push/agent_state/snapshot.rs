//! The snapshot that begins a stream.

use std::time::Instant;

use steppe_api::v1::{self, sync_request::Message};
use steppe_model::{Resource, ResourceId};

use super::AgentState;
use crate::plan::Planned;

impl AgentState {
    /// Everything that is desired and may be sent. What is in force and must stay for now, because what shall take its place
    /// may not be sent yet or because something leads to it, is named as it is.
    pub(super) fn snapshot(
        &mut self,
        now: Instant,
        may_send: impl Fn(&Planned) -> bool,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
        requests: &mut Vec<v1::SyncRequest>,
    ) {
        let begin = Message::SnapshotBegin(v1::SnapshotBegin { epoch: std::process::id().into() });
        requests.push(self.request(begin, None, now));
        let mut named = Vec::new();
        let mut later = Vec::new();
        for (id, planned) in &self.desired {
            match self.held.get(id) {
                Some(held) if held.resource != planned.resource && !may_send(planned) => {
                    named.push(held.resource.clone());
                    later.push(id.clone());
                }
                None if !may_send(planned) => later.push(id.clone()),
                Some(_) | None => named.push(planned.resource.clone()),
            }
        }
        let mut gone = Vec::new();
        for (id, held) in self.held.iter().filter(|(id, _)| !self.desired.contains_key(*id)) {
            if may_remove(id, Some(&held.resource)) {
                gone.push(id.clone());
            } else {
                named.push(held.resource.clone());
            }
        }
        named.sort_by_cached_key(|resource| (rank(resource), resource.id()));
        for resource in named {
            let id = resource.id();
            let message = self.upsert(&id, resource);
            requests.push(self.request(message, Some(id), now));
        }
        self.look_again(later);
        let end = self.request(Message::SnapshotEnd(v1::SnapshotEnd {}), None, now);
        self.snapshot_end = Some(end.version);
        for id in gone {
            self.removal(&id, end.version);
            self.unsettled.push_back((end.version, Some(id), now));
        }
        requests.push(end);
    }
}

/// The order in a snapshot: what others refer to comes first.
fn rank(resource: &Resource) -> u8 {
    match resource {
        Resource::Listener(_)
        | Resource::VirtualIp(_)
        | Resource::Takeover(_)
        | Resource::Network(_)
        | Resource::Doors(_)
        | Resource::Asker(_)
        | Resource::Member(_) => 0,
        Resource::Workload(_) => 1,
        Resource::Client(_) | Resource::ServicePort(_) | Resource::PublishedPort(_) => 2,
        Resource::Grant(_) => 3,
    }
}
