//! One agent: what it should have, and what it has.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use steppe_api::v1::{self, sync_request::Message};
use steppe_model::{Resource, ResourceId};

use crate::plan::Planned;

/// How far a resource is on its agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Not sent.
    Waiting,
    /// Sent, and not settled.
    Sent,
    /// In force.
    InForce,
    /// Rejected, and why.
    Rejected(String),
}

/// The connection to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// Its socket can't be reached, and why.
    Down(String),
    /// Connected, and its snapshot is not settled.
    Syncing,
    /// Its snapshot is in force.
    Live,
}

/// A request that an acknowledgement settled.
#[derive(Debug, PartialEq, Eq)]
pub enum Settled {
    /// The resource is in force.
    InForce(ResourceId),
    /// The resource is no more.
    Gone(ResourceId),
}

/// What we believe the agent has under an id.
#[derive(Debug)]
struct Held {
    /// What was sent or adopted last; `None` once its removal was sent.
    resource: Option<Arc<Resource>>,
    /// The version that carried it; 0 when the agent had it when it connected.
    version: u64,
    settled: bool,
    /// Whether an earlier content is in force while this one is on its way.
    was_in_force: bool,
    rejected: Option<String>,
}

/// One agent's share of [`super::Push`].
#[derive(Debug)]
pub struct AgentState {
    desired: HashMap<ResourceId, Planned>,
    held: HashMap<ResourceId, Held>,
    /// Ids to look at, in the order in which they came up.
    due: VecDeque<ResourceId>,
    is_due: BTreeSet<ResourceId>,
    link: Link,
    since: Instant,
    /// Whether the snapshot was sent on this stream, and the version that ended it.
    snapshot_end: Option<u64>,
    sent: u64,
    acknowledged: u64,
    unsettled: VecDeque<(u64, Option<ResourceId>, Instant)>,
    /// What the snapshot's end made the agent drop.
    dropped: Vec<ResourceId>,
}

