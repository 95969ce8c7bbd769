//! One Sync stream as a pure state machine.

use std::collections::HashSet;

use steppe_model::{Resource, ResourceId};
use thiserror::Error;

use super::{Change, Rejection};
use crate::v1::{self, sync_request::Message};

/// A request that breaks the protocol. The stream ends; what is in force stays.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("Sync request {version}: {problem}")]
pub struct ProtocolError {
    version: u64,
    problem: &'static str,
}

/// What a request asks of the agent.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Nothing,
    /// A change to put in force.
    Apply(Change),
    /// The resource makes no sense, and the reason why.
    Reject(Rejection),
    /// The snapshot is complete: whatever else is in force goes (see [`Session::leftovers`]).
    Prune,
    /// Nothing new leads to the agent any more.
    Relieved,
}

/// Where a stream is: its last version, and what its snapshot has named so far.
#[derive(Debug, Default)]
pub struct Session {
    version: u64,
    snapshot: Snapshot,
}

#[derive(Debug, Default)]
enum Snapshot {
    #[default]
    Awaited,
    Open(HashSet<ResourceId>),
    Complete,
}

impl Session {
    /// The version of the last request taken.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Takes the next request.
    ///
    /// # Errors
    /// [`ProtocolError`] for a request that must not come here.
    pub fn take(&mut self, request: v1::SyncRequest) -> Result<Step, ProtocolError> {
        let version = request.version;
        let fail = |problem| Err(ProtocolError { version, problem });
        if version != self.version + 1 {
            return fail("the version must be one more than the last");
        }
        self.version = version;
        match (request.message, &mut self.snapshot) {
            (Some(Message::SnapshotBegin(_)), snapshot @ Snapshot::Awaited) => {
                *snapshot = Snapshot::Open(HashSet::new());
                Ok(Step::Nothing)
            }
            (Some(Message::SnapshotBegin(_)), _) => fail("a stream has one snapshot, at its start"),
            (Some(Message::SnapshotEnd(_)), Snapshot::Open(_)) => Ok(Step::Prune),
            (Some(Message::SnapshotEnd(_)), _) => fail("no snapshot is open"),
            (_, Snapshot::Awaited) => fail("a stream begins with its snapshot"),
            (Some(Message::Upsert(resource)), snapshot) => {
                let id = ResourceId::new(&resource.id);
                if let Snapshot::Open(named) = snapshot {
                    named.insert(id.clone());
                }
                Ok(match Resource::try_from(resource) {
                    Ok(resource) => Step::Apply(Change::Upsert(resource)),
                    Err(error) => Step::Reject(Rejection { id, reason: error.to_string() }),
                })
            }
            (Some(Message::Remove(id)), snapshot) => {
                let id = ResourceId::new(&id);
                if let Snapshot::Open(named) = snapshot {
                    named.remove(&id);
                    return Ok(Step::Nothing);
                }
                Ok(Step::Apply(Change::Remove(id)))
            }
            (Some(Message::Relieved(_)), _) => Ok(Step::Relieved),
            (None, _) => fail("its message is missing or not known to this version"),
        }
    }

    /// Ends the snapshot: of what is in force, what it did not name.
    pub fn leftovers(&mut self, in_force: impl IntoIterator<Item = ResourceId>) -> Vec<ResourceId> {
        match std::mem::replace(&mut self.snapshot, Snapshot::Complete) {
            Snapshot::Open(named) => in_force.into_iter().filter(|id| !named.contains(id)).collect(),
            Snapshot::Awaited | Snapshot::Complete => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
