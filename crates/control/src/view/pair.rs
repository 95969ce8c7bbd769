//! One workload and one service, for `steppe explain`.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Instant};

use steppe_api::v1;
use steppe_model::{
    Asker, Client, Grant, GrantSpec, ListenerKey, Protocol, ResourceId, ServiceKey, VirtualPort, parse_grant,
};

use super::{
    service::service,
    workload::{self, place},
};
use crate::{
    agent::AgentName,
    core::Core,
    plan::{Attached, Workload, alloc_of, meant, workload_id},
    push::Condition,
};

/// Fewer characters of an id than this are taken for a name alone.
const ID_PREFIX: usize = 4;

/// What was planned between a workload and a service, and how far it is in force.
#[must_use]
pub fn pair(core: &Core, request: &v1::GetPairRequest, now: Instant) -> v1::Pair {
    let mut pair = v1::Pair::default();
    let found = find_workload(core, &request.workload);
    let user = found.as_ref().ok().and_then(|(workload, _)| workload.user.clone());
    match &found {
        Ok((workload, attached)) => pair.workload = Some(workload::info(core, workload, attached)),
        Err(problem) => pair.workload_problem.clone_from(problem),
    }
    let asked = match read_service(core, &request.service) {
        Ok(asked) => asked,
        Err(problem) => {
            pair.service_problem = problem;
            return pair;
        }
    };
    let key = match asked.key {
        Some(key) => key,
        None => meant(&asked.spec, user.as_ref()),
    };
    pair.asked = Some((&key).into());
    pair.protocol = v1::Protocol::from(asked.spec.port.protocol).into();
    pair.port = asked.spec.port.number_or_zero().into();
    let planned = core.planner.services().get(&key);
    pair.service = planned.map(|planned| service(&key, planned, now));
    if let Ok((workload, attached)) = &found
        && let Some((covering, port)) = covering_grant(core, workload, &key, asked.spec.port)
    {
        pair.grant = Some(covering);
        if let Some(vip) = planned.and_then(|planned| planned.vip) {
            pair.resources = resources(core, &key, vip, port, workload, attached);
        }
    }
    pair
}

fn find_workload<'a>(core: &'a Core, text: &str) -> Result<(&'a Workload, &'a [Attached]), String> {
    let mut meant: Vec<_> = core
        .planner
        .workloads()
        .filter(|(workload, attached)| means(core, text, workload, attached))
        .collect();
    // A name that is spelled out means that container, whatever else begins so.
    if let Some(exact) = meant.iter().position(|(workload, _)| *workload.container.name == *text) {
        meant = vec![meant.swap_remove(exact)];
    }
    // Where an allocation is a workload itself, it stands for its containers.
    let found: BTreeMap<_, _> = meant
        .into_iter()
        .map(|own| {
            let alloc = alloc_of(&own.0.container).and_then(|alloc| core.planner.workload(alloc));
            alloc.unwrap_or(own)
        })
        .map(|found| (&found.0.container.id, found))
        .collect();
    let found: Vec<_> = found.into_values().collect();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(format!("no workload of this host is `{text:.80}`: see `steppe workloads`")),
        several => {
            let names: Vec<_> = several.iter().map(|(workload, _)| &*workload.container.name).collect();
            Err(format!("`{text:.80}` means several workloads: {}", names.join(", ")))
        }
    }
}

fn means(core: &Core, text: &str, workload: &Workload, attached: &[Attached]) -> bool {
    let container = &workload.container;
    let begins = |id: &str| text.len() >= ID_PREFIX && id.starts_with(text);
    let [job, group, task] = place(core, container);
    let is_placed = || match text.split('/').collect::<Vec<_>>().as_slice() {
        [one] => *one == job,
        [one, two] => (*one, *two) == (job, group),
        [one, two, three] => (*one, *two, *three) == (job, group, task),
        _ => false,
    };
    let ip = text.parse::<Ipv4Addr>();
    *container.name == *text
        || begins(&container.id)
        || alloc_of(container).is_some_and(begins)
        || (!job.is_empty() && is_placed())
        || attached.iter().any(|attached| ip == Ok(attached.attachment.ip))
}

