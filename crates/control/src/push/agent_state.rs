//! One agent: what it should have, and what it has.

mod settle;
mod snapshot;

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
    /// The agent rejected the resource, or its removal.
    Rejected(ResourceId),
}

/// Whether what is desired may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Yes.
    Send,
    /// Not yet: what is in force under its id stays meanwhile.
    Wait,
    /// Not yet, and what is in force under its id is another's, and goes.
    WaitWithout,
}

impl Leave {
    pub(super) fn when(may_send: bool) -> Self {
        if may_send { Self::Send } else { Self::Wait }
    }
}

/// What we believe the agent has under an id.
#[derive(Debug)]
struct Held {
    /// What was sent or adopted last.
    resource: Arc<Resource>,
    /// Its removal was sent after it.
    is_removal: bool,
    /// The version that carried the last of both; 0 when the agent had it when it connected.
    version: u64,
    settled: bool,
    /// Whether an earlier content is in force while this one is on its way, or was rejected.
    was_in_force: bool,
    is_rejected: bool,
    /// It was rejected long enough ago to be sent again as it is.
    is_retry: bool,
}

/// Requests that may wait for their acknowledgement: past that, what changes waits with us, where a later change of the
/// same resource takes its place. An agent takes in as many at once (`steppe_api::sync`).
pub(super) const IN_FLIGHT: usize = 16_384;

/// One agent's share of [`super::Push`].
#[derive(Debug)]
pub struct AgentState {
    desired: HashMap<ResourceId, Planned>,
    held: HashMap<ResourceId, Held>,
    /// Why resources were rejected last, until they are in force or gone.
    rejections: BTreeMap<ResourceId, String>,
    /// Ids to look at, in the order in which they came up.
    due: VecDeque<ResourceId>,
    is_due: BTreeSet<ResourceId>,
    link: Link,
    since: Instant,
    /// Whether it was ever connected.
    was_there: bool,
    /// It said on this stream that it is about to stop.
    draining: bool,
    /// It was told that nothing new leads to it.
    relieved: bool,
    /// Whether the snapshot was sent on this stream, and the version that ended it.
    snapshot_end: Option<u64>,
    sent: u64,
    acknowledged: u64,
    unsettled: VecDeque<(u64, Option<ResourceId>, Instant)>,
    /// What it was believed to have, and had not when it connected.
    dropped: Vec<ResourceId>,
}

impl AgentState {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            desired: HashMap::new(),
            held: HashMap::new(),
            rejections: BTreeMap::new(),
            due: VecDeque::new(),
            is_due: BTreeSet::new(),
            link: Link::Down("not connected yet".into()),
            since: now,
            was_there: false,
            draining: false,
            relieved: false,
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

