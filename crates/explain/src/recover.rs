//! With control away: what the agents have in force, put together as if control had planned it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use steppe_api::v1::{
    Attachment, GrantInfo, GrantedPort, Instance, Pair, Protocol, Service, ServiceKey, ServicePath,
    ServicePort, SocketAddress, WorkloadInfo, WorkloadState,
};
use steppe_model::parse_grant;

use crate::{
    Facts, Firewall, Query,
    text::{key, key_and_port},
};

/// What the agents know of the question. Where they know nothing of the workload or the service, the pair's problem says so.
pub(crate) fn pair(facts: &Facts) -> Option<Pair> {
    let firewall = facts.netfilter.as_ref().ok()?;
    let (asked, protocol, port) = match service(&facts.query.service, firewall) {
        Ok(asked) => asked,
        Err(problem) => return Some(Pair { service_problem: problem, ..Pair::default() }),
    };
    let workload = match workload(&facts.query, firewall) {
        Ok(workload) => workload,
        Err(workload_problem) => return Some(Pair { workload_problem, ..Pair::default() }),
    };
    let asked = owned(asked, &workload, firewall);
    let service = planned(facts, firewall, &asked);
    let ids: BTreeSet<&str> = workload.attachments.iter().map(|attachment| &*attachment.id).collect();
    let covers = |grant: &&GrantInfo| {
        let exact = (port == 0 || grant.port == port) && grant.protocol == protocol;
        let every = grant.port == 0 && protocol == i32::from(Protocol::Tcp);
        grant.service.as_ref() == Some(&asked) && (exact || every)
    };
    let grants = in_force(firewall, &ids);
    let grant = grants.iter().filter(covers).max_by_key(|grant| grant.port).cloned();
    let workload = WorkloadInfo { grants, ..workload };
    Some(Pair {
        workload: Some(workload),
        asked: Some(asked),
        protocol,
        port,
        grant,
        service,
        ..Pair::default()
    })
}

/// Why a service as it was asked for is none, whoever may be asked about it. Virtual IPs are for those who know them.
pub(crate) fn malformed(text: &str) -> Option<String> {
    let host = text.split_once(':').map_or(text, |(host, _)| host);
    if host.trim().parse::<Ipv4Addr>().is_ok() {
        return None;
    }
    parse_grant(text).err().map(|malformed| malformed.to_string())
}

/// What the text means. The user is empty where none is written.
fn service(text: &str, firewall: &Firewall) -> Result<(Asked, i32, u32), String> {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let Ok(vip) = host.trim().parse::<Ipv4Addr>() else {
        let spec = parse_grant(text).map_err(|malformed| malformed.to_string())?;
        let key = ServiceKey::from(&spec.key(spec.user.clone()));
        let protocol = Protocol::from(spec.port.protocol).into();
        return Ok((Asked::Named(key), protocol, spec.port.number_or_zero().into()));
    };
    let vip = vip.to_string();
    let known = firewall.vips.iter().find(|state| state.vip == vip).and_then(|state| state.service.clone());
    let key = known
        .ok_or_else(|| format!("{vip} is no virtual IP that is in force: `steppe services` lists them"))?;
    // The grammar knows how a port is written; any name will do before it.
    let spec = match port {
        Some(port) => Some(parse_grant(&format!("x:{port}")).map_err(|malformed| malformed.reason)?.port),
        None => None,
    };
    let protocol = spec.map_or(Protocol::Tcp, |spec| spec.protocol.into());
    Ok((Asked::Exact(key), protocol.into(), spec.map_or(0, |spec| spec.number_or_zero().into())))
}

enum Asked {
    /// As a consumer writes it.
    Named(ServiceKey),
    /// The very key.
    Exact(ServiceKey),
}

/// A name without a user means the workload's own user's service, else nobody's.
fn owned(asked: Asked, workload: &WorkloadInfo, firewall: &Firewall) -> ServiceKey {
    match asked {
        Asked::Named(key) if key.user.is_empty() => {
            let own = ServiceKey { user: workload.user.clone(), ..key.clone() };
            let nobodys = firewall.vips.iter().any(|state| state.service.as_ref() == Some(&key));
            let owned = firewall.vips.iter().any(|state| state.service.as_ref() == Some(&own));
            if nobodys && !owned { key } else { own }
        }
        Asked::Named(key) | Asked::Exact(key) => key,
    }
}

