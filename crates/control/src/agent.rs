//! The agents that control pushes to.

use steppe_daemon::Process;
use steppe_model::Resource;

/// An agent of this host. dns is one process or two side by side: whichever of the three is there is told the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AgentName {
    /// Listens and balances.
    Proxy,
    /// Keeps the rules.
    NetfilterAgent,
    /// Answers for names, alone.
    Dns,
    /// Answers for names, the first of two.
    DnsA,
    /// Answers for names, the second of two.
    DnsB,
}

impl AgentName {
    /// All of them, each after those that it waits for.
    pub const ALL: [Self; 5] = [Self::Proxy, Self::NetfilterAgent, Self::Dns, Self::DnsA, Self::DnsB];
    /// Those that answer for names.
    pub const DNS: [Self; 3] = [Self::Dns, Self::DnsA, Self::DnsB];
    /// Those whose choices control keeps when it starts, and which traffic depends on.
    pub const TRAFFIC: [Self; 2] = [Self::Proxy, Self::NetfilterAgent];

    /// The process, whose name and socket are the agent's.
    #[must_use]
    pub fn process(self) -> Process {
        match self {
            Self::Proxy => Process::Proxy,
            Self::NetfilterAgent => Process::NetfilterAgent,
            Self::Dns => Process::Dns,
            Self::DnsA => Process::DnsA,
            Self::DnsB => Process::DnsB,
        }
    }

    /// The agent that a resource is for; [`AgentName::Dns`] stands for all three.
    #[must_use]
    pub fn of(resource: &Resource) -> Self {
        match resource {
            Resource::Listener(_) | Resource::Client(_) => Self::Proxy,
            Resource::Workload(_)
            | Resource::VirtualIp(_)
            | Resource::ServicePort(_)
            | Resource::Grant(_)
            | Resource::Takeover(_)
            | Resource::Network(_)
            | Resource::PublishedPort(_)
            | Resource::Doors(_) => Self::NetfilterAgent,
            Resource::Asker(_) | Resource::Member(_) => Self::Dns,
        }
    }
}