    /// Whether it can be told anything.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !matches!(self.link, Link::Down(_))
    }

    /// Whether it was ever connected.
    #[must_use]
    pub fn was_there(&self) -> bool {
        self.was_there
    }

    /// Whether it is about to stop.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining
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
            Some(Held { is_rejected: true, .. }) => {
                Condition::Rejected(self.rejections.get(id).cloned().unwrap_or_default())
            }
            Some(Held { is_removal: false, settled: true, .. }) => Condition::InForce,
            Some(Held { is_removal: false, .. }) => Condition::Sent,
            Some(Held { is_removal: true, .. }) | None => Condition::Waiting,
        }
    }

    /// Whether a resource is desired.
    #[must_use]
    pub fn is_desired(&self, id: &ResourceId) -> bool {
        self.desired.contains_key(id)
    }

    pub(super) fn is_in_force(&self, id: &ResourceId) -> bool {
        self.held.get(id).is_some_and(|held| {
            !held.is_removal && ((held.settled && !held.is_rejected) || held.was_in_force)
        })
    }

    /// Whether it need not be waited for: what it rejects is settled as well, and its next try may be long in coming.
    pub(super) fn is_settled(&self, id: &ResourceId) -> bool {
        self.is_in_force(id) || self.rejections.contains_key(id)
    }

    /// Resources that it rejected, with the reason.
    pub(super) fn rejections(&self) -> &BTreeMap<ResourceId, String> {
        &self.rejections
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
        // Its stream will begin with a snapshot, which looks at everything.
        if !self.is_up() {
            return;
        }
        for id in ids {
            if self.is_due.insert(id.clone()) {
                self.due.push_back(id);
            }
        }
    }

    /// As [`AgentState::look_again`], before everything else.
    pub(super) fn look_first(&mut self, id: ResourceId) {
        if !self.is_up() {
            return;
        }
        self.is_due.insert(id.clone());
        self.due.push_front(id);
    }

    pub(super) fn connected(&mut self, inventory: Vec<Resource>, now: Instant) {
        let adopt = |resource: Resource| {
            let held = Held {
                resource: Arc::new(resource),
                is_removal: false,
                version: 0,
                settled: true,
                was_in_force: true,
                is_rejected: false,
                is_retry: false,
            };
            (held.resource.id(), held)
        };
        // What was sent on an earlier stream and is not there now is gone.
        let held: HashMap<_, _> = inventory.into_iter().map(adopt).collect();
        let before = std::mem::replace(&mut self.held, held);
        self.dropped.extend(before.into_keys().filter(|id| !self.held.contains_key(id)));
        self.rejections.clear();
        self.link = Link::Syncing;
        (self.since, self.was_there) = (now, true);
        (self.draining, self.relieved) = (false, false);
        self.snapshot_end = None;
        (self.sent, self.acknowledged) = (0, 0);
        self.unsettled.clear();
    }

    pub(super) fn disconnected(&mut self, why: String, now: Instant) {
        if !matches!(self.link, Link::Down(_)) {
            self.since = now;
        }
        self.link = Link::Down(why);
        (self.draining, self.relieved) = (false, false);
        self.unsettled.clear();
        self.due.clear();
        self.is_due.clear();
    }

    /// It is about to stop.
    pub(super) fn drains(&mut self) {
        self.draining = self.is_up();
    }

    /// Tells it, once, that nothing new leads to it.
    pub(super) fn relieve(&mut self, now: Instant) -> Option<v1::SyncRequest> {
        let is_due = self.draining && !self.relieved && self.snapshot_end.is_some();
        is_due.then(|| {
            self.relieved = true;
            self.request(Message::Relieved(v1::Relieved {}), None, now)
        })
    }

    /// What the agent turned out not to have since the last call.
    pub(super) fn take_dropped(&mut self) -> Vec<ResourceId> {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn outgoing(
        &mut self,
        now: Instant,
        leave: impl Fn(&Planned) -> Leave,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
    ) -> Vec<v1::SyncRequest> {
        if !self.is_up() {
            return Vec::new();
        }
        let mut requests = Vec::new();
        if self.snapshot_end.is_none() {
            self.snapshot(now, &leave, &may_remove, &mut requests);
        }
        while self.unsettled.len() < IN_FLIGHT
            && let Some(id) = self.due.pop_front()
        {
            self.is_due.remove(&id);
            if let Some(message) = self.step(&id, &leave, &may_remove) {
                requests.push(self.request(message, Some(id), now));
            }
        }
        requests
    }

    /// What to send about one resource, if anything.
    fn step(
        &mut self,
        id: &ResourceId,
        leave: impl Fn(&Planned) -> Leave,
        may_remove: impl Fn(&ResourceId, Option<&Resource>) -> bool,
    ) -> Option<Message> {
        let goes = match (self.desired.get(id), self.held.get(id)) {
            (Some(planned), Some(held))
                if planned.resource == held.resource && !held.is_removal && !held.is_retry =>
            {
                false
            }
            (Some(planned), held) => match leave(planned) {
                Leave::Send => {
                    let resource = planned.resource.clone();
                    return Some(self.upsert(id, resource));
                }
                Leave::Wait => false,
                Leave::WaitWithout => held.is_some_and(|held| !held.is_removal),
            },
            (None, Some(held)) => (!held.is_removal || held.is_retry) && may_remove(id, Some(&held.resource)),
            (None, None) => false,
        };
        goes.then(|| {
            self.removal(id, self.sent + 1);
            Message::Remove(id.to_string())
        })
    }

    fn removal(&mut self, id: &ResourceId, version: u64) {
        if let Some(held) = self.held.get_mut(id) {
            held.is_removal = true;
            held.version = version;
            held.settled = false;
            held.was_in_force = false;
            held.is_rejected = false;
            held.is_retry = false;
        }
    }

    fn upsert(&mut self, id: &ResourceId, resource: Arc<Resource>) -> Message {
        let message = Message::Upsert((&*resource).into());
        let held = Held {
            resource,
            is_removal: false,
            version: self.sent + 1,
            settled: false,
            was_in_force: self.is_in_force(id),
            is_rejected: false,
            is_retry: false,
        };
        self.held.insert(id.clone(), held);
        message
    }

    fn request(&mut self, message: Message, id: Option<ResourceId>, now: Instant) -> v1::SyncRequest {
        self.sent += 1;
        self.unsettled.push_back((self.sent, id, now));
        v1::SyncRequest { version: self.sent, message: Some(message) }
    }
}
