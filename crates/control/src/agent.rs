//! The agents that control pushes to.

use steppe_daemon::Process;
use steppe_model::Resource;

/// An agent of this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentName {
    /// Listens and balances.
    Proxy,
    /// Keeps the rules.
    NetfilterAgent,
}

impl AgentName {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Proxy, Self::NetfilterAgent];

    /// The process, whose name and socket are the agent's.
    #[must_use]
    pub fn process(self) -> Process {
        match self {
            Self::Proxy => Process::Proxy,
            Self::NetfilterAgent => Process::NetfilterAgent,
        }
    }

    /// The agent that a resource is for.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Listener(_) | Resource::Client(_) => Self::Proxy,
            _ => Self::NetfilterAgent,
        }
    }
}
