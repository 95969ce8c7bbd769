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

impl Seen {
    fn is_complete(&self) -> bool {
        self.mac.is_some() && !self.ips.is_empty()
    }
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
        self.ports.get(&ifindex).is_some_and(Seen::is_complete)
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

    /// A port there is. Once all is known of it, its addresses stay what they were: gVisor takes them away from the interface
    /// when it starts, and a container with CAP_NET_ADMIN could give itself another's.
    pub(crate) fn present(&mut self, mut seen: Seen) -> Option<PortChange> {
        let ifindex = seen.ifindex;
        let old = self.view(ifindex);
        match self.ports.get(&ifindex) {
            Some(known) if known.is_complete() => {
                seen.mac = known.mac;
                seen.ips.clone_from(&known.ips);
            }
            Some(known) => seen.mac = seen.mac.or(known.mac),
            None => {}
        }
        self.ports.insert(ifindex, seen);
        let new = self.view(ifindex);
        if new == old { None } else { new.map(PortChange::Present) }
    }

    /// What a port was known as before this process began: what is seen now may have been changed since.
    pub(crate) fn was_known(&mut self, ifindex: u32, mac: Mac, ip: Ipv4Addr) {
        if let Some(port) = self.ports.get_mut(&ifindex) {
            port.mac = Some(mac);
            port.ips = vec![ip];
        }
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
    fn a_port_stays_what_it_was_when_first_fully_seen() {
        let mut ports = ports();
        let other: Mac = "02:42:ac:11:00:03".parse().unwrap();
        // While it is being set up, everything may change.
        assert!(matches!(
            ports.present(Seen { mac: Some(other), ..seen(&[]) }),
            Some(PortChange::Present(_))
        ));
        let Some(PortChange::Present(view)) = ports.present(seen(&["172.17.0.2"])) else {
            panic!("a change")
        };
        assert_eq!(ports.present(seen(&[])), None, "gVisor takes the addresses away");
        assert_eq!(ports.present(Seen { mac: Some(other), ..seen(&["172.17.0.3"]) }), None);
        assert_eq!(ports.views().collect::<Vec<_>>(), [view]);
        assert_eq!(ports.gone(7), Some(PortChange::Gone(7)));
        assert_eq!(ports.port(7), None);
        assert!(ports.present(Seen { mac: Some(other), ..seen(&["172.17.0.3"]) }).is_some());
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
