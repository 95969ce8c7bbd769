//! An instance of a service, and whether and where this host can dial it.

use std::{collections::BTreeMap, net::SocketAddrV4, sync::Arc};

use ipnet::Ipv4Net;
use steppe_model::{ServiceName, Tag, UserName};

use super::{
    Ignored,
    allocs::Whereabouts,
    dial::{AWAITED, ENDED, NO_IPV4, NO_PORT, NO_USER, STOPPING, locate, registered_address},
    locate::Local,
    settings::{Settings, Written},
    workload::{Offer, Workload, alloc_of, registered_alloc},
};
use crate::observe::{Alloc, Attachment, Health, Instance, Life, SourceName};

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

    /// Whether it is known whose it is.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.address != Err(AWAITED)
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
        local: &Local<'_>,
        ignored: &mut Vec<Ignored>,
    ) -> Option<(ServiceName, Self)> {
        let Offer { name, port } = workload.offer.clone()?;
        let container = &workload.container;
        let address = match (unfit(workload, local), container.attachments.first()) {
            (Some(why), _) => Err(why),
            (None, Some(attachment)) => Ok(SocketAddrV4::new(attachment.ip, port)),
            (None, None) => Err("its container has no address on a bridge of this host"),
        };
        let provider = Self {
            id: container.name.clone(),
            source: SourceName::Docker,
            owner: workload.user.clone(),
            node: local.node.clone(),
            address,
            container_port: Some(port),
            tags: Vec::new(),
            settings: Settings::read(
                Written { container: Some(container), ..Written::default() },
                1,
                ignored,
            ),
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
        let catalogue = instance.source.title();
        if let Err(why) = found.address
            && [NO_IPV4, NO_PORT].contains(&why)
        {
            let origin = format!("{catalogue} service {} on {}", instance.id, instance.node);
            let text = format!("{}:{}", registered_address(instance), instance.port);
            ignored.push(Ignored::new(&origin, text, why));
        }
        let alloc = match local.allocs.of(instance) {
            Whereabouts::Here(alloc) | Whereabouts::Elsewhere(alloc) => Some(alloc),
            _ => None,
        };
        let user = alloc.map(|alloc| local.user_from.of(alloc).0).or(instance.namespace.as_ref());
        let (owner, address) = match user.map(|user| (user, user.parse::<UserName>())) {
            None => (None, found.address),
            Some((_, Ok(user))) => (Some(user), found.address),
            // As nobody's it would be open to everybody.
            Some((user, Err(error))) => {
                let origin = format!("{catalogue} service {}", instance.id);
                ignored.push(Ignored::new(&origin, user, error.to_string()));
                (None, Err(NO_USER))
            }
        };
        let settings = Written {
            origin: &format!("tag of {catalogue} service {}", instance.id),
            tags: &instance.tags,
            meta: alloc.and_then(|alloc| service_settings(alloc, &instance.service)),
            container: workload.as_ref().and_then(|id| local.container(id)),
        };
        let told = alloc.map(|alloc| alloc.id.clone());
        let group = told.or_else(|| workload.clone()).or_else(|| registered_alloc(instance).map(Into::into));
        Self {
            id: instance.id.clone(),
            source: instance.source,
            owner,
            node: alloc.map_or(&instance.node, |alloc| &alloc.node).clone(),
            address,
            container_port: found.container_port,
            tags: instance.tags.clone(),
            settings: Settings::read(settings, instance.weight, ignored),
            health: instance.health.clone(),
            workload,
            group: group.unwrap_or_else(|| format!("{} {}", instance.node, instance.id).into()),
        }
    }
}

/// Why what a container of Nomad's offers is not dialled, as for what its job registers.
fn unfit(workload: &Workload, local: &Local<'_>) -> Option<&'static str> {
    let id = alloc_of(&workload.container).filter(|_| local.allocs.are_listed())?;
    match local.allocs.own(id).map(|alloc| alloc.life) {
        None => Some(AWAITED),
        Some(Life::Stopping) => Some(STOPPING),
        Some(Life::Dead) => Some(ENDED),
        Some(_) => workload.user.is_none().then_some(NO_USER),
    }
}

/// What the meta of an allocation's job sets for its service of this name. Catalogues compare names without regard to case.
pub(super) fn service_settings<'a>(alloc: &'a Alloc, name: &str) -> Option<&'a BTreeMap<String, String>> {
    alloc.services.iter().find(|own| own.name.eq_ignore_ascii_case(name)).map(|own| &own.settings)
}

/// The subnet of an attachment.
#[must_use]
pub fn subnet(attachment: &Attachment) -> Ipv4Net {
    Ipv4Net::new_assert(attachment.ip, attachment.prefix_len.min(32)).trunc()
}
