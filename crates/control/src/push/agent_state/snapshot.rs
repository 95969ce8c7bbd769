//! The snapshot that begins a stream.

use std::time::Instant;

use steppe_api::v1::{self, sync_request::Message};
use steppe_model::{Resource, ResourceId};

use super::{AgentState, Leave};
use crate::plan::Planned;

impl AgentState {
    /// Everything that is desired and may be sent. What is in force and stays for now, because what shall take its place
    /// may not be sent yet or because something leads to it, is named as it is.
    pub(super) fn snapshot(
        &mut self,
        now: Instant,
        leave: impl Fn(&Planned) -> Leave,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
        requests: &mut Vec<v1::SyncRequest>,
    ) {
        let begin = Message::SnapshotBegin(v1::SnapshotBegin { epoch: std::process::id().into() });
        requests.push(self.request(begin, None, now));
        let (mut named, mut later, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (id, planned) in &self.desired {
            let held = self.held.get(id);
            if held.is_some_and(|held| held.resource == planned.resource) {
                named.push(planned.resource.clone());
                continue;
            }
            match (leave(planned), held) {
                (Leave::Send, _) => {
                    named.push(planned.resource.clone());
                    continue;
                }
                (Leave::Wait, Some(held)) => named.push(held.resource.clone()),
                (Leave::WaitWithout, Some(_)) => gone.push(id.clone()),
                (Leave::Wait | Leave::WaitWithout, None) => {}
            }
            later.push(id.clone());
        }
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
