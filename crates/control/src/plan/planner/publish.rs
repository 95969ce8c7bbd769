//! The ports that are published for a container, and who may dial them (`steppe.expose`).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use steppe_model::{Expose, PublishedPort, Resource};

use super::{Attached, Planned, Workload, workload_id};
use crate::{
    observe::{self, Alloc, AllocNetwork, AllocService, Instance},
    plan::{
        provider::service_settings,
        settings::{Settings, Written},
    },
};

/// The published ports of a workload that is Steppe's concern.
pub(super) fn ports(
    workload: &Workload,
    attached: &[Attached],
    registered: &[Instance],
    alloc: Option<&Alloc>,
) -> Vec<Planned> {
    let container = &workload.container;
    let as_alloc = alloc.filter(|alloc| alloc.id == container.id);
    // The ports of an allocation on the host's network are its processes' own: nobody publishes them.
    let is_hosts = as_alloc.is_some_and(|alloc| !matches!(alloc.network, AllocNetwork::Bridge { .. }));
    if !workload.guarded || is_hosts {
        return Vec::new();
    }
    let bound = attached.iter().find_map(|attached| attached.port.as_ref().ok());
    let planned = container.published.iter().map(|port| {
        Planned::new(Resource::PublishedPort(PublishedPort {
            protocol: port.protocol,
            port: port.host_port,
            // Nomad publishes at all addresses what it gives one, unless it is told otherwise.
            addresses: if as_alloc.is_some() { BTreeSet::new() } else { addresses(port.host_ip) },
            workload: bound.map(|port| workload_id(&container.id, port)),
            expose: expose(port, workload, registered, alloc),
            name: container.name.clone(),
            user: workload.user.clone(),
        }))
    });
    planned.collect()
}

/// The addresses that a port is bound to; none for all of them. By IPv6 no single address is told apart.
fn addresses(host_ip: IpAddr) -> BTreeSet<Ipv4Addr> {
    match host_ip {
        IpAddr::V4(ip) if !ip.is_unspecified() => [ip].into(),
        IpAddr::V4(_) | IpAddr::V6(_) => BTreeSet::new(),
    }
}

/// Who may dial a port: as little as any instance wants that is reached by it.
fn expose(
    port: &observe::PublishedPort,
    workload: &Workload,
    registered: &[Instance],
    alloc: Option<&Alloc>,
) -> Expose {
    // What makes no sense is named where the service is planned.
    let read = |tags: &[String], meta: Option<&BTreeMap<String, String>>| {
        let written = Written { origin: "tag", tags, meta, container: Some(&workload.container) };
        Settings::read(written, 1, &mut Vec::new()).expose
    };
    let own_ip = |instance: &Instance| {
        workload.container.attachments.iter().any(|own| instance.address.parse() == Ok(own.ip))
    };
    let registered = registered.iter().filter(|instance| {
        instance.port == if own_ip(instance) { port.container_port } else { port.host_port }
    });
    let registered = registered.map(|instance| {
        read(&instance.tags, alloc.and_then(|alloc| service_settings(alloc, &instance.service)))
    });
    let services = alloc.into_iter().flat_map(|alloc| alloc.services.iter().map(move |own| (alloc, own)));
    let services = services.filter(|(alloc, service)| leads_to(alloc, service, port));
    let services = services.map(|(_, service)| read(&service.tags, Some(&service.settings)));
    registered.chain(services).min().unwrap_or_else(|| read(&[], None))
}

/// Whether a service of an allocation is reached by this port of its.
fn leads_to(alloc: &Alloc, service: &AllocService, port: &observe::PublishedPort) -> bool {
    let Some((_, label)) = &service.port else { return false };
    let labelled = alloc.ports.iter().any(|own| own.label == *label && own.host_port == port.host_port);
    labelled
        || [port.host_port, port.container_port].map(|number| number.to_string()).contains(&label.to_string())
}
