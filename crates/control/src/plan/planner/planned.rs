//! What a plan is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Instant,
};

use steppe_model::{Mac, Resource, ResourceId, UserName, VirtualPort};

use crate::{
    agent::AgentName,
    observe::{Attach, Attachment},
    plan::{BridgePort, Ignored, NoPort, Provider, service::Routing},
};

/// A resource, and what must be in force before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What an agent must make true.
    pub resource: Arc<Resource>,
    /// Resources without which it would lead into the void: a rule's of the proxy, a name's of the netfilter-agent.
    pub requires: Vec<ResourceId>,
}

impl Planned {
    /// A resource that waits for nothing.
    #[must_use]
    pub fn new(resource: Resource) -> Self {
        Self { resource: Arc::new(resource), requires: Vec::new() }
    }
}

/// What changed since the last plan.
#[derive(Debug, Default)]
pub struct Delta {
    /// Resources, in the order in which they should be sent; `None` for those that shall no longer be.
    pub resources: Vec<(AgentName, ResourceId, Option<Planned>)>,
    /// Whether [`Planner::wanted`] or [`Planner::wanted_by_user`] changed.
    pub wanted_changed: bool,
    /// Containers that Docker must be asked about again.
    pub reread: BTreeSet<Arc<str>>,
    /// Allocations of this node whose address must be read again.
    pub reread_allocs: BTreeSet<Arc<str>>,
    /// The allocations elsewhere that Nomad must be asked about, when they changed.
    pub wanted_allocs: Option<BTreeSet<Arc<str>>>,
    /// The users whose networks must be there, when they changed.
    pub users: Option<BTreeSet<UserName>>,
    /// The users whose services must be known, when they changed: they have a member on this host.
    pub services_of: Option<BTreeSet<UserName>>,
    /// Containers to be moved to their users' networks.
    pub attach: Vec<Attach>,
    /// Containers whose resolv.conf shall lead to dns, and those whose shall not any more.
    pub resolve: Vec<(Arc<str>, bool)>,
    /// Input that was not ignored before.
    pub ignored: Vec<Ignored>,
}

impl Delta {
    pub(super) fn tell(&mut self, agent: AgentName, changed: Vec<(ResourceId, Option<Planned>)>) {
        self.resources.extend(changed.into_iter().map(|(id, planned)| (agent, id, planned)));
    }
}

/// An attachment, and the bridge port that it was found behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The container's address.
    pub attachment: Attachment,
    /// The user whose network it is on.
    pub network: Option<UserName>,
    /// Its bridge port.
    pub port: Result<BridgePort, NoPort>,
}

impl Attached {
    /// The hardware address that it sends from, as its source or else the kernel says.
    #[must_use]
    pub fn mac(&self) -> Option<Mac> {
        self.attachment.mac.or_else(|| Some(self.port.as_ref().ok()?.mac))
    }
}

/// One service that some workload of this host asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedService {
    /// Its virtual IP; `None` when none is left.
    pub vip: Option<Ipv4Addr>,
    /// Its instances, those that can't be dialled included.
    pub providers: Vec<Provider>,
    /// Whether they are its own user's: nobody's stand in for as long as that user was not seen to have any.
    pub are_own: bool,
    pub(super) own_seen: bool,
    /// The ports that grants name.
    pub ports: BTreeMap<VirtualPort, PlannedPort>,
    /// The containers that ask for it, and whether they may.
    pub consumers: BTreeMap<Arc<str>, Result<(), String>>,
    /// Since when it has had no endpoint.
    pub empty_since: Option<Instant>,
    pub(super) resources: BTreeMap<(AgentName, ResourceId), Planned>,
}

/// A port of a service that some grant names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedPort {
    /// The proxy's listener, when there is an instance.
    pub listener: Option<SocketAddrV4>,
    /// Where its connections go.
    pub routing: Routing,
}
