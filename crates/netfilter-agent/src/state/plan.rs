//! From a change to the edits that it takes.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use steppe_api::sync::Change;
use steppe_model::{
    Doors, Grant, Resource, ResourceId, ServicePort, VirtualIp, VirtualPort, Workload, WorkloadId,
};

use super::{
    Bound, Edit, State, Ways,
    adopt::{ID_BYTES, fits},
    doors,
    id::{Named, read},
};
use crate::ruleset::IfName;

/// What must hold for every resource.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Virtual IPs are in here.
    pub(crate) services: Ipv4Net,
    /// The proxy listens here and nowhere else.
    pub(crate) listener: Ipv4Addr,
}

/// What the kernel says of a bridge port now: its name and its bridge's.
pub(crate) trait PortLookup {
    /// `None` when there is no such port.
    fn port(&self, ifindex: u32) -> Option<(IfName, IfName)>;
}

impl State {
    /// The edits that a change takes, in their order; none when it is so already.
    ///
    /// # Errors
    /// The reason why it can't be.
    pub(crate) fn plan(
        &self,
        change: &Change,
        ports: &impl PortLookup,
        limits: Limits,
    ) -> Result<Vec<Edit>, String> {
        match change {
            Change::Upsert(Resource::Workload(workload)) => self.plan_workload(workload, ports),
            Change::Upsert(Resource::VirtualIp(virtual_ip)) => self.plan_virtual_ip(virtual_ip, limits),
            Change::Upsert(Resource::ServicePort(port)) => self.plan_service_port(port, limits),
            Change::Upsert(Resource::Grant(grant)) => self.plan_grant(grant, limits),
            Change::Upsert(Resource::Listener(_)) => Err("listeners are the proxy's business".into()),
            Change::Upsert(Resource::Client(_)) => {
                Err("clients of listeners are the proxy's business".into())
            }
            Change::Upsert(Resource::Takeover(_)) if self.takeover => Ok(Vec::new()),
            Change::Upsert(Resource::Takeover(_)) => Ok(vec![Edit::TakeOver]),
            Change::Upsert(Resource::Network(network)) => self.plan_network(network),
            Change::Upsert(Resource::PublishedPort(published)) => self.plan_published(published),
            Change::Upsert(Resource::Doors(doors)) => Ok(self.plan_doors(Some(doors))),
            Change::Upsert(Resource::Asker(_) | Resource::Member(_)) => {
                Err("who asks, and for whom, is the business of dns".into())
            }
            Change::Remove(id) => Ok(self.plan_removal(id)),
        }
    }

    fn plan_workload(&self, workload: &Workload, ports: &impl PortLookup) -> Result<Vec<Edit>, String> {
        let id = workload.id.as_str();
        if !fits(id) {
            return Err(format!("id: 1 to {ID_BYTES} bytes without blanks are expected"));
        }
        let index = workload.port_ifindex;
        let Some((port, bridge)) = ports.port(index) else {
            return Err(format!("port_ifindex: {index} is no port of a bridge now: list the ports anew"));
        };
        if bridge.as_str() != &*workload.bridge {
            return Err(format!(
                "bridge: port {index} ({}) belongs to `{}` and not to `{}`",
                port.as_str(),
                bridge.as_str(),
                workload.bridge
            ));
        }
        let member = self.is_network(bridge);
        let bound = Arc::new(Bound { workload: workload.clone(), bridge, port, member });
        let mut edits = Vec::new();
        // Addresses are unique on a host: the newer holder of one takes it over, and starts without the older one's grants.
        // A bridge port is one container's as well.
        let holders = [self.by_ip.get(&workload.ip), self.by_port.get(&port)];
        let holders: BTreeSet<_> = holders.into_iter().flatten().filter(|id| **id != workload.id).collect();
        holders.into_iter().for_each(|holder| self.plan_workload_end(holder, &mut edits));
        if let Some(old) = self.workloads.get(&workload.id) {
            if old.bound == bound {
                return Ok(edits);
            }
            let same_port =
                old.bound.workload.port_ifindex == index && old.bound.workload.mac == workload.mac;
            if same_port && old.bound.workload.ip == workload.ip && old.bound.port == bound.port {
                edits.push(Edit::ChangeWorkload(old.bound.clone(), bound));
                return Ok(edits);
            }
            self.plan_workload_removal(&workload.id, &mut edits);
            edits.push(Edit::AddWorkload(bound.clone()));
            // Grants are bound to the port: on another one the workload starts without.
            if same_port {
                edits.extend(old.grants.iter().map(|(vip, port)| Edit::AddGrant(bound.clone(), *vip, *port)));
            }
        } else {
            edits.push(Edit::AddWorkload(bound));
        }
        Ok(edits)
    }

    fn plan_virtual_ip(&self, new: &VirtualIp, limits: Limits) -> Result<Vec<Edit>, String> {
        check_vip(new.vip, limits)?;
        match self.vips.get(&new.vip) {
            Some(vip) if *vip.service == new.service => Ok(Vec::new()),
            Some(vip) => {
                Err(format!("vip: {} is that of `{}` still: remove that first", new.vip, vip.service))
            }
            None => Ok(vec![Edit::AddVip(new.vip, Arc::new(new.service.clone()))]),
        }
    }

