//! What is known of bridges and their ports. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
};

use steppe_model::Mac;

use crate::{ruleset::IfName, state::PortLookup};

/// A bridge port as the kernel shows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its interface index on this host.
    pub(crate) ifindex: u32,
    /// Its name on this host.
    pub(crate) name: IfName,
    /// The interface index of its bridge.
    pub(crate) bridge: u32,
    /// The hardware address of the other end; `None` while it can't be read.
    pub(crate) mac: Option<Mac>,
    /// IPv4 addresses of the other end.
    pub(crate) ips: Vec<Ipv4Addr>,
}

/// Everything there is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    /// The bridges: interface index and name.
    pub(crate) bridges: Vec<(u32, IfName)>,
    /// Their ports.
    pub(crate) ports: Vec<Seen>,
}

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortChange {
    /// New, or not as it was.
    Present(PortView),
    /// Gone: its interface index.
    Gone(u32),
}

/// A port with the name of its bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortView {
    pub(crate) ifindex: u32,
    pub(crate) name: IfName,
    pub(crate) bridge: IfName,
    pub(crate) mac: Mac,
    pub(crate) ips: Vec<Ipv4Addr>,
}

/// The bridges and their ports.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    bridges: HashMap<u32, IfName>,
    ports: BTreeMap<u32, Seen>,
}

impl PortLookup for Ports {
    fn port(&self, ifindex: u32) -> Option<(IfName, IfName)> {
        let port = self.ports.get(&ifindex)?;
        Some((port.name, *self.bridges.get(&port.bridge)?))
    }
}

impl Ports {
    /// Whether this interface is a bridge.
    pub(crate) fn is_bridge(&self, ifindex: u32) -> bool {
        self.bridges.contains_key(&ifindex)
    }

    /// Whether all is known of a port that there is to know.
    pub(crate) fn is_complete(&self, ifindex: u32) -> bool {
        self.ports.get(&ifindex).is_some_and(|port| port.mac.is_some() && !port.ips.is_empty())
    }

    /// Every port of which enough is known.
    pub(crate) fn views(&self) -> impl Iterator<Item = PortView> {
        self.ports.keys().filter_map(|ifindex| self.view(*ifindex))
    }

    fn view(&self, ifindex: u32) -> Option<PortView> {
        let port = self.ports.get(&ifindex)?;
        let bridge = *self.bridges.get(&port.bridge)?;
        Some(PortView { ifindex, name: port.name, bridge, mac: port.mac?, ips: port.ips.clone() })
    }

    /// A bridge there is, by this name.
    pub(crate) fn bridge(&mut self, ifindex: u32, name: IfName) -> Vec<PortChange> {
        if self.bridges.insert(ifindex, name) == Some(name) {
            return Vec::new();
        }
        let ports: Vec<u32> =
            self.ports.values().filter(|port| port.bridge == ifindex).map(|port| port.ifindex).collect();
        ports.into_iter().filter_map(|port| self.view(port)).map(PortChange::Present).collect()
    }

    /// A port there is. Addresses that are no longer seen stay while the hardware address does: gVisor takes them away from
    /// the interface when it starts.
    pub(crate) fn present(&mut self, mut seen: Seen) -> Option<PortChange> {
        let ifindex = seen.ifindex;
        let old = self.view(ifindex);
        if let Some(known) = self.ports.get(&ifindex) {
            seen.mac = seen.mac.or(known.mac);
            if seen.ips.is_empty() && seen.mac == known.mac {
                seen.ips.clone_from(&known.ips);
            }
        }
        self.ports.insert(ifindex, seen);
        let new = self.view(ifindex);
        if new == old { None } else { new.map(PortChange::Present) }
    }

    /// An interface is gone, or is no port any more.
    pub(crate) fn gone(&mut self, ifindex: u32) -> Option<PortChange> {
        self.bridges.remove(&ifindex);
        self.ports.remove(&ifindex).map(|_| PortChange::Gone(ifindex))
    }

    /// What a full listing shows takes the place of what was known.
    pub(crate) fn relist(&mut self, Listing { bridges, ports: seen }: Listing) -> Vec<PortChange> {
        let mut changes = Vec::new();
        let lost: Vec<u32> = self
            .ports
            .keys()
            .filter(|known| !seen.iter().any(|seen| seen.ifindex == **known))
            .copied()
            .collect();
        changes.extend(lost.into_iter().filter_map(|ifindex| self.gone(ifindex)));
        self.bridges.retain(|known, _| bridges.iter().any(|(ifindex, _)| ifindex == known));
        for (ifindex, name) in bridges {
            changes.extend(self.bridge(ifindex, name));
        }
        changes.extend(seen.into_iter().filter_map(|seen| self.present(seen)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IfName {
        IfName::new(text).unwrap()
    }

    fn seen(ips: &[&str]) -> Seen {
        Seen {
            ifindex: 7,
            name: name("veth7"),
            bridge: 2,
            mac: Some("02:42:ac:11:00:02".parse().unwrap()),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn ports() -> Ports {
        let mut ports = Ports::default();
        ports.bridge(2, name("docker0"));
        ports
    }

    #[test]
    fn addresses_stay_until_the_port_or_the_hardware_address_goes() {
        let mut ports = ports();
        assert!(matches!(ports.present(seen(&["172.17.0.2"])), Some(PortChange::Present(_))));
        assert_eq!(ports.present(seen(&[])), None);
        let other = Seen { mac: Some("02:42:ac:11:00:03".parse().unwrap()), ..seen(&[]) };
        let Some(PortChange::Present(view)) = ports.present(other) else { panic!("a change") };
        assert!(view.ips.is_empty());
        assert_eq!(ports.gone(7), Some(PortChange::Gone(7)));
        assert_eq!(ports.port(7), None);
    }

    #[test]
    fn a_port_without_a_hardware_address_is_not_told_yet() {
        let mut ports = ports();
        assert_eq!(ports.present(Seen { mac: None, ..seen(&[]) }), None);
        assert_eq!(ports.port(7), Some((name("veth7"), name("docker0"))));
    }

    #[test]
    fn a_listing_tells_the_difference() {
        let mut ports = ports();
        ports.present(seen(&["172.17.0.2"]));
        let listing = |ports| Listing { bridges: vec![(2, name("docker0"))], ports };
        assert_eq!(ports.relist(listing(vec![seen(&["172.17.0.2"])])), []);
        let renamed = Seen { name: name("veth8"), ..seen(&[]) };
        assert_eq!(ports.relist(listing(vec![renamed])).len(), 1);
        assert_eq!(ports.relist(listing(vec![])), [PortChange::Gone(7)]);
    }

    #[test]
    fn a_renamed_bridge_changes_its_ports() {
        let mut ports = ports();
        ports.present(seen(&[]));
        assert_eq!(ports.bridge(2, name("docker0")), []);
        assert_eq!(ports.bridge(2, name("other")).len(), 1);
    }
}
