//! What is in force, in memory: the same as the kernel's elements, seen as resources.
//!
//! Pure. [`State::plan`] says which edits a change takes, [`State::perform`] carries one out, and [`Edit::elements`] tells
//! the kernel's side of it. An edit has an inverse, so a transaction that the kernel refuses is taken back.

mod adopt;
mod doors;
mod edit;
mod id;
mod networks;
mod plan;
mod published;
mod ways;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use steppe_model::{
    Doors, Grant, Protocol, PublishedPort, Resource, ServiceKey, ServicePort, Takeover, UserName, VirtualIp,
    VirtualPort, Workload, WorkloadId,
};

pub(crate) use adopt::Found;
pub(crate) use edit::{Edit, grant_key};
pub(crate) use networks::Bridged;
pub(crate) use plan::{Limits, PortLookup};
pub(crate) use published::{
    Closed, HostPort, Place, read_key as read_port_key, read_key_at as read_port_key_at,
};
pub(crate) use ways::Ways;

use crate::ruleset::IfName;

/// What the kernel takes over.
const TAKEOVER: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// A workload in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    /// What control told of it.
    pub(crate) workload: Workload,
    /// The name of its bridge.
    pub(crate) bridge: IfName,
    /// The name of its bridge port.
    pub(crate) port: IfName,
    /// Whether the bridge is that of a network.
    pub(crate) member: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    bound: Arc<Bound>,
    grants: BTreeSet<(Ipv4Addr, VirtualPort)>,
}