    fn plan_service_port(&self, new: &ServicePort, limits: Limits) -> Result<Vec<Edit>, String> {
        check_vip(new.vip, limits)?;
        let ways = Ways::new(new, limits)?;
        let vip = self.vips.get(&new.vip).filter(|vip| *vip.service == new.service);
        let Some(vip) = vip else {
            return Err(format!("vip: {} is not in force as that of `{}`", new.vip, new.service));
        };
        Ok(match vip.ports.get(&new.port) {
            Some(old) if **old == ways => Vec::new(),
            Some(old) => vec![Edit::ChangePort(new.vip, new.port, old.clone(), Arc::new(ways))],
            None => vec![Edit::AddPort(new.vip, new.port, Arc::new(ways))],
        })
    }

    fn plan_grant(&self, grant: &Grant, limits: Limits) -> Result<Vec<Edit>, String> {
        check_vip(grant.vip, limits)?;
        let Some(entry) = self.workloads.get(&grant.workload) else {
            return Err(format!("workload: `{}` is not in force", grant.workload));
        };
        if entry.grants.contains(&(grant.vip, grant.port)) {
            return Ok(Vec::new());
        }
        Ok(vec![Edit::AddGrant(entry.bound.clone(), grant.vip, grant.port)])
    }

    fn plan_removal(&self, id: &ResourceId) -> Vec<Edit> {
        let mut edits = Vec::new();
        match read(id) {
            Named::Grant(workload, vip, port) => {
                if let Some(entry) = self.workloads.get(&WorkloadId::new(workload))
                    && entry.grants.contains(&(vip, port))
                {
                    edits.push(Edit::RemoveGrant(entry.bound.clone(), vip, port));
                }
            }
            Named::ServicePort(vip, port) => self.plan_port_removal(vip, port, &mut edits),
            Named::VirtualIp(vip) => self.plan_vip_removal(vip, &mut edits),
            Named::Takeover if self.takeover => edits.push(Edit::HandBack),
            Named::Takeover => {}
            Named::Network(user) => edits = self.plan_network_removal(&user),
            Named::Published(protocol, port) => edits.extend(self.plan_published_removal((protocol, port))),
            Named::Doors => edits = self.plan_doors(None),
            Named::Workload(id) => self.plan_workload_end(&WorkloadId::new(id), &mut edits),
        }
        edits
    }

    fn plan_port_removal(&self, vip: Ipv4Addr, port: VirtualPort, edits: &mut Vec<Edit>) {
        let Some(entry) = self.vips.get(&vip) else { return };
        let Some(ways) = entry.ports.get(&port) else { return };
        edits.push(Edit::RemovePort(vip, port, ways.clone()));
    }

    /// A virtual IP goes with its ports.
    fn plan_vip_removal(&self, vip: Ipv4Addr, edits: &mut Vec<Edit>) {
        let Some(entry) = self.vips.get(&vip) else { return };
        edits.extend(entry.ports.iter().map(|(port, ways)| Edit::RemovePort(vip, *port, ways.clone())));
        edits.push(Edit::RemoveVip(vip, entry.service.clone()));
    }

    fn plan_doors(&self, new: Option<&Doors>) -> Vec<Edit> {
        let new = new.map(doors::canonical);
        if self.doors.as_deref() == new.as_ref() {
            return Vec::new();
        }
        vec![Edit::KeepDoors(self.doors.clone(), new.map(Arc::new))]
    }

    /// A workload that is gone takes its published ports along, which are closed.
    fn plan_workload_end(&self, id: &WorkloadId, edits: &mut Vec<Edit>) {
        let ports = self.published_of.get(id).into_iter().flatten();
        edits.extend(ports.filter_map(|port| self.plan_published_removal(*port)));
        self.plan_workload_removal(id, edits);
    }

    /// A workload goes with all its grants.
    fn plan_workload_removal(&self, id: &WorkloadId, edits: &mut Vec<Edit>) {
        let Some(entry) = self.workloads.get(id) else { return };
        edits.extend(
            entry.grants.iter().map(|(vip, port)| Edit::RemoveGrant(entry.bound.clone(), *vip, *port)),
        );
        edits.push(Edit::RemoveWorkload(entry.bound.clone()));
    }

    /// The edits that remove every workload whose port is not what it was.
    pub(crate) fn plan_lost_ports(&self, ports: &impl PortLookup) -> Vec<Edit> {
        let mut edits = Vec::new();
        for (id, entry) in &self.workloads {
            let bound = &entry.bound;
            if ports.port(bound.workload.port_ifindex) != Some((bound.port, bound.bridge)) {
                self.plan_workload_end(id, &mut edits);
            }
        }
        edits
    }
}

fn check_vip(vip: Ipv4Addr, limits: Limits) -> Result<(), String> {
    if limits.services.contains(&vip) {
        return Ok(());
    }
    Err(format!(
        "vip: {vip} is outside {}: start control with the same --service-cidr as the agents",
        limits.services
    ))
}
