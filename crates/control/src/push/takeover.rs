//! When the kernel carries new connections past the proxy.
//!
//! It takes over when the proxy is away or about to go, and hands back when all that the rules lead to is in force on a proxy
//! that stays. While a proxy is being told its snapshot, things stay as they are: control that starts anew takes over from
//! no living proxy, and a proxy that starts anew gets nothing to carry before it can.

use steppe_model::{Resource, ResourceId};

use super::agent_state::{AgentState, Link};
use crate::plan::Planned;

/// Whether the kernel shall carry new connections.
#[derive(Debug)]
pub(super) struct Takeover {
    is_allowed: bool,
    is_wanted: bool,
}

impl Takeover {
    /// `is_allowed`: whether it may ever happen.
    pub(super) fn new(is_allowed: bool) -> Self {
        Self { is_allowed, is_wanted: false }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// The netfilter-agent has it in force, from an earlier life of control perhaps.
    pub(super) fn adopt(&mut self) {
        self.is_wanted = self.is_allowed;
    }

    /// Decides anew, and tells whether that changed anything. `may_hand_back`: whether all that rules lead to is in force on the proxy.
    pub(super) fn review(&mut self, proxy: &AgentState, may_hand_back: impl FnOnce() -> bool) -> bool {
        let before = self.is_wanted;
        self.is_wanted = self.is_allowed
            && match proxy.link().0 {
                _ if proxy.is_draining() => true,
                Link::Down(_) => true,
                Link::Syncing => before,
                Link::Live => before && !may_hand_back(),
            };
        self.is_wanted != before
    }
}

/// The resource that makes it so.
pub(super) fn resource() -> Resource {
    Resource::Takeover(steppe_model::Takeover)
}

/// Its id.
pub(super) fn id() -> ResourceId {
    steppe_model::Takeover.id()
}

/// Whether a rule may be sent as far as the proxy is concerned, which is there to stay.
pub(super) fn is_led(proxy: &AgentState, planned: &Planned) -> bool {
    let is_port = matches!(*planned.resource, Resource::ServicePort(_));
    let is_client = |id: &ResourceId| {
        proxy.desired(id).is_some_and(|planned| matches!(*planned.resource, Resource::Client(_)))
    };
    planned.requires.iter().all(|required| {
        // Of the clients of a port, one that is rejected must not hold up the others.
        proxy.is_in_force(required) || (is_port && is_client(required) && proxy.is_settled(required))
    })
}
