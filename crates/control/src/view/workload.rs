//! Workloads and what they ask for.

use steppe_api::v1;
use steppe_model::{Protocol, UserName};

use crate::{
    agent::AgentName,
    core::Core,
    observe::{Alloc, AllocNetwork, Container},
    plan::{Asked, Attached, NoPort, Workload, alloc_of, workload_id},
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
    v1::WorkloadInfo {
        id: container.id.to_string(),
        name: container.name.to_string(),
        user: workload.user.as_ref().map(ToString::to_string).unwrap_or_default(),
        job,
        group,
        task,
        alloc: alloc_of(container).unwrap_or_default().into(),
        attachments: attached.iter().map(|attached| attachment(core, &container.id, attached)).collect(),
        grants: workload.asked.iter().map(|asked| grant(core, workload, asked)).collect(),
        problem: problem(attached, alloc(core, container)),
        ..v1::WorkloadInfo::default()
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
    // The docker driver calls its containers TASK-ALLOC.
    let task = container.name.strip_suffix(&*alloc.id).and_then(|name| name.strip_suffix('-'));
    [&alloc.job, &alloc.group, task.unwrap_or_else(|| label("task_name"))]
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

/// Why no grant can be bound to a workload.
fn problem(attached: &[Attached], alloc: Option<&Alloc>) -> String {
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
            let key = core.planner.meant(spec, workload.user.as_ref());
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
