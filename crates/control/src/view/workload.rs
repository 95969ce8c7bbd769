//! Workloads and what they ask for.

use steppe_api::v1;
use steppe_model::{Protocol, UserName};

use crate::{
    agent::AgentName,
    core::Core,
    observe::{Alloc, AllocNetwork, Container},
    plan::{Asked, Attached, NoPort, Workload, alloc_of, meant, task_of, workload_id},
    push::Condition,
};

/// The containers of this host.
#[must_use]
pub fn workloads(core: &Core) -> Vec<v1::WorkloadInfo> {
    core.planner.workloads().map(|(workload, attached)| info(core, workload, attached)).collect()
}

/// One container.
pub(super) fn info(core: &Core, workload: &Workload, attached: &[Attached]) -> v1::WorkloadInfo {
    let container = &workload.container;
    let [job, group, task] = place(core, container).map(str::to_owned);
    let (problem, fix) = problem(workload, attached, alloc(core, container));
    v1::WorkloadInfo {
        id: container.id.to_string(),
        name: container.name.to_string(),
        user: workload.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        job,
        group,
        task,
        alloc: alloc_of(container).unwrap_or_default().into(),
        attachments: attached.iter().map(|attached| attachment(core, &container.id, attached)).collect(),
        grants: workload.grants().map(|asked| grant(core, workload, &asked)).collect(),
        problem,
        fix,
        network: attached
            .iter()
            .find_map(|one| one.network.as_ref())
            .map(ToString::to_string)
            .unwrap_or_default(),
        not_attached: core.planner.not_attached(workload).unwrap_or_default().into_owned(),
        names: workload.guarded.then(|| names(core, workload)),
    }
}

/// What dns is told for a workload.
fn names(core: &Core, workload: &Workload) -> v1::WorkloadNames {
    let (resolver, resolver_problem) = match core.planner.resolver(&workload.container.id) {
        None => (v1::ResolverState::Unknown, ""),
        Some(Ok(())) => (v1::ResolverState::Dns, ""),
        Some(Err(why)) => (v1::ResolverState::Elsewhere, why),
    };
    let own = workload.is_member.then(|| core.planner.own_names(workload));
    v1::WorkloadNames {
        services: core.planner.asked_names(workload).iter().map(Into::into).collect(),
        own: own.into_iter().flatten().map(|name| name.to_string()).collect(),
        resolver: resolver.into(),
        resolver_problem: resolver_problem.to_owned(),
    }
}

/// The allocation that a container belongs to, or is.
fn alloc<'a>(core: &'a Core, container: &Container) -> Option<&'a Alloc> {
    alloc_of(container).and_then(|id| core.planner.alloc(id))
}

/// Its job, group and task, as Nomad says or else the labels that its docker driver can be told to set; empty when it is
/// not Nomad's. An allocation has no task.
pub(super) fn place<'a>(core: &'a Core, container: &'a Container) -> [&'a str; 3] {
    let label =
        |name: &str| container.labels.get(&format!("com.hashicorp.nomad.{name}")).map_or("", String::as_str);
    let Some(alloc) = alloc(core, container) else {
        return ["job_name", "task_group_name", "task_name"].map(label);
    };
    [&alloc.job, &alloc.group, task_of(container, Some(alloc)).unwrap_or_default()]
}

fn attachment(core: &Core, container: &str, attached: &Attached) -> v1::Attachment {
    let id = attached.port.as_ref().ok().map(|port| workload_id(container, port));
    let in_force = id.as_ref().is_some_and(|id| {
        core.push.state(AgentName::NetfilterAgent).condition(&id.resource_id()) == Condition::InForce
    });
    let mac = attached.mac();
    v1::Attachment {
        id: id.map(|id| id.to_string()).unwrap_or_default(),
        ip: attached.attachment.ip.to_string(),
        mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        bridge: attached.attachment.bridge.to_string(),
        port_name: attached.port.as_ref().map(|port| port.name.to_string()).unwrap_or_default(),
        in_force,
    }
}

/// Why no grant can be bound to a workload, and what to do about it.
fn problem(workload: &Workload, attached: &[Attached], alloc: Option<&Alloc>) -> (String, String) {
    let foreign = attached.iter().find(|attached| attached.port == Err(NoPort::Foreign));
    if let Some(Attached { network: Some(owner), .. }) = foreign {
        return foreign_problem(workload, owner);
    }
    (unbound(attached, alloc), String::new())
}

fn foreign_problem(workload: &Workload, owner: &UserName) -> (String, String) {
    let is_nomads = alloc_of(&workload.container).is_some();
    let whose = match &workload.user {
        Some(user) => format!("belongs to {user}"),
        None => "belongs to no user".to_owned(),
    };
    let problem = format!("it is on the network of {owner} and {whose}: all that it sends there is dropped");
    let fix = match (&workload.user, is_nomads) {
        (Some(user), true) => {
            format!("set network_mode = \"steppe-{user}\", or run the job in namespace {owner}")
        }
        (None, true) => format!("run the job in namespace {owner}"),
        (Some(user), false) => format!("start it with --network steppe-{user}, or label steppe.user={owner}"),
        (None, false) => format!("label steppe.user={owner}"),
    };
    (problem, fix)
}

fn unbound(attached: &[Attached], alloc: Option<&Alloc>) -> String {
    if attached.iter().any(|attached| attached.port.is_ok()) {
        return String::new();
    }
    let why = match attached.first().map(|attached| &attached.port) {
        None => match alloc.map(|alloc| &alloc.network) {
            Some(AllocNetwork::Host) => "its group uses the host's network, where all have one address",
            Some(AllocNetwork::Bridge { address: None, .. }) => "its allocation has no address yet",
            Some(AllocNetwork::Bridge { .. }) => "its allocation has the address: ask about that",
            Some(AllocNetwork::Other(_)) => "its group uses a CNI network that Steppe does not know",
            Some(AllocNetwork::Task) | None => "it has no address of its own on a bridge of this host",
        },
        Some(Err(NoPort::Several)) => "several bridge ports have its address: another container imitates it",
        Some(Err(NoPort::Unproven)) => "its bridge port is being looked up",
        Some(_) => "no bridge port with its address was seen: is the netfilter-agent up?",
    };
    why.to_owned()
}

/// One thing that a workload asks for.
pub(super) fn grant(core: &Core, workload: &Workload, asked: &Asked) -> v1::GrantInfo {
    let mut info = v1::GrantInfo {
        text: asked.text.clone(),
        origin: asked.origin.to_string(),
        protocol: v1::Protocol::from(Protocol::Tcp).into(),
        ..v1::GrantInfo::default()
    };
    match &asked.spec {
        Err(malformed) => info.problem.clone_from(&malformed.reason),
        Ok(spec) => {
            let key = meant(spec, workload.user.as_ref());
            info.service = Some((&key).into());
            info.protocol = v1::Protocol::from(spec.port.protocol).into();
            info.port = spec.port.number_or_zero().into();
            let planned = core.planner.services().get(&key);
            let verdict = planned.and_then(|planned| planned.consumers.get(&workload.container.id));
            if let Some(Err(allowed)) = verdict {
                info.problem = format!("{key} allows: {allowed}");
                info.fix = format!("provider tag steppe.allow={}", user_text(workload.user.as_ref()));
            }
        }
    }
    info
}

fn user_text(user: Option<&UserName>) -> &str {
    user.map_or("*", UserName::as_str)
}