impl AgentState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            desired: HashMap::new(),
            held: HashMap::new(),
            due: VecDeque::new(),
            is_due: BTreeSet::new(),
            link: Link::Down("not connected yet".into()),
            since: now,
            snapshot_end: None,
            sent: 0,
            acknowledged: 0,
            unsettled: VecDeque::new(),
            dropped: Vec::new(),
        }
    }

    /// The connection, and since when it is so.
    #[must_use]
    pub fn link(&self) -> (&Link, Instant) {
        (&self.link, self.since)
    }

    /// The last version sent, and the last one acknowledged.
    #[must_use]
    pub fn versions(&self) -> (u64, u64) {
        (self.sent, self.acknowledged)
    }

    /// How long the oldest request has been waiting for its acknowledgement.
    #[must_use]
    pub fn behind(&self, now: Instant) -> Duration {
        self.unsettled.front().map_or(Duration::ZERO, |(_, _, at)| now.saturating_duration_since(*at))
    }

    /// How far a resource is.
    #[must_use]
    pub fn condition(&self, id: &ResourceId) -> Condition {
        match self.held.get(id) {
            Some(Held { rejected: Some(reason), .. }) => Condition::Rejected(reason.clone()),
            Some(Held { resource: Some(_), settled: true, .. }) => Condition::InForce,
            Some(Held { resource: Some(_), .. }) => Condition::Sent,
            Some(Held { resource: None, .. }) | None => Condition::Waiting,
        }
    }

    /// Whether a resource is desired.
    #[must_use]
    pub fn is_desired(&self, id: &ResourceId) -> bool {
        self.desired.contains_key(id)
    }

    pub(super) fn is_in_force(&self, id: &ResourceId) -> bool {
        matches!(self.held.get(id), Some(held) if held.resource.is_some() && held.rejected.is_none()
            && (held.settled || held.was_in_force))
    }

    pub(super) fn rejections(&self) -> BTreeMap<ResourceId, String> {
        let rejected = |(id, held): (&ResourceId, &Held)| Some((id.clone(), held.rejected.clone()?));
        self.held.iter().filter_map(rejected).collect()
    }

    pub(super) fn desired(&self, id: &ResourceId) -> Option<&Planned> {
        self.desired.get(id)
    }

    pub(super) fn desire(&mut self, id: ResourceId, planned: Option<Planned>) {
        match planned {
            Some(planned) => self.desired.insert(id.clone(), planned),
            None => self.desired.remove(&id),
        };
        self.look_again([id]);
    }

    pub(super) fn look_again(&mut self, ids: impl IntoIterator<Item = ResourceId>) {
        for id in ids {
            if self.is_due.insert(id.clone()) {
                self.due.push_back(id);
            }
        }
    }

    /// As [`AgentState::look_again`], before everything else.
    pub(super) fn look_first(&mut self, id: ResourceId) {
        self.is_due.insert(id.clone());
        self.due.push_front(id);
    }

    pub(super) fn connected(&mut self, inventory: Vec<Resource>, now: Instant) {
        let adopt = |resource: Resource| {
            let held = Held {
                resource: Some(Arc::new(resource)),
                version: 0,
                settled: true,
                was_in_force: true,
                rejected: None,
            };
            held.resource.as_ref().map(|resource| resource.id()).map(|id| (id, held))
        };
        // What was sent on an earlier stream and is not there now is gone.
        let held: HashMap<_, _> = inventory.into_iter().filter_map(adopt).collect();
        let before = std::mem::replace(&mut self.held, held);
        self.dropped.extend(before.into_keys().filter(|id| !self.held.contains_key(id)));
        self.link = Link::Syncing;
        self.since = now;
        self.snapshot_end = None;
        (self.sent, self.acknowledged) = (0, 0);
        self.unsettled.clear();
    }

    pub(super) fn disconnected(&mut self, why: String, now: Instant) {
        if !matches!(self.link, Link::Down(_)) {
            self.since = now;
        }
        self.link = Link::Down(why);
        self.unsettled.clear();
    }

    pub(super) fn acknowledged(&mut self, version: u64) -> Vec<Settled> {
        let mut settled = Vec::new();
        if matches!(self.link, Link::Down(_)) {
            return settled;
        }
        self.acknowledged = self.acknowledged.max(version);
        while let Some((at, _, _)) = self.unsettled.front()
            && *at <= version
        {
            let Some((at, Some(id), _)) = self.unsettled.pop_front() else { continue };
            let Some(held) = self.held.get_mut(&id).filter(|held| held.version == at) else { continue };
            held.settled = true;
            if held.resource.is_none() {
                self.held.remove(&id);
                self.look_again([id.clone()]);
                settled.push(Settled::Gone(id));
            } else if held.rejected.is_none() {
                held.was_in_force = true;
                settled.push(Settled::InForce(id));
            }
        }
        if self.snapshot_end.is_some_and(|end| end <= version) {
            self.link = Link::Live;
        }
        settled
    }

    pub(super) fn rejected(&mut self, version: u64, id: &ResourceId, reason: &str) {
        if let Some(held) = self.held.get_mut(id).filter(|held| held.version <= version) {
            held.rejected = Some(reason.to_owned());
        }
    }

    pub(super) fn retry_rejected(&mut self) {
        let rejected: Vec<_> = self.rejections().into_keys().collect();
        for id in &rejected {
            if let Some(held) = self.held.get_mut(id).filter(|held| held.settled) {
                // The content no longer counts as sent.
                held.resource = None;
                held.version = 0;
            }
        }
        self.look_again(rejected);
    }

    /// What the agent dropped by itself since the last call.
    pub(super) fn take_dropped(&mut self) -> Vec<ResourceId> {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn outgoing(
        &mut self,
        now: Instant,
        may_send: impl Fn(&Planned) -> bool,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
    ) -> Vec<v1::SyncRequest> {
        if matches!(self.link, Link::Down(_)) {
            return Vec::new();
        }
        let mut requests = Vec::new();
        if self.snapshot_end.is_none() {
            self.snapshot(now, &may_send, &mut requests);
        }
        self.is_due.clear();
        for id in std::mem::take(&mut self.due) {
            if let Some(message) = self.step(&id, &may_send, &may_remove) {
                requests.push(self.request(message, Some(id), now));
            }
        }
        requests
    }

    /// Everything that is desired and may be sent; what was in force already may always.
    fn snapshot(
        &mut self,
        now: Instant,
        may_send: impl Fn(&Planned) -> bool,
        requests: &mut Vec<v1::SyncRequest>,
    ) {
        let begin = Message::SnapshotBegin(v1::SnapshotBegin { epoch: std::process::id().into() });
        requests.push(self.request(begin, None, now));
        let mut ids: Vec<_> = self.desired.keys().cloned().collect();
        ids.sort_by_cached_key(|id| {
            (self.desired.get(id).map(|planned| rank(&planned.resource)), id.clone())
        });
        for id in ids {
            let Some(planned) = self.desired.get(&id).cloned() else { continue };
            if self.held.contains_key(&id) || may_send(&planned) {
                let message = self.upsert(&id, &planned);
                requests.push(self.request(message, Some(id), now));
            } else {
                self.look_again([id]);
            }
        }
        let end = self.request(Message::SnapshotEnd(v1::SnapshotEnd {}), None, now);
        self.snapshot_end = Some(end.version);
        requests.push(end);
        let gone: Vec<_> = self.held.keys().filter(|id| !self.desired.contains_key(id)).cloned().collect();
        for id in gone {
            self.held.remove(&id);
            self.dropped.push(id);
        }
    }

    /// What to send about one resource, if anything.
    fn step(
        &mut self,
        id: &ResourceId,
        may_send: impl Fn(&Planned) -> bool,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
    ) -> Option<Message> {
        let held = self.held.get(id).and_then(|held| held.resource.clone());
        match (self.desired.get(id).cloned(), held) {
            (Some(planned), Some(held)) if planned.resource == held => None,
            (Some(planned), _) if may_send(&planned) => Some(self.upsert(id, &planned)),
            (Some(_), _) | (None, None) => None,
            (None, Some(held)) if may_remove(id, Some(&held)) => {
                let held = self.held.get_mut(id)?;
                held.resource = None;
                held.version = self.sent + 1;
                held.settled = false;
                held.was_in_force = false;
                held.rejected = None;
                Some(Message::Remove(id.to_string()))
            }
            (None, Some(_)) => None,
        }
    }

    fn upsert(&mut self, id: &ResourceId, planned: &Planned) -> Message {
        let was_in_force = self.is_in_force(id);
        let held = Held {
            resource: Some(planned.resource.clone()),
            version: self.sent + 1,
            settled: false,
            was_in_force,
            rejected: None,
        };
        self.held.insert(id.clone(), held);
        Message::Upsert((&*planned.resource).into())
    }

    fn request(&mut self, message: Message, id: Option<ResourceId>, now: Instant) -> v1::SyncRequest {
        self.sent += 1;
        self.unsettled.push_back((self.sent, id, now));
        v1::SyncRequest { version: self.sent, message: Some(message) }
    }
}

/// The order in a snapshot: what others refer to comes first.
fn rank(resource: &Resource) -> u8 {
    match resource {
        Resource::Listener(_) | Resource::Workload(_) => 0,
        Resource::Client(_) | Resource::ServicePort(_) => 1,
        Resource::Grant(_) => 2,
    }
}
