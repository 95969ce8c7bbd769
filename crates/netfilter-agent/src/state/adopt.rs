//! From the kernel's elements back to state, when the agent starts.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use ipnet::Ipv4Net;
use steppe_model::{PublishedPort, ServiceKey, VirtualPort, Workload, WorkloadId};

use super::{
    Bound, Bridged, Edit, HostPort, Place, State, TAKEOVER, Ways,
    doors::{FoundDoors, FoundRanges},
    networks, published,
};
use crate::{
    netlink::dump::RawElement,
    ruleset::{Balancer, IfName, Parts, SetName},
};

/// Longest id of a workload: with the rest of the comment it fits the kernel's 256 bytes of user data.
pub(super) const ID_BYTES: usize = 90;
/// In a comment, for no user: no user is called so.
pub(super) const NOBODY: &str = ".";

/// Whether an id can stand in a comment.
pub(super) fn fits(id: &str) -> bool {
    (1..=ID_BYTES).contains(&id.len()) && !id.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// What an element can't say of a workload itself: its port, user, id and name.
/// 10 + 63 + 90 + 64 bytes and three blanks, 230 in all.
pub(super) fn workload_comment(workload: &Workload) -> String {
    let user = workload.user.as_ref().map_or(NOBODY, |user| user.as_str());
    let name = workload.name.replace(|c: char| c.is_control(), "?");
    format!("{} {user} {} {name}", workload.port_ifindex, workload.id)
}

/// What was found of a port of a virtual IP.
#[derive(Debug, Default)]
struct FoundWays {
    listener: Option<SocketAddrV4>,
    slots: u32,
    endpoints: BTreeMap<u32, (SocketAddrV4, String)>,
}

impl FoundWays {
    /// The ways, without a kernel path that is not whole.
    fn read(self) -> Option<Ways> {
        let whole = self.endpoints.keys().copied().eq(0..self.slots);
        let slots: Vec<_> = self.endpoints.into_values().filter(|_| whole).collect();
        let without = || Ways::read(self.listener, &[]).filter(|_| self.listener.is_some());
        Ways::read(self.listener, &slots).filter(|ways| ways.count() > 0).or_else(without)
    }
}

/// What was found in the kernel, element by element.
#[derive(Debug, Default)]
pub(crate) struct Found {
    workloads: Vec<(IfName, Ipv4Addr, String)>,
    bindings: HashMap<Ipv4Addr, (IfName, steppe_model::Mac)>,
    vips: Vec<(Ipv4Addr, ServiceKey)>,
    ports: BTreeMap<(Ipv4Addr, VirtualPort), FoundWays>,
    taken_over: usize,
    grants: Vec<(Ipv4Addr, Ipv4Addr, VirtualPort)>,
    leaving: HashSet<(IfName, Ipv4Addr)>,
    networks: Vec<Bridged>,
    published: BTreeMap<HostPort, PublishedPort>,
    closed: Vec<Place>,
    ranges: FoundRanges,
    doors: FoundDoors,
    elements: usize,
}

impl Found {
    /// Takes an element. What can't be read is not taken, so that [`Found::is_whole`] tells.
    pub(crate) fn take(&mut self, set: SetName, element: RawElement<'_>) {
        // The former go by themselves, the latter with the chains.
        let alone = matches!(set, SetName::Closed | SetName::ClosedAt | SetName::Balancers);
        self.elements += usize::from(!alone);
        // An element that can't be read shows in the count.
        let _ = self.read(set, element);
    }

    fn read(&mut self, set: SetName, element: RawElement<'_>) -> Option<()> {
        let (mut key, mut data, comment) = (Parts(element.key), Parts(element.data), element.comment);
        match set {
            SetName::Workloads => {
                self.workloads.push((key.interface()?, key.ip()?, comment.to_owned()));
            }
            SetName::Bindings => {
                let (port, mac, ip) = (key.interface()?, key.mac()?, key.ip()?);
                self.bindings.insert(ip, (port, mac));
            }
            SetName::Vips => self.vips.push((key.ip()?, read_service(comment)?)),
            SetName::Listeners => self.ways(exact(&mut key)?).listener = Some(data.socket()?),
            SetName::ListenersAny => self.ways(any(&mut key)?).listener = Some(data.socket()?),
            SetName::Services => {
                let balancer = balancer(element).filter(|balancer| !balancer.every_port)?;
                self.ways(exact(&mut key)?).slots = balancer.slots;
            }
            SetName::ServicesAny => {
                let balancer = balancer(element).filter(|balancer| balancer.every_port)?;
                self.ways(any(&mut key)?).slots = balancer.slots;
            }
            SetName::Endpoints => {
                let ways = self.ways(exact(&mut key)?);
                ways.endpoints.insert(key.number()?, (data.socket()?, comment.to_owned()));
            }
            SetName::EndpointsAny => {
                let ways = self.ways(any(&mut key)?);
                ways.endpoints.insert(key.number()?, (data.socket()?, comment.to_owned()));
            }
            SetName::Takeover => {
                key.protocol()?;
                self.taken_over += 1;
            }
            SetName::Grants => {
                let (client, vip) = (key.ip()?, key.ip()?);
                let (protocol, number) = (key.protocol()?, key.port()?);
                self.grants.push((client, vip, VirtualPort::new(protocol, number)));
            }
            SetName::GrantsAny => self.grants.push((key.ip()?, key.ip()?, VirtualPort::ANY)),
            SetName::Leaving => {
                self.leaving.insert((key.interface()?, key.ip()?));
            }
            SetName::Networks => self.networks.push(networks::read(key.interface()?, comment)?),
            SetName::Published => {
                published::take(&mut self.published, (None, published::read_key(&mut key)?), comment)?;
            }
            SetName::PublishedAt => {
                published::take(&mut self.published, published::read_key_at(&mut key)?, comment)?;
            }
            SetName::Closed => self.closed.push((None, published::read_key(&mut key)?)),
            SetName::ClosedAt => self.closed.push(published::read_key_at(&mut key)?),
            SetName::Peers | SetName::Peers6 | SetName::PeerPorts => self.ranges.take(set, element)?,
            SetName::LocalUids => self.doors.uid(&mut key)?,
            // These follow from the others.
            SetName::Balancers => {}
            SetName::Siblings | SetName::Crossed | SetName::Subnets | SetName::Hardware => {}
            SetName::Guarded | SetName::Members | SetName::Askers => {}
            SetName::Exposed | SetName::Public | SetName::Tried => {}
            SetName::NetworksDoor
            | SetName::NetworksShut
            | SetName::PublishedDoor
            | SetName::PublishedShut
            | SetName::LeavingDoor
            | SetName::LeavingShut
            | SetName::DnsDoor
            | SetName::DnsShut
            | SetName::SpoofingDoor
            | SetName::SpoofingShut
            | SetName::BridgeDnsDoor
            | SetName::BridgeDnsShut => self.doors.switch(set),
        }
        Some(())
    }

    fn ways(&mut self, port: (Ipv4Addr, VirtualPort)) -> &mut FoundWays {
        self.ports.entry(port).or_default()
    }

    /// The ports of containers that are gone.
    pub(crate) fn closed(&self) -> Vec<Place> {
        self.closed.clone()
    }

    /// The state that these elements are, and whether it is all of them. What belongs to nothing is left out.
    pub(crate) fn into_state(self) -> (State, bool) {
        let mut state = State::default();
        for network in self.networks {
            let taken =
                state.is_network(network.bridge) || state.networks.contains_key(&network.network.user);
            if !taken {
                state.perform(&Edit::AddNetwork(Arc::new(network)));
            }
        }
        for (bridge, ip, comment) in &self.workloads {
            let Some((port, mac)) = self.bindings.get(ip) else { continue };
            let Some(workload) = read_workload(comment, *ip, *mac, *bridge) else { continue };
            let taken = state.by_ip.contains_key(ip) || state.by_port.contains_key(port);
            if !taken && !state.workloads.contains_key(&workload.id) {
                let guarded = self.leaving.contains(&(*bridge, *ip));
                let workload = Workload { guarded, ..workload };
                let member = state.is_network(*bridge);
                let bound = Bound { workload, bridge: *bridge, port: *port, member };
                state.perform(&Edit::AddWorkload(Arc::new(bound)));
            }
        }
        for (vip, service) in self.vips {
            state.perform(&Edit::AddVip(vip, Arc::new(service)));
        }
        for ((vip, port), found) in self.ports {
            if let Some(ways) = found.read() {
                state.perform(&Edit::AddPort(vip, port, Arc::new(ways)));
            }
        }
        if self.taken_over == TAKEOVER.len() {
            state.perform(&Edit::TakeOver);
        }
        for (client, vip, port) in self.grants {
            let Some(id) = state.by_ip.get(&client) else { continue };
            let bound = state.workloads[id].bound.clone();
            state.perform(&Edit::AddGrant(bound, vip, port));
        }
        for published in self.published.into_values() {
            let known = |id: &WorkloadId| state.workloads.contains_key(id);
            if published.workload.as_ref().is_none_or(known) {
                state.perform(&Edit::AddPublished(Arc::new(published)));
            }
        }
        if let Some(doors) = self.doors.read(&self.ranges) {
            state.perform(&Edit::KeepDoors(None, Some(Arc::new(doors))));
        }
        let whole = state.elements() == self.elements;
        (state, whole)
    }
}

/// Which balancer an element of `services` means. Where a release up to 0.1.0 wrote it, it leads to the chain itself.
fn balancer(element: RawElement<'_>) -> Option<Balancer> {
    match Parts(element.data).number() {
        Some(number) => Balancer::numbered(number),
        None => Balancer::named(element.chain),
    }
}

fn exact(key: &mut Parts<'_>) -> Option<(Ipv4Addr, VirtualPort)> {
    let (vip, protocol, number) = (key.ip()?, key.protocol()?, key.port()?);
    Some((vip, VirtualPort::new(protocol, number)))
}

fn any(key: &mut Parts<'_>) -> Option<(Ipv4Addr, VirtualPort)> {
    Some((key.ip()?, VirtualPort::ANY))
}

fn read_workload(comment: &str, ip: Ipv4Addr, mac: steppe_model::Mac, bridge: IfName) -> Option<Workload> {
    let mut parts = comment.splitn(4, ' ');
    let port_ifindex = parts.next()?.parse().ok()?;
    let user = match parts.next()? {
        NOBODY => None,
        user => Some(user.parse().ok()?),
    };
    let id = WorkloadId::new(parts.next()?);
    let name = parts.next()?.into();
    Some(Workload { id, ip, mac, bridge: bridge.as_str().into(), port_ifindex, name, user, guarded: false })
}

/// Reads `[USER/]NAME[#TAG]`, as a service's key is written.
fn read_service(text: &str) -> Option<ServiceKey> {
    let (user, rest) = match text.split_once('/') {
        Some((user, rest)) => (Some(user.parse().ok()?), rest),
        None => (None, text),
    };
    let (name, tag) = match rest.split_once('#') {
        Some((name, tag)) => (name, Some(tag.parse().ok()?)),
        None => (rest, None),
    };
    Some(ServiceKey { user, name: name.parse().ok()?, tag })
}

impl State {
    /// Without what is outside the range, and whether that was nothing.
    pub(crate) fn within(mut self, services: Ipv4Net) -> (Self, bool) {
        let before = self.elements();
        let outside: Vec<Edit> = self
            .edits()
            .into_iter()
            .filter(|edit| edit.vip().is_some_and(|vip| !services.contains(&vip)))
            .collect();
        for edit in outside.iter().rev() {
            self.perform(&edit.inverse());
        }
        let whole = self.elements() == before;
        (self, whole)
    }
}
