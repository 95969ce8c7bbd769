//! Users' networks: their elements and back.

use std::sync::Arc;

use steppe_model::{Network, UserName};

use super::{Bound, Edit, State, doors::range_elements};
use crate::ruleset::{Element, IfName, SetName, Value};

/// Networks that are taken, one a user: a host has some dozens, and bridges are bounded by the kernel's patience.
const NETWORKS: usize = 4_096;

/// A network in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridged {
    /// What control told of it.
    pub(crate) network: Network,
    /// The name of its bridge.
    pub(crate) bridge: IfName,
}

/// The elements.
pub(super) fn elements(bridged: &Bridged) -> Vec<Element> {
    let Network { user, subnet, gateway, .. } = &bridged.network;
    let name = Value::EMPTY.interface(bridged.bridge);
    let mut elements = vec![
        Element {
            // 63 + 18 + 15 bytes and two blanks.
            comment: format!("{user} {subnet} {gateway}"),
            ..Element::key(SetName::Networks, name)
        },
        Element::key(SetName::Crossed, name),
        Element::key(SetName::Siblings, name.interface(bridged.bridge)),
    ];
    let ends = (subnet.network().to_bits().into(), subnet.broadcast().to_bits().into());
    elements.extend(range_elements(SetName::Subnets, vec![ends]));
    elements
}

/// Reads a comment back.
pub(super) fn read(bridge: IfName, comment: &str) -> Option<Bridged> {
    let mut parts = comment.split(' ');
    let network = Network {
        user: parts.next()?.parse().ok()?,
        bridge: bridge.as_str().into(),
        subnet: parts.next()?.parse().ok()?,
        gateway: parts.next()?.parse().ok()?,
    };
    Some(Bridged { network, bridge })
}

impl State {
    pub(super) fn plan_network(&self, new: &Network) -> Result<Vec<Edit>, String> {
        let Some(bridge) = IfName::new(&new.bridge) else {
            return Err(format!("bridge: no interface can be called `{}`", new.bridge));
        };
        let overlaps =
            |other: &Network| other.subnet.contains(&new.subnet) || new.subnet.contains(&other.subnet);
        for other in self.networks().filter(|other| other.user != new.user) {
            if other.bridge == new.bridge {
                return Err(format!("bridge: `{}` is that of `{}`", new.bridge, other.user));
            }
            if overlaps(other) {
                return Err(format!(
                    "subnet: {} overlaps that of `{}`, {}",
                    new.subnet, other.user, other.subnet
                ));
            }
        }
        let old = self.networks.get(&new.user);
        if old.is_none() && self.networks.len() >= NETWORKS {
            return Err(format!("{NETWORKS} networks at most are expected"));
        }
        let new = Arc::new(Bridged { network: new.clone(), bridge });
        if old.is_some_and(|old| **old == *new) {
            return Ok(Vec::new());
        }
        let mut edits = Vec::new();
        if let Some(old) = old {
            if old.bridge != bridge {
                self.plan_membership(old.bridge, false, &mut edits);
            }
            edits.push(Edit::RemoveNetwork(old.clone()));
        }
        edits.push(Edit::AddNetwork(new));
        self.plan_membership(bridge, true, &mut edits);
        Ok(edits)
    }

    pub(super) fn plan_network_removal(&self, user: &UserName) -> Vec<Edit> {
        let mut edits = Vec::new();
        if let Some(old) = self.networks.get(user) {
            self.plan_membership(old.bridge, false, &mut edits);
            edits.push(Edit::RemoveNetwork(old.clone()));
        }
        edits
    }

    /// Whoever is known on a network's bridge is a member.
    fn plan_membership(&self, bridge: IfName, member: bool, edits: &mut Vec<Edit>) {
        let others = self.workloads.values().map(|entry| &entry.bound);
        for old in others.filter(|bound| bound.bridge == bridge && bound.member != member) {
            let new = Arc::new(Bound { member, ..(**old).clone() });
            edits.push(Edit::ChangeWorkload(old.clone(), new));
        }
    }

    /// Whether a bridge is a network's.
    pub(super) fn is_network(&self, bridge: IfName) -> bool {
        self.bridges.contains_key(&bridge)
    }

    /// The networks.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().map(|bridged| &bridged.network)
    }

    /// The network of a bridge.
    pub(crate) fn network_of(&self, bridge: IfName) -> Option<&Network> {
        self.bridges.get(&bridge).and_then(|user| self.networks.get(user)).map(|bridged| &bridged.network)
    }
}