/// The workload that the question names.
///
/// # Errors
/// Why there is none.
pub(crate) fn workload(query: &Query, firewall: &Firewall) -> Result<WorkloadInfo, String> {
    let text = query.workload.as_str();
    let exact = |state: &WorkloadState| {
        state.workload.as_ref().is_some_and(|workload| workload.ip == text || workload.name == text)
            || container(state) == text
    };
    let begins = |state: &WorkloadState| {
        container(state).starts_with(text)
            // Nomad's docker driver names a container TASK-ALLOC.
            || state.workload.as_ref().is_some_and(|workload| {
                workload.name.starts_with(text) || workload.name.contains(&format!("-{text}"))
            })
    };
    let of = |matches: &dyn Fn(&WorkloadState) -> bool| -> BTreeSet<&str> {
        firewall.workloads.iter().filter(|state| !text.is_empty() && matches(state)).map(container).collect()
    };
    let found = Some(of(&exact)).filter(|found| !found.is_empty()).unwrap_or_else(|| of(&begins));
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(bound(one, firewall)),
        (Some(one), Some(two)) => Err(format!("`{text}` may be {one} or {two}: write more of it")),
        (None, _) => Err(format!("the netfilter-agent has no workload `{text}`")),
    }
}

/// The container's part of a workload's id.
fn container(state: &WorkloadState) -> &str {
    state.id.split('@').next().unwrap_or(&state.id)
}

fn bound(id: &str, firewall: &Firewall) -> WorkloadInfo {
    let mut info = WorkloadInfo { id: id.to_owned(), ..WorkloadInfo::default() };
    for state in firewall.workloads.iter().filter(|state| container(state) == id) {
        let Some(workload) = &state.workload else { continue };
        info.name.clone_from(&workload.name);
        info.user.clone_from(&workload.user);
        info.attachments.push(Attachment {
            id: state.id.clone(),
            ip: workload.ip.clone(),
            mac: workload.mac.clone(),
            bridge: workload.bridge.clone(),
            port_name: state.port_name.clone(),
            in_force: true,
        });
    }
    info
}

fn in_force(firewall: &Firewall, ids: &BTreeSet<&str>) -> Vec<GrantInfo> {
    let mut grants = Vec::new();
    for grant in firewall.grants.iter().filter_map(|state| state.grant.as_ref()) {
        let vip = firewall.vips.iter().find(|state| state.vip == grant.vip);
        let Some(service) = vip.and_then(|state| state.service.as_ref()) else { continue };
        if ids.contains(&*grant.workload) {
            grants.push(GrantInfo {
                text: key_and_port(service, grant.protocol, grant.port),
                service: Some(service.clone()),
                protocol: grant.protocol,
                port: grant.port,
                ..GrantInfo::default()
            });
        }
    }
    grants
}

fn planned(facts: &Facts, firewall: &Firewall, asked: &ServiceKey) -> Option<Service> {
    let vip = firewall.vips.iter().find(|state| state.service.as_ref() == Some(asked))?.vip.clone();
    let ports = firewall.service_ports.iter().filter(|port| port.vip == vip).map(|port| GrantedPort {
        protocol: port.protocol,
        port: port.port,
        listener: port.listener.clone(),
        problem: String::new(),
    });
    let ports: Vec<GrantedPort> = ports.collect();
    let mut instances: Vec<Instance> = Vec::new();
    for listener in facts.proxy.iter().flatten() {
        if listener.listener.as_ref().and_then(|listener| listener.service.as_ref()) != Some(asked) {
            continue;
        }
        for endpoint in listener.endpoints.iter().filter(|endpoint| !endpoint.draining) {
            if !instances.iter().any(|known| known.address == endpoint.address) {
                instances.push(in_use(asked, &endpoint.node, endpoint.address.as_ref()));
            }
        }
    }
    let led_to =
        firewall.service_ports.iter().filter(|port| port.vip == vip).flat_map(|port| &port.endpoints);
    for endpoint in led_to {
        if !instances.iter().any(|known| known.address == endpoint.address) {
            instances.push(in_use(asked, &endpoint.node, endpoint.address.as_ref()));
        }
    }
    let path = path_of(firewall.service_ports.iter().filter(|port| port.vip == vip));
    Some(Service { key: Some(asked.clone()), vip, ports, instances, path: path.into(), ..Service::default() })
}

fn in_use(service: &ServiceKey, node: &str, address: Option<&SocketAddress>) -> Instance {
    Instance {
        id: key(service),
        node: node.to_owned(),
        address: address.cloned(),
        healthy: true,
        ..Instance::default()
    }
}

/// Which way a service's connections take, by its ports in the kernel.
#[must_use]
pub fn path_of<'a>(ports: impl Iterator<Item = &'a ServicePort> + Clone) -> ServicePath {
    let listens = ports.clone().any(|port| port.listener.is_some());
    let mut ports = ports;
    match !listens && ports.any(|port| !port.endpoints.is_empty()) {
        true => ServicePath::Kernel,
        false => ServicePath::Proxy,
    }
}
