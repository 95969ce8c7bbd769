//! An instance of a service, and whether and where this host can dial it.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use steppe_model::{ServiceName, Tag, UserName};

use super::{
    Ignored,
    allocate::Cidr,
    locate::Local,
    settings::Settings,
    workload::{Offer, Workload, registered_alloc},
};
use crate::observe::{Health, Instance, SourceName};

/// An instance of a service, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// As its source knows it.
    pub id: Arc<str>,
    /// Who told of it.
    pub source: SourceName,
    /// The user whose workload provides it.
    pub owner: Option<UserName>,
    /// The node it runs on.
    pub node: Arc<str>,
    /// Where this host dials it, or why it can't.
    pub address: Result<SocketAddrV4, &'static str>,
    /// Its port in the container, where that is known.
    pub container_port: Option<u16>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its settings.
    pub settings: Settings,
    /// How it is doing.
    pub health: Health,
    /// The container of this host that provides it.
    pub workload: Option<Arc<str>>,
    /// What registrations with the same text here have in common: they are ports of one instance.
    pub group: Arc<str>,
}

impl Provider {
    /// Whether new connections may go to it.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.address.is_ok() && self.health == Health::Passing
    }

    /// Whether it has this tag, or none is asked for.
    #[must_use]
    pub fn has(&self, tag: Option<&Tag>) -> bool {
        tag.is_none_or(|tag| self.tags.iter().any(|own| own == tag.as_str()))
    }

    /// What a container offers by its label. `None` when it offers nothing.
    #[must_use]
    pub fn offered(
        workload: &Workload,
        node: &Arc<str>,
        ignored: &mut Vec<Ignored>,
    ) -> Option<(ServiceName, Self)> {
        let Offer { name, port } = workload.offer.clone()?;
        let container = &workload.container;
        let address = match container.attachments.first() {
            Some(attachment) => Ok(SocketAddrV4::new(attachment.ip, port)),
            None => Err("its container has no address on a bridge of this host"),
        };
        let provider = Self {
            id: container.name.clone(),
            source: SourceName::Docker,
            owner: workload.user.clone(),
            node: node.clone(),
            address,
            container_port: Some(port),
            tags: Vec::new(),
            settings: Settings::read("", &[], Some(container), 1, ignored),
            health: container.health.clone(),
            workload: Some(container.id.clone()),
            group: container.id.clone(),
        };
        Some((name, provider))
    }

    /// What a catalogue has registered.
    #[must_use]
    pub fn registered(instance: &Instance, local: &Local<'_>, ignored: &mut Vec<Ignored>) -> Self {
        let found = locate(instance, local);
        let workload = found.workload.clone();
        if let Err(why) = found.address
            && [NO_IPV4, NO_PORT].contains(&why)
        {
            let origin = format!("Consul service {} on {}", instance.id, instance.node);
            ignored.push(Ignored::new(&origin, format!("{}:{}", address_of(instance), instance.port), why));
        }
        let container = workload.as_ref().and_then(|id| local.container(id));
        let origin = format!("tag of Consul service {}", instance.id);
        let group = workload.clone().or_else(|| registered_alloc(instance).map(Into::into));
        Self {
            id: instance.id.clone(),
            source: SourceName::Consul,
            owner: None,
            node: instance.node.clone(),
            address: found.address,
            container_port: found.container_port,
            tags: instance.tags.clone(),
            settings: Settings::read(&origin, &instance.tags, container, instance.weight, ignored),
            health: instance.health.clone(),
            workload,
            group: group.unwrap_or_else(|| format!("{} {}", instance.node, instance.id).into()),
        }
    }
}

const NO_IPV4: &str = "its registered address is no IPv4 address: register one, such as 10.0.0.5";
const NO_PORT: &str = "it is registered without a port from 1 to 65535";

fn address_of(instance: &Instance) -> &str {
    if instance.address.is_empty() { &instance.node_address } else { &instance.address }
}

struct Found {
    address: Result<SocketAddrV4, &'static str>,
    container_port: Option<u16>,
    workload: Option<Arc<str>>,
}

impl Found {
    fn nowhere(why: &'static str) -> Self {
        Self { address: Err(why), container_port: None, workload: None }
    }

    fn at(address: SocketAddrV4) -> Self {
        Self { address: Ok(address), container_port: None, workload: None }
    }
}

/// Where a registered instance is dialled from this host (LANGUAGE.md, "Endpoints").
fn locate(instance: &Instance, local: &Local<'_>) -> Found {
    let Ok(ip) = address_of(instance).parse::<Ipv4Addr>() else { return Found::nowhere(NO_IPV4) };
    if instance.port == 0 {
        return Found::nowhere(NO_PORT);
    }
    let address = SocketAddrV4::new(ip, instance.port);
    if !instance.is_on(local.node) {
        return match () {
            () if ip.is_loopback() || ip.is_unspecified() => {
                Found::nowhere("it is registered with an address that only its own node can dial")
            }
            () if local.is_bridged(ip) => Found::nowhere(
                "it is registered with a container's address, which means somebody else on this host: publish its port",
            ),
            () => Found::at(address),
        };
    }
    match local.container_at(address, instance) {
        Some((container, address)) => Found {
            address: Ok(address),
            container_port: Some(address.port()),
            workload: Some(container.id.clone()),
        },
        None if local.is_bridged(ip) => Found::nowhere("no container of this host has its address"),
        None => Found::at(address),
    }
}

/// The subnet of an attachment.
#[must_use]
pub fn subnet(attachment: &crate::observe::Attachment) -> Cidr {
    Cidr::of(attachment.ip, attachment.prefix_len)
}
