//! The agent's end of `Sync`: `proto/steppe/v1/sync.proto` tells the protocol.
//!
//! [`Session`] is the protocol without a socket; [`SyncServer`] is the shell around it. Agents implement [`Agent`].

mod relief;
mod server;
mod session;

pub use server::{SyncServer, SyncStream};
pub use session::Session;

use steppe_model::{Resource, ResourceId};

/// One step towards desired state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make this so, whether or not the id is known already.
    Upsert(Resource),
    /// This shall no longer be. An unknown id is no error.
    Remove(ResourceId),
}

impl Change {
    /// The resource it is about.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Upsert(resource) => resource.id(),
            Self::Remove(id) => id.clone(),
        }
    }
}

/// A change that could not be put in force. What was in force under that id before still is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The resource.
    pub id: ResourceId,
    /// What is wrong, and what would be right.
    pub reason: String,
}

/// A process that makes desired state true.
#[tonic::async_trait]
pub trait Agent: Send + 'static {
    /// Everything that is in force now.
    fn inventory(&self) -> Vec<Resource>;

    /// Puts changes in force, in order, and returns when they are. One that fails must not hold up the others.
    /// The same id may come more than once; the last one counts.
    async fn apply(&mut self, changes: Vec<Change>) -> Vec<Rejection>;

    /// control has told everything, and it is in force. Once a stream, after its snapshot.
    fn settled(&mut self) {}
}
