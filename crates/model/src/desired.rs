//! Desired state: what control computes and an agent must make true.
//!
//! A resource's id follows from what it is, so that control and an agent that adopts what the kernel holds come to the same id.

mod door;
mod network;

pub use door::{DoorMode, DoorName, Doors, Expose, InvalidDoor, PublishedPort};
pub use network::{AskedName, Asker, Member, Network};

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use crate::{ListenerKey, Mac, ServiceKey, UserName, VirtualPort};

/// What a resource is known by, unique within its agent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(Arc<str>);

impl ResourceId {
    /// Takes any text: an id is compared, never parsed.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// One thing that must be true on an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// For the proxy.
    Listener(Listener),
    /// For the proxy.
    Client(Client),
    /// For the netfilter-agent.
    Workload(Workload),
    /// For the netfilter-agent.
    VirtualIp(VirtualIp),
    /// For the netfilter-agent.
    ServicePort(ServicePort),
    /// For the netfilter-agent.
    Grant(Grant),
    /// For the netfilter-agent.
    Takeover(Takeover),
    /// For the netfilter-agent.
    Network(Network),
    /// For the netfilter-agent.
    PublishedPort(PublishedPort),
    /// For the netfilter-agent.
    Doors(Doors),
    /// For dns.
    Asker(Asker),
    /// For dns.
    Member(Member),
}

impl Resource {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        match self {
            Self::Listener(listener) => listener.id(),
            Self::Client(client) => client.id(),
            Self::Workload(workload) => workload.id.resource_id(),
            Self::VirtualIp(vip) => vip.id(),
            Self::ServicePort(port) => port.id(),
            Self::Grant(grant) => grant.id(),
            Self::Takeover(takeover) => takeover.id(),
            Self::Network(network) => network.id(),
            Self::PublishedPort(published) => published.id(),
            Self::Doors(doors) => doors.id(),
            Self::Asker(asker) => asker.id(),
            Self::Member(member) => member.id(),
        }
    }
}

/// The proxy's socket for one port of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The service and the port that workloads dial.
    pub key: ListenerKey,
    /// Where the proxy listens.
    pub address: SocketAddrV4,
    /// Where its connections go; with a key for every port, where those go whose dialled port has no route.
    /// Empty: they are reset.
    pub endpoints: Vec<Endpoint>,
    /// With a key for every port: by the port that was dialled, where its connections go.
    pub routes: Vec<Route>,
    /// Tell the instance who called (HAProxy's PROXY protocol, version 2).
    pub proxy_protocol: bool,
}

impl Listener {
    /// Its id: its key as text.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&self.key.to_string())
    }
}

/// Where connections go that dialled one port of a listener that serves every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The port that was dialled.
    pub port: u16,
    /// Where its connections go.
    pub endpoints: Vec<Endpoint>,
}

/// One instance of a service, as the proxy dials it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it is dialled from this host.
    pub address: SocketAddrV4,
    /// Its share of the connections, 1 to 100.
    pub weight: u8,
    /// The node it runs on.
    pub node: Arc<str>,
}

/// The right of one address to use one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The listener, which must be in force.
    pub listener: ResourceId,
    /// The client's address.
    pub ip: Ipv4Addr,
}

impl Client {
    /// Its id: the listener's and the address.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("{} < {}", self.listener, self.ip))
    }
}

/// What a workload's address on one bridge is known by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(ResourceId);

impl WorkloadId {
    /// Takes what control made of the container's id and the bridge's name.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(ResourceId::new(text))
    }

    /// The same, as the id of the [`Workload`] resource.
    #[must_use]
    pub fn resource_id(&self) -> ResourceId {
        self.0.clone()
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A container's address on a bridge of this host, bound to the bridge port that it sends from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What it is known by.
    pub id: WorkloadId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its hardware address.
    pub mac: Mac,
    /// The name of the bridge's interface.
    pub bridge: Arc<str>,
    /// The interface index of its bridge port on the host.
    pub port_ifindex: u32,
    /// What people call it.
    pub name: Arc<str>,
    /// The user it belongs to.
    pub user: Option<UserName>,
    /// Whether the doors [`DoorName::Spoofing`] and [`DoorName::Leaving`] are kept for it. On a network of Steppe's the first
    /// always is.
    pub guarded: bool,
}

/// The address that stands for a service on this host, whether or not anything is behind it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VirtualIp {
    /// The service.
    pub service: ServiceKey,
    /// The address.
    pub vip: Ipv4Addr,
}

impl VirtualIp {
    /// Its id: the address.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&self.vip.to_string())
    }
}

/// One port of a virtual IP, and where it leads. A port without one is refused.
///
/// There are two ways: to the proxy's listener, and, while the kernel has taken over or when there is no listener, from the
/// kernel to an endpoint (the *kernel path*).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// The service it belongs to.
    pub service: ServiceKey,
    /// The service's virtual IP, which must be in force.
    pub vip: Ipv4Addr,
    /// The port that workloads dial.
    pub port: VirtualPort,
    /// The proxy's listener; `None` when its connections always take the kernel path.
    pub listener: Option<SocketAddrV4>,
    /// Where connections go on the kernel path; with [`VirtualPort::ANY`]: those whose dialled port has no `ServicePort` of
    /// its own. Empty: they go to the listener all the same.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// Its id: the virtual IP and the port.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("{}:{}", self.vip, self.port))
    }
}

/// The right of one workload to reach one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The workload, which must be in force.
    pub workload: WorkloadId,
    /// The service's virtual IP.
    pub vip: Ipv4Addr,
    /// The port that the workload dials.
    pub port: VirtualPort,
}

impl Grant {
    /// Its id: the workload's, the virtual IP and the port.
    #[must_use]
    pub fn id(&self) -> ResourceId {
        ResourceId::new(&format!("{} > {}:{}", self.workload, self.vip, self.port))
    }
}

/// The proxy is away or about to go: new connections take the kernel path for as long as this is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takeover;

impl Takeover {
    /// Its id: there is one.
    #[must_use]
    pub fn id(self) -> ResourceId {
        ResourceId::new("takeover")
    }
}
