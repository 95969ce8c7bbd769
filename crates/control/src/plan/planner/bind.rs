//! From a container to what it may send from: its addresses on bridges, and the ports behind which they are.

use std::{collections::BTreeMap, sync::Arc};

use steppe_model::{Resource, ResourceId, UserName, Workload as BoundWorkload, WorkloadId};

use super::{
    Attached, Delta, NoPort, Planned, Planner, Workload,
    compose::{Resources, compare, new_ones},
    publish,
};
use crate::{
    agent::AgentName,
    observe::{Attachment, Instance},
    plan::{BridgePort, alloc_of},
};

/// Characters of a container's id that Docker shows, and that are unique enough on one host.
const SHORT_ID: usize = 12;

impl Planner {
    pub(super) fn plan_workload(&mut self, id: &Arc<str>, delta: &mut Delta) {
        let before = self.workloads.get(id).cloned();
        let mut resources = BTreeMap::new();
        let mut published = Vec::new();
        if let Some(known) = &before {
            let own = self.registrations_of(known);
            let alloc = alloc_of(&known.container).and_then(|alloc| self.allocs.own(alloc)).cloned();
            let network = self.networks.only_one_of(&known.container);
            let mut workload = Workload::understand(
                known.container.clone(),
                &own,
                alloc.as_deref(),
                network,
                self.options.user_from,
            );
            // What it may reach as a member is found out when all workloads are understood.
            workload.implied.clone_from(&known.implied);
            workload.not_implied = known.not_implied;
            let attached = self.attach(&workload, delta);
            workload.is_member =
                attached.iter().any(|attached| workload.user.is_some() && attached.network == workload.user);
            workload.guarded = self.options.guard_all
                || workload.has_to_do_with_steppe()
                || attached.iter().any(|attached| attached.network.is_some());
            delta.ignored.extend(new_ones(&known.ignored, &workload.ignored));
            self.index_asked(known, false);
            self.index_asked(&workload, true);
            self.index_tenant(id, Some(known), Some(&workload));
            resources = attached.iter().filter_map(|attached| bind(&workload, attached)).collect();
            published = publish::ports(&workload, &attached, &own, alloc.as_deref());
            self.attached.insert(id.clone(), attached);
            self.workloads.insert(id.clone(), workload);
        } else {
            self.attached.remove(id);
        }
        self.published.replace(id, published);
        let old = self.bound.remove(id).unwrap_or_default();
        let named = |map: BTreeMap<ResourceId, Planned>| -> Resources {
            map.into_iter().map(|(id, planned)| ((AgentName::NetfilterAgent, id), planned)).collect()
        };
        compare(&named(old), &named(resources.clone()), delta);
        if !resources.is_empty() {
            self.bound.insert(id.clone(), resources);
        }
        self.dirty_askers.insert(id.clone());
    }

    /// What is registered on this node for a container.
    fn registrations_of(&self, workload: &Workload) -> Vec<Instance> {
        let container = &workload.container;
        let near = self.registered.near(container).into_iter();
        near.filter(|instance| self.containers_of(instance).contains(&container.id)).cloned().collect()
    }

    /// Finds the bridge ports of a container's attachments. One that was found before is kept for as long as it is there.
    fn attach(&mut self, workload: &Workload, delta: &mut Delta) -> Vec<Attached> {
        let container = &workload.container;
        let before = self.attached.get(&container.id).map_or(&[][..], Vec::as_slice);
        let (ports, networks) = (&mut self.ports, &self.networks);
        let mut find = |attachment: &Attachment, network: Option<&UserName>| {
            // It must not be heard there, whoever it is.
            if network.is_some() && network != workload.user.as_ref() {
                return Err(NoPort::Foreign);
            }
            let kept = before.iter().find(|attached| attached.attachment == *attachment);
            let kept = kept.and_then(|attached| attached.port.as_ref().ok());
            if let Some(port) = kept.and_then(|port| ports.still(port.ifindex, &container.id, attachment)) {
                return Ok(port.clone());
            }
            ports.find(&container.id, attachment, container.ports_known).cloned()
        };
        let attached = container.attachments.iter().map(|attachment| {
            let network = networks.on_bridge(&attachment.bridge);
            let port = find(attachment, network);
            if port == Err(NoPort::Unproven) {
                let is_alloc = self.allocs.own(&container.id).is_some();
                let reread = if is_alloc { &mut delta.reread_allocs } else { &mut delta.reread };
                reread.insert(container.id.clone());
            }
            Attached { attachment: attachment.clone(), network: network.cloned(), port }
        });
        attached.collect()
    }

    /// The attachments of a container that are bound to a bridge port.
    pub(super) fn bound_attachments<'a>(
        &'a self,
        id: &'a str,
    ) -> impl Iterator<Item = (WorkloadId, &'a Attached)> {
        let attached = self.attached.get(id).into_iter().flatten();
        attached.filter_map(move |attached| Some((workload_id(id, attached.port.as_ref().ok()?), attached)))
    }
}

/// What an attachment is known by. The bridge port is part of it: a container that comes back behind another port is
/// granted everything anew.
#[must_use]
pub fn workload_id(container: &str, port: &BridgePort) -> WorkloadId {
    let short = container.get(..SHORT_ID).unwrap_or(container);
    WorkloadId::new(&format!("{short}@{}:{}", port.bridge, port.ifindex))
}

/// The beginning of the id of the container that a workload is.
pub(super) fn container_of(id: &WorkloadId) -> &str {
    id.as_str().split_once('@').map_or(id.as_str(), |(container, _)| container)
}

fn bind(workload: &Workload, attached: &Attached) -> Option<(ResourceId, Planned)> {
    let port = attached.port.as_ref().ok()?;
    let Attachment { ip, bridge, .. } = &attached.attachment;
    let resource = Resource::Workload(BoundWorkload {
        id: workload_id(&workload.container.id, port),
        ip: *ip,
        mac: attached.mac()?,
        bridge: bridge.clone(),
        port_ifindex: port.ifindex,
        name: workload.container.name.clone(),
        user: workload.user.clone(),
        guarded: workload.guarded,
    });
    Some((resource.id(), Planned::new(resource)))
}
