//! The smallest changes of state, and their elements.

use std::{
    collections::{BTreeSet, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use steppe_model::{Doors, Protocol, PublishedPort, ServiceKey, VirtualPort};

use super::{Bound, Bridged, TAKEOVER, Ways, adopt::workload_comment, doors, networks, published};
use crate::{
    netlink::nftables::Operation,
    ruleset::{Balancer, Element, SetName, Value},
};

/// One small change. Planned on a state, it does exactly one thing there, so that its inverse undoes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Neither its id nor its address is there.
    AddWorkload(Arc<Bound>),
    /// It has no grants any more.
    RemoveWorkload(Arc<Bound>),
    /// The first becomes the second: only what people call it, and how it is guarded, differs.
    ChangeWorkload(Arc<Bound>, Arc<Bound>),
    /// Its user has none, and nobody has its bridge.
    AddNetwork(Arc<Bridged>),
    /// It is there.
    RemoveNetwork(Arc<Bridged>),
    /// It is not there. If it was closed, it is open again.
    AddPublished(Arc<PublishedPort>),
    /// It is there. From here on it is closed for a while.
    RemovePublished(Arc<PublishedPort>),
    /// The first becomes the second: the port is the same.
    ChangePublished(Arc<PublishedPort>, Arc<PublishedPort>),
    /// The doors were kept as the first says, and are kept as the second does.
    KeepDoors(Option<Arc<Doors>>, Option<Arc<Doors>>),
    /// It is not there.
    AddVip(Ipv4Addr, Arc<ServiceKey>),
    /// It has no ports any more.
    RemoveVip(Ipv4Addr, Arc<ServiceKey>),
    /// The virtual IP is there, the port not.
    AddPort(Ipv4Addr, VirtualPort, Arc<Ways>),
    /// It is there.
    RemovePort(Ipv4Addr, VirtualPort, Arc<Ways>),
    /// It led the first ways, and leads the second.
    ChangePort(Ipv4Addr, VirtualPort, Arc<Ways>, Arc<Ways>),
    /// The workload is there, the grant not.
    AddGrant(Arc<Bound>, Ipv4Addr, VirtualPort),
    /// It is there.
    RemoveGrant(Arc<Bound>, Ipv4Addr, VirtualPort),
    /// The kernel has not taken over.
    TakeOver,
    /// It has.
    HandBack,
}

impl Edit {
    /// What undoes it.
    pub(crate) fn inverse(&self) -> Self {
        match self.clone() {
            Self::AddWorkload(bound) => Self::RemoveWorkload(bound),
            Self::RemoveWorkload(bound) => Self::AddWorkload(bound),
            Self::ChangeWorkload(old, new) => Self::ChangeWorkload(new, old),
            Self::AddNetwork(network) => Self::RemoveNetwork(network),
            Self::RemoveNetwork(network) => Self::AddNetwork(network),
            Self::AddPublished(port) => Self::RemovePublished(port),
            Self::RemovePublished(port) => Self::AddPublished(port),
            Self::ChangePublished(old, new) => Self::ChangePublished(new, old),
            Self::KeepDoors(old, new) => Self::KeepDoors(new, old),
            Self::AddVip(vip, service) => Self::RemoveVip(vip, service),
            Self::RemoveVip(vip, service) => Self::AddVip(vip, service),
            Self::AddPort(vip, port, ways) => Self::RemovePort(vip, port, ways),
            Self::RemovePort(vip, port, ways) => Self::AddPort(vip, port, ways),
            Self::ChangePort(vip, port, old, new) => Self::ChangePort(vip, port, new, old),
            Self::AddGrant(bound, vip, port) => Self::RemoveGrant(bound, vip, port),
            Self::RemoveGrant(bound, vip, port) => Self::AddGrant(bound, vip, port),
            Self::TakeOver => Self::HandBack,
            Self::HandBack => Self::TakeOver,
        }
    }

    /// The client and the virtual IP of a right that it takes away.
    pub(crate) fn revokes(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        match self {
            Self::RemoveGrant(bound, vip, _) => Some((bound.workload.ip, *vip)),
            _ => None,
        }
    }

    /// Whether it takes something away that a port of UDP led to.
    pub(crate) fn redirects(&self) -> bool {
        let is_udp = |port: &VirtualPort| port.protocol == Protocol::Udp;
        match self {
            Self::RemovePort(_, port, _) => is_udp(port),
            Self::ChangePort(_, port, old, new) => is_udp(port) && !old.are_all_in(new),
            _ => false,
        }
    }

    /// Whether it leads somewhere on the kernel path.
    pub(crate) fn opens_kernel_path(&self) -> bool {
        match self {
            Self::AddPort(_, _, ways) | Self::ChangePort(_, _, _, ways) => ways.leads_past_the_proxy(),
            _ => false,
        }
    }

    /// The balancer that it leads to.
    pub(crate) fn balancer(&self) -> Option<Balancer> {
        match self {
            Self::AddPort(_, port, ways) | Self::ChangePort(_, port, _, ways) => ways.balancer(*port),
            _ => None,
        }
    }

    /// The virtual IP that it is about, if it is about one.
    pub(super) fn vip(&self) -> Option<Ipv4Addr> {
        match self {
            Self::AddWorkload(_) | Self::RemoveWorkload(_) | Self::ChangeWorkload(..) => None,
            Self::AddNetwork(_) | Self::RemoveNetwork(_) | Self::KeepDoors(..) => None,
            Self::AddPublished(_) | Self::RemovePublished(_) | Self::ChangePublished(..) => None,
            Self::TakeOver | Self::HandBack => None,
            Self::AddVip(vip, _) | Self::RemoveVip(vip, _) => Some(*vip),
            Self::AddPort(vip, ..) | Self::RemovePort(vip, ..) | Self::ChangePort(vip, ..) => Some(*vip),
            Self::AddGrant(_, vip, _) | Self::RemoveGrant(_, vip, _) => Some(*vip),
        }
    }

    /// What it takes in the kernel, appended to `changes`.
    pub(crate) fn elements(&self, changes: &mut Changes) {
        match self {
            Self::AddWorkload(bound) => each(Operation::Add, workload(bound), changes),
            Self::RemoveWorkload(bound) => each(Operation::Delete, workload(bound), changes),
            Self::ChangeWorkload(old, new) => replace(workload(old), workload(new), changes),
            Self::AddNetwork(network) => each(Operation::Add, networks::elements(network), changes),
            Self::RemoveNetwork(network) => each(Operation::Delete, networks::elements(network), changes),
            Self::AddPublished(port) => {
                each(Operation::Add, published::elements(port), changes);
                self.close_and_open(changes);
            }
            Self::RemovePublished(port) => {
                each(Operation::Delete, published::elements(port), changes);
                self.close_and_open(changes);
            }
            Self::ChangePublished(old, new) => {
                replace(published::elements(old), published::elements(new), changes);
                self.close_and_open(changes);
            }
            Self::KeepDoors(old, new) => {
                let elements =
                    |doors: &Option<Arc<Doors>>| doors.as_deref().map(doors::elements).unwrap_or_default();
                replace_doors(elements(old), elements(new), changes);
            }
            Self::AddVip(ip, service) => changes.push((Operation::Add, vip(*ip, service))),
            Self::RemoveVip(ip, service) => changes.push((Operation::Delete, vip(*ip, service))),
            Self::AddPort(vip, port, ways) => each(Operation::Add, ways.elements(*vip, *port), changes),
            Self::RemovePort(vip, port, ways) => {
                each(Operation::Delete, ways.elements(*vip, *port), changes);
            }
            Self::ChangePort(vip, port, old, new) => {
                replace(old.elements(*vip, *port), new.elements(*vip, *port), changes);
            }
            Self::AddGrant(bound, vip, port) => changes.push((Operation::Add, grant(bound, *vip, *port))),
            Self::RemoveGrant(bound, vip, port) => {
                changes.push((Operation::Delete, grant(bound, *vip, *port)))
            }
            Self::TakeOver => each(Operation::Add, takeover(), changes),
            Self::HandBack => each(Operation::Delete, takeover(), changes),
        }
    }

    /// What becomes of ports that were published, or are.
    fn close_and_open(&self, changes: &mut Changes) {
        let (closed, opened) = self.closes_and_opens();
        // Whether the kernel has forgotten one, nobody knows: what is there for certain can be deleted.
        for element in opened.into_iter().map(published::closed) {
            changes.push((Operation::Add, element.clone()));
            changes.push((Operation::Delete, element));
        }
        // From now on, if it is closed already.
        for element in closed.into_iter().map(published::closed) {
            changes.push((Operation::Add, element.clone()));
            changes.push((Operation::Delete, element.clone()));
            changes.push((Operation::Add, element));
        }
    }
}

type Changes = Vec<(Operation, Element)>;

fn each(operation: Operation, elements: impl IntoIterator<Item = Element>, changes: &mut Changes) {
    changes.extend(elements.into_iter().map(|element| (operation, element)));
}

/// Only what differs.
fn replace(old: Vec<Element>, new: Vec<Element>, changes: &mut Changes) {
    let stays: HashSet<Element> = {
        let old: HashSet<&Element> = old.iter().collect();
        new.iter().filter(|element| old.contains(element)).cloned().collect()
    };
    each(Operation::Delete, old.into_iter().filter(|element| !stays.contains(element)), changes);
    each(Operation::Add, new.into_iter().filter(|element| !stays.contains(element)), changes);
}

/// Only what differs; of ranges, which the kernel does not change one end at a time, the whole set.
fn replace_doors(old: Vec<Element>, new: Vec<Element>, changes: &mut Changes) {
    let is_of_ranges = |element: &Element| doors::is_of_ranges(element.set);
    let (old_ranges, old): (Vec<_>, Vec<_>) = old.into_iter().partition(is_of_ranges);
    let (new_ranges, new): (Vec<_>, Vec<_>) = new.into_iter().partition(is_of_ranges);
    replace(old, new, changes);
    let sets: BTreeSet<SetName> = old_ranges.iter().chain(&new_ranges).map(|element| element.set).collect();
    for set in sets {
        let of = |elements: &[Element]| elements.iter().filter(|e| e.set == set).cloned().collect::<Vec<_>>();
        let (old, new) = (of(&old_ranges), of(&new_ranges));
        if old != new {
            each(Operation::Delete, old, changes);
            each(Operation::Add, new, changes);
        }
    }
}

fn takeover() -> impl Iterator<Item = Element> {
    TAKEOVER.into_iter().map(|protocol| element(SetName::Takeover, Value::only(&[protocol.number()])))
}

fn element(set: SetName, key: Value) -> Element {
    Element::key(set, key)
}

pub(super) fn workload(bound: &Bound) -> Vec<Element> {
    let ip = bound.workload.ip;
    let key = Value::EMPTY.interface(bound.bridge).ip(ip);
    let known = Element { comment: workload_comment(&bound.workload), ..element(SetName::Workloads, key) };
    let port = Value::EMPTY.interface(bound.port);
    let hardware = port.mac(bound.workload.mac);
    let mut elements =
        vec![known, element(SetName::Bindings, hardware.ip(ip)), element(SetName::Askers, port)];
    if bound.workload.guarded {
        elements.push(element(SetName::Leaving, key));
    }
    if bound.workload.guarded || bound.member {
        elements.extend([element(SetName::Guarded, port), element(SetName::Hardware, hardware)]);
    }
    if bound.member {
        elements.push(element(SetName::Members, port));
    }
    elements
}

fn vip(ip: Ipv4Addr, service: &ServiceKey) -> Element {
    Element { comment: service.to_string(), ..element(SetName::Vips, Value::EMPTY.ip(ip)) }
}

fn grant(bound: &Bound, vip: Ipv4Addr, port: VirtualPort) -> Element {
    let (set, key) = grant_key(bound.workload.ip, vip, port);
    element(set, key)
}

/// Where a client's grant is in the kernel.
pub(crate) fn grant_key(client: Ipv4Addr, vip: Ipv4Addr, port: VirtualPort) -> (SetName, Value) {
    let key = Value::EMPTY.ip(client).ip(vip);
    match port.number {
        Some(number) => (SetName::Grants, key.protocol(port.protocol).port(number.get())),
        None => (SetName::GrantsAny, key),
    }
}