struct AskedService {
    spec: GrantSpec,
    /// Its key, when a virtual IP was given.
    key: Option<ServiceKey>,
}

fn read_service(core: &Core, text: &str) -> Result<AskedService, String> {
    let (ip, port) = text.split_once(':').map_or((text, None), |(ip, port)| (ip, Some(port)));
    let Ok(vip) = ip.parse::<Ipv4Addr>() else {
        return parse_grant(text)
            .map(|spec| AskedService { spec, key: None })
            .map_err(|malformed| malformed.reason);
    };
    let known = core.planner.services().iter().find(|(_, planned)| planned.vip == Some(vip));
    let Some((key, _)) = known else {
        return Err(format!("{vip} is the virtual IP of no service that a workload of this host asks for"));
    };
    let named = match port {
        Some(port) => format!("{}:{port}", key.name),
        None => key.name.to_string(),
    };
    let spec = parse_grant(&named).map_err(|malformed| malformed.reason)?;
    Ok(AskedService { spec, key: Some(key.clone()) })
}

/// The workload's own grant for the service that covers the port: the exact one before the one for every port.
fn covering_grant(
    core: &Core,
    workload: &Workload,
    key: &ServiceKey,
    port: VirtualPort,
) -> Option<(v1::GrantInfo, VirtualPort)> {
    let covers = |granted: VirtualPort| {
        granted == port
            || (granted == VirtualPort::ANY && port.protocol == Protocol::Tcp)
            || (port == VirtualPort::ANY && granted.protocol == Protocol::Tcp)
    };
    let of_key = workload.grants().filter_map(|asked| {
        let spec = asked.spec.as_ref().ok()?;
        let (means, granted) = (meant(spec, workload.user.as_ref()) == *key, spec.port);
        (means && covers(granted)).then_some((asked, granted))
    });
    let best = of_key.min_by_key(|(_, granted)| *granted != port)?;
    Some((workload::grant(core, workload, &best.0), best.1))
}

/// The resources that must be in force between a workload and a service.
fn resources(
    core: &Core,
    key: &ServiceKey,
    vip: Ipv4Addr,
    port: VirtualPort,
    workload: &Workload,
    attached: &[Attached],
) -> Vec<v1::ResourceStatus> {
    let listener = ResourceId::new(&ListenerKey { service: key.clone(), port }.to_string());
    // What others wait for comes first.
    let mut ids = vec![(AgentName::Proxy, listener.clone())];
    for attached in attached {
        let Ok(bridge_port) = &attached.port else { continue };
        let id = workload_id(&workload.container.id, bridge_port);
        ids.push((AgentName::NetfilterAgent, id.resource_id()));
        ids.push((AgentName::NetfilterAgent, Grant { workload: id, vip, port }.id()));
        let client = Client { listener: listener.clone(), ip: attached.attachment.ip };
        ids.push((AgentName::Proxy, client.id()));
    }
    ids.push((AgentName::NetfilterAgent, ResourceId::new(&format!("{vip}:{port}"))));
    let answering = AgentName::DNS.into_iter().filter(|agent| core.push.state(*agent).is_up());
    for agent in answering {
        let bound = attached.iter().filter(|attached| attached.port.is_ok());
        ids.extend(bound.map(|attached| (agent, Asker::id_at(attached.attachment.ip))));
    }
    ids.into_iter().map(|(agent, id)| resource(core, agent, id)).collect()
}

fn resource(core: &Core, agent: AgentName, id: ResourceId) -> v1::ResourceStatus {
    let condition = core.push.state(agent).condition(&id);
    let problem = match &condition {
        Condition::InForce => String::new(),
        Condition::Sent => "sent, and not acknowledged yet".to_owned(),
        Condition::Rejected(reason) => format!("rejected: {reason}"),
        Condition::Waiting if !core.push.state(agent).is_desired(&id) => "not planned".to_owned(),
        Condition::Waiting => match core.push.waits_for(agent, &id) {
            Some((other, required)) => format!("waits for the {}'s {required}", other.process().name()),
            None => "waits for the agent".to_owned(),
        },
    };
    let in_force = condition == Condition::InForce;
    v1::ResourceStatus { agent: agent.process().name().into(), id: id.to_string(), in_force, problem }
}

#[cfg(test)]
mod tests;
