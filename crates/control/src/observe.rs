//! What sources tell: facts as they were seen, not yet judged. Names and addresses in here are whatever somebody wrote.

mod alloc;
mod network;

pub use alloc::{Alloc, AllocNetwork, AllocPort, AllocService, Ask, Life};
pub use network::{Attach, Network};

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use steppe_model::{Doors, Mac, Protocol, ServiceName, UserName};

/// A source of facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceName {
    /// The Docker daemon of this host.
    Docker,
    /// The Consul agent of this host.
    Consul,
    /// The Nomad client of this host, and the servers that it speaks to.
    Nomad,
}

impl SourceName {
    /// Its name in a sentence.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Docker => "Docker",
            Self::Consul => "Consul",
            Self::Nomad => "Nomad",
        }
    }

    /// Its name in messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Consul => "consul",
            Self::Nomad => "nomad",
        }
    }
}

/// One thing that a source tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Observation {
    /// Every container of this host: it replaces all that was known of them.
    Containers(Vec<Container>),
    /// One container, new or changed.
    Container(Container),
    /// The container with this id is gone, or has no network any more.
    ContainerGone(Arc<str>),
    /// Every service that is registered on this host's own node: it replaces all that was known of them.
    Registrations {
        /// The node's name.
        node: Arc<str>,
        /// The registrations; their health is not known here.
        instances: Vec<Instance>,
    },
    /// Every instance of one service that one source knows, on all nodes: it replaces all that was known of them.
    Instances(SourceName, ServiceName, Vec<Instance>),
    /// Every allocation that Nomad has placed on this node, the dead ones included that it has not forgotten: it replaces
    /// all that was known of them.
    Allocs(Vec<Arc<Alloc>>),
    /// What Nomad says of an allocation on another node.
    AllocElsewhere(Arc<str>, Elsewhere),
    /// A container that Docker has made and not started, and that asks to be attached to its user's network.
    Created(Container),
    /// Every network that Steppe made: it replaces all that was known of them.
    Networks(Vec<Network>),
    /// Users who need a network and can have none, and why: it replaces all that was known of them.
    NoNetwork(BTreeMap<UserName, Arc<str>>),
    /// A container could not be attached to its user's network, and why.
    NotAttached(Arc<str>, Arc<str>),
    /// Whether a container's resolv.conf leads to dns, or why not: what its author chose is left.
    Resolver(Arc<str>, Result<(), Arc<str>>),
    /// Every user that Nomad knows: its namespaces, without `default`. It replaces all that was known of them.
    Users(BTreeSet<UserName>),
    /// The services of a user, as the jobs of its namespace name them. It replaces all that was known of them.
    ServicesOf(UserName, BTreeSet<ServiceName>),
    /// How the doors are kept, and for whom they open.
    Doors(Doors),
    /// The source answered, and holds nothing back.
    Live(SourceName),
    /// The source failed; what it said before still counts.
    Failed(SourceName, String),
}

/// What Nomad says of an allocation that it was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Elsewhere {
    /// This.
    Found(Arc<Alloc>),
    /// There is none, or none any more.
    Unknown,
    /// The token may not know.
    Denied,
}

/// A container of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: Arc<str>,
    /// Its name, without the leading slash.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, one for each bridge network that it is attached to now.
    pub attachments: Vec<Attachment>,
    /// Its published ports.
    pub published: Vec<PublishedPort>,
    /// Further names that it has on its networks, as its author gave them.
    pub aliases: Vec<Arc<str>>,
    /// How it is doing.
    pub health: Health,
    /// How many changes of bridge ports control had taken in when it asked Docker for this: a port that came
    /// later may belong to a later container with the same address.
    pub ports_known: u64,
}

impl Container {
    /// Whether it has the same addresses and published ports as `other`.
    #[must_use]
    pub fn same_place(&self, other: &Self) -> bool {
        self.attachments == other.attachments && self.published == other.published
    }

    /// Whether Docker says the same of it as of `other`, perhaps at another time.
    #[must_use]
    pub fn same_facts(&self, other: &Self) -> bool {
        self.same_place(other)
            && (&self.id, &self.name, &self.labels, &self.health, &self.aliases)
                == (&other.id, &other.name, &other.labels, &other.health, &other.aliases)
    }
}

/// A container's address on one bridge network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The network's full id.
    pub network: Arc<str>,
    /// The name of the bridge's interface on the host.
    pub bridge: Arc<str>,
    /// The container's address.
    pub ip: Ipv4Addr,
    /// The length of the network's prefix, in bits: with the address it gives the subnet.
    pub prefix_len: u8,
    /// Its hardware address; `None` where only the kernel knows it.
    pub mac: Option<Mac>,
}

/// A port that Docker published on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address that it is bound to; unspecified for all of that family.
    pub host_ip: IpAddr,
    /// The port on the host.
    pub host_port: u16,
    /// The port in the container.
    pub container_port: u16,
}

/// An instance of a service as a catalogue has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// The source that has it.
    pub source: SourceName,
    /// The namespace that it was registered in, where the source has such a thing and vouches for it.
    pub namespace: Option<Arc<str>>,
    /// The id of the registration, unique on its node.
    pub id: Arc<str>,
    /// The service's name as written.
    pub service: Arc<str>,
    /// The node's name, as its source calls it: two sources may have different names for one node.
    pub node: Arc<str>,
    /// The node's own address as written.
    pub node_address: Arc<str>,
    /// The registered address as written; empty when it is the node's.
    pub address: Arc<str>,
    /// The registered port; 0 for none.
    pub port: u16,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its meta.
    pub meta: BTreeMap<String, String>,
    /// Its share of the connections, as registered.
    pub weight: u32,
    /// How it is doing.
    pub health: Health,
}

impl Instance {
    /// Whether it is registered on the node with this name. Consul compares such names without regard to case.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.node.eq_ignore_ascii_case(node)
    }
}

/// Whether an instance may get connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It may.
    Passing,
    /// It may not, and what the failing check says (its beginning).
    Critical(Arc<str>),
}