impl Entry {
    fn grants(&self) -> impl Iterator<Item = (&Bound, Grant)> {
        self.grants.iter().map(|(vip, port)| {
            let workload = self.bound.workload.id.clone();
            (&*self.bound, Grant { workload, vip: *vip, port: *port })
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Vip {
    service: Arc<ServiceKey>,
    ports: BTreeMap<VirtualPort, Arc<Ways>>,
}

/// Everything in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    workloads: HashMap<WorkloadId, Entry>,
    by_ip: HashMap<Ipv4Addr, WorkloadId>,
    by_port: HashMap<IfName, WorkloadId>,
    networks: BTreeMap<UserName, Arc<Bridged>>,
    bridges: HashMap<IfName, UserName>,
    published: BTreeMap<HostPort, Arc<PublishedPort>>,
    published_of: HashMap<WorkloadId, BTreeSet<HostPort>>,
    doors: Option<Arc<Doors>>,
    vips: HashMap<Ipv4Addr, Vip>,
    grants: usize,
    /// Elements of all ports of services.
    ports: usize,
    takeover: bool,
    /// How often an address is an endpoint's.
    endpoints: HashMap<Ipv4Addr, usize>,
}

impl State {
    /// The workloads.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Bound> {
        self.workloads.values().map(|entry| &*entry.bound)
    }

    /// The ports of services.
    pub(crate) fn service_ports(&self) -> impl Iterator<Item = ServicePort> {
        self.vips.iter().flat_map(|(vip, entry)| {
            entry.ports.iter().map(|(port, ways)| ServicePort {
                service: (*entry.service).clone(),
                vip: *vip,
                port: *port,
                listener: ways.listener,
                endpoints: ways.endpoints.clone(),
            })
        })
    }

    /// The grants, each with its workload.
    pub(crate) fn grants(&self) -> impl Iterator<Item = (&Bound, Grant)> {
        self.workloads.values().flat_map(Entry::grants)
    }

    /// One workload's grants.
    pub(crate) fn grants_of(&self, id: &str) -> impl Iterator<Item = (&Bound, Grant)> {
        self.workloads.get(&WorkloadId::new(id)).into_iter().flat_map(Entry::grants)
    }

    /// Everything as resources: those first that others need.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let workloads = self.workloads().map(|bound| Resource::Workload(bound.workload.clone()));
        let vips = self
            .vips()
            .map(|(vip, service)| Resource::VirtualIp(VirtualIp { service: service.clone(), vip }));
        let ports = self.service_ports().map(Resource::ServicePort);
        let grants = self.grants().map(|(_, grant)| Resource::Grant(grant));
        let takeover = self.takeover.then_some(Resource::Takeover(Takeover));
        let networks = self.networks().cloned().map(Resource::Network);
        let published = self.published().cloned().map(Resource::PublishedPort);
        let doors = self.doors().cloned().map(Resource::Doors);
        let services = vips.chain(ports).chain(grants).chain(takeover);
        networks.chain(workloads).chain(services).chain(published).chain(doors).collect()
    }

    /// How the doors are kept.
    pub(crate) fn doors(&self) -> Option<&Doors> {
        self.doors.as_deref()
    }

    /// The workload with an address.
    pub(crate) fn workload_at(&self, ip: Ipv4Addr) -> Option<&Bound> {
        let id = self.by_ip.get(&ip)?;
        self.workloads.get(id).map(|entry| &*entry.bound)
    }

    /// The workload behind a bridge port.
    pub(crate) fn workload_behind(&self, port: IfName) -> Option<&Bound> {
        let id = self.by_port.get(&port)?;
        self.workloads.get(id).map(|entry| &*entry.bound)
    }

    /// Whether the kernel has taken over.
    pub(crate) fn takeover(&self) -> bool {
        self.takeover
    }

    /// Whether the kernel path leads anywhere.
    pub(crate) fn has_endpoints(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// The virtual IPs with their services.
    pub(crate) fn vips(&self) -> impl Iterator<Item = (Ipv4Addr, &ServiceKey)> {
        self.vips.iter().map(|(vip, entry)| (*vip, &*entry.service))
    }

    /// Whether a client may use a port of a virtual IP.
    pub(crate) fn allows(&self, client: Ipv4Addr, vip: Ipv4Addr, port: VirtualPort) -> bool {
        let entry = self.by_ip.get(&client).and_then(|id| self.workloads.get(id));
        let any = VirtualPort::new(port.protocol, 0);
        entry.is_some_and(|entry| [port, any].iter().any(|port| entry.grants.contains(&(vip, *port))))
    }

    /// Whether a port of a virtual IP leads there: to its listener, unless the kernel has taken over, or to an endpoint, by which a flow
    /// that began on the kernel path goes on.
    pub(crate) fn leads_to(&self, vip: Ipv4Addr, port: VirtualPort, to: SocketAddrV4) -> bool {
        let ways = self.vips.get(&vip).and_then(|entry| entry.ports.get(&port));
        ways.is_some_and(|ways| {
            let past_the_proxy = self.takeover && ways.leads_past_the_proxy();
            (ways.listener == Some(to) && !past_the_proxy) || ways.leads_straight_to(to)
        })
    }

    /// How many elements the kernel holds for this state.
    pub(crate) fn elements(&self) -> usize {
        let takeover = if self.takeover { TAKEOVER.len() } else { 0 };
        let services = self.vips.len() + self.ports + self.grants + takeover;
        let (workloads, networks) = (self.workloads(), self.networks.values());
        let workloads: usize = workloads.map(|bound| edit::workload(bound).len()).sum();
        let networks: usize = networks.map(|network| networks::elements(network).len()).sum();
        let published: usize = self.published().map(|published| published::elements(published).len()).sum();
        let doors = self.doors().map_or(0, |doors| doors::elements(doors).len());
        services + workloads + networks + published + doors
    }

    /// The edits that make this state of an empty one.
    pub(crate) fn edits(&self) -> Vec<Edit> {
        let workloads = self.workloads.values().map(|entry| Edit::AddWorkload(entry.bound.clone()));
        let vips = self.vips.iter().map(|(vip, entry)| Edit::AddVip(*vip, entry.service.clone()));
        let ports = self.vips.iter().flat_map(|(vip, entry)| {
            entry.ports.iter().map(|(port, ways)| Edit::AddPort(*vip, *port, ways.clone()))
        });
        let grants = self.workloads.values().flat_map(|entry| {
            entry.grants.iter().map(|(vip, port)| Edit::AddGrant(entry.bound.clone(), *vip, *port))
        });
        let takeover = self.takeover.then_some(Edit::TakeOver);
        let networks = self.networks.values().cloned().map(Edit::AddNetwork);
        let published = self.published.values().cloned().map(Edit::AddPublished);
        let doors = self.doors.iter().map(|doors| Edit::KeepDoors(None, Some(doors.clone())));
        let services = vips.chain(ports).chain(grants).chain(takeover);
        networks.chain(workloads).chain(services).chain(published).chain(doors).collect()
    }

    /// Carries out an edit that was planned on this state.
    pub(crate) fn perform(&mut self, edit: &Edit) {
        match edit {
            Edit::AddWorkload(bound) => {
                let id = bound.workload.id.clone();
                self.by_ip.insert(bound.workload.ip, id.clone());
                self.by_port.insert(bound.port, id.clone());
                self.workloads.insert(id, Entry { bound: bound.clone(), grants: BTreeSet::new() });
            }
            Edit::RemoveWorkload(bound) => {
                self.by_ip.remove(&bound.workload.ip);
                self.by_port.remove(&bound.port);
                self.workloads.remove(&bound.workload.id);
            }
            Edit::ChangeWorkload(_, new) => {
                if let Some(entry) = self.workloads.get_mut(&new.workload.id) {
                    entry.bound = new.clone();
                }
            }
            Edit::AddVip(vip, service) => {
                self.vips.insert(*vip, Vip { service: service.clone(), ports: BTreeMap::new() });
            }
            Edit::RemoveVip(vip, _) => {
                self.vips.remove(vip);
            }
            Edit::AddPort(vip, port, ways) | Edit::ChangePort(vip, port, _, ways) => {
                if let Some(entry) = self.vips.get_mut(vip) {
                    let old = entry.ports.insert(*port, ways.clone());
                    self.count_in(ways);
                    old.iter().for_each(|old| self.count_out(old));
                }
            }
            Edit::RemovePort(vip, port, _) => {
                if let Some(entry) = self.vips.get_mut(vip) {
                    let old = entry.ports.remove(port);
                    old.iter().for_each(|old| self.count_out(old));
                }
            }
            Edit::AddGrant(bound, vip, port) => {
                if let Some(entry) = self.workloads.get_mut(&bound.workload.id) {
                    self.grants += usize::from(entry.grants.insert((*vip, *port)));
                }
            }
            Edit::RemoveGrant(bound, vip, port) => {
                if let Some(entry) = self.workloads.get_mut(&bound.workload.id) {
                    self.grants -= usize::from(entry.grants.remove(&(*vip, *port)));
                }
            }
            Edit::AddNetwork(network) => {
                let user = network.network.user.clone();
                self.bridges.insert(network.bridge, user.clone());
                self.networks.insert(user, network.clone());
            }
            Edit::RemoveNetwork(network) => {
                self.bridges.remove(&network.bridge);
                self.networks.remove(&network.network.user);
            }
            Edit::AddPublished(new) => self.publish(new),
            Edit::RemovePublished(old) => self.unpublish(old),
            Edit::ChangePublished(old, new) => {
                self.unpublish(old);
                self.publish(new);
            }
            Edit::KeepDoors(_, new) => self.doors.clone_from(new),
            Edit::TakeOver => self.takeover = true,
            Edit::HandBack => self.takeover = false,
        }
    }
}

impl State {
    /// The workloads that these edits have made endpoints of a service that they may dial.
    pub(crate) fn dial_themselves(&self, edits: &[Edit]) -> Vec<Arc<Bound>> {
        let mut found = Vec::new();
        for edit in edits {
            match edit {
                Edit::AddGrant(bound, vip, _) if self.is_endpoint(bound.workload.ip, *vip) => {
                    found.push(bound.clone());
                }
                Edit::AddPort(vip, _, ways) | Edit::ChangePort(vip, _, _, ways) => {
                    let local =
                        ways.endpoints.iter().filter_map(|endpoint| self.by_ip.get(endpoint.address.ip()));
                    let granted = local
                        .filter_map(|id| self.workloads.get(id))
                        .filter(|entry| entry.grants.iter().any(|(granted, _)| granted == vip));
                    found.extend(granted.map(|entry| entry.bound.clone()));
                }
                _ => {}
            }
        }
        found
    }

    fn is_endpoint(&self, ip: Ipv4Addr, vip: Ipv4Addr) -> bool {
        // Few clients are: the rest cost one look.
        self.endpoints.contains_key(&ip)
            && self.vips.get(&vip).is_some_and(|vip| {
                let mut endpoints = vip.ports.values().flat_map(|ways| &ways.endpoints);
                endpoints.any(|endpoint| *endpoint.address.ip() == ip)
            })
    }

    fn count_in(&mut self, ways: &Ways) {
        self.ports += ways.count();
        for endpoint in &ways.endpoints {
            *self.endpoints.entry(*endpoint.address.ip()).or_default() += 1;
        }
    }

    fn count_out(&mut self, ways: &Ways) {
        self.ports -= ways.count();
        for endpoint in &ways.endpoints {
            if let hash_map::Entry::Occupied(mut count) = self.endpoints.entry(*endpoint.address.ip()) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
