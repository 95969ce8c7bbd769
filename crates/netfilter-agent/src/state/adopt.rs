//! From the kernel's elements back to state, when the agent starts.

use std::{collections::HashMap, net::Ipv4Addr, sync::Arc};

use steppe_model::{ServiceKey, VirtualPort, Workload, WorkloadId};

use super::{Bound, Edit, State};
use crate::ruleset::{Cidr, IfName, Parts, SetName};

/// Longest id of a workload: with the rest of the comment it fits the kernel's 256 bytes of user data.
pub(super) const ID_BYTES: usize = 90;
/// In a comment, for no user: no user is called so.
const NOBODY: &str = ".";

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

/// What was found in the kernel, element by element.
#[derive(Debug, Default)]
pub(crate) struct Found {
    workloads: Vec<(IfName, Ipv4Addr, String)>,
    bindings: HashMap<Ipv4Addr, (IfName, steppe_model::Mac)>,
    vips: Vec<(Ipv4Addr, ServiceKey)>,
    ports: Vec<(Ipv4Addr, VirtualPort, std::net::SocketAddrV4)>,
    grants: Vec<(Ipv4Addr, Ipv4Addr, VirtualPort)>,
    elements: usize,
}

impl Found {
    /// Takes an element. What can't be read is not taken, so that [`Found::is_whole`] tells.
    pub(crate) fn take(&mut self, set: SetName, key: &[u8], data: &[u8], comment: &str) {
        self.elements += 1;
        // An element that can't be read shows in the count.
        let _ = self.read(set, key, data, comment);
    }

    fn read(&mut self, set: SetName, key: &[u8], data: &[u8], comment: &str) -> Option<()> {
        let (mut key, mut data) = (Parts(key), Parts(data));
        match set {
            SetName::Workloads => {
                self.workloads.push((key.interface()?, key.ip()?, comment.to_owned()));
            }
            SetName::Bindings => {
                let (port, mac, ip) = (key.interface()?, key.mac()?, key.ip()?);
                self.bindings.insert(ip, (port, mac));
            }
            SetName::Vips => self.vips.push((key.ip()?, read_service(comment)?)),
            SetName::Listeners => {
                let (vip, protocol, number) = (key.ip()?, key.protocol()?, key.port()?);
                let listener = std::net::SocketAddrV4::new(data.ip()?, data.port()?);
                self.ports.push((vip, VirtualPort::new(protocol, number), listener));
            }
            SetName::ListenersAny => {
                let listener = std::net::SocketAddrV4::new(data.ip()?, data.port()?);
                self.ports.push((key.ip()?, VirtualPort::ANY, listener));
            }
            SetName::Grants => {
                let (client, vip) = (key.ip()?, key.ip()?);
                let (protocol, number) = (key.protocol()?, key.port()?);
                self.grants.push((client, vip, VirtualPort::new(protocol, number)));
            }
            SetName::GrantsAny => self.grants.push((key.ip()?, key.ip()?, VirtualPort::ANY)),
        }
        Some(())
    }

    /// The state that these elements are, and whether it is all of them. What belongs to nothing is left out.
    pub(crate) fn into_state(self) -> (State, bool) {
        let mut state = State::default();
        for (bridge, ip, comment) in &self.workloads {
            let Some((port, mac)) = self.bindings.get(ip) else { continue };
            let Some(workload) = read_workload(comment, *ip, *mac, *bridge) else { continue };
            if !state.by_ip.contains_key(ip) && !state.workloads.contains_key(&workload.id) {
                let bound = Bound { workload, bridge: *bridge, port: *port };
                state.perform(&Edit::AddWorkload(Arc::new(bound)));
            }
        }
        for (vip, service) in self.vips {
            state.perform(&Edit::AddVip(vip, Arc::new(service)));
        }
        for (vip, port, listener) in self.ports {
            state.perform(&Edit::AddPort(vip, port, listener));
        }
        for (client, vip, port) in self.grants {
            let Some(id) = state.by_ip.get(&client) else { continue };
            let bound = state.workloads[id].bound.clone();
            state.perform(&Edit::AddGrant(bound, vip, port));
        }
        let whole = state.elements() == self.elements;
        (state, whole)
    }
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
    Some(Workload { id, ip, mac, bridge: bridge.as_str().into(), port_ifindex, name, user })
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
    pub(crate) fn within(mut self, services: Cidr) -> (Self, bool) {
        let before = self.elements();
        let outside: Vec<Edit> = self
            .edits()
            .into_iter()
            .filter(|edit| edit.vip().is_some_and(|vip| !services.contains(vip)))
            .collect();
        for edit in outside.iter().rev() {
            self.perform(&edit.inverse());
        }
        let whole = self.elements() == before;
        (self, whole)
    }
}
