//! The bridge ports of this host, as the netfilter-agent reports them, and which of them is a container's.
//!
//! Docker never names a container's bridge port, and gives the next container the same address and the same hardware address. So a port is
//! taken for a container's only if it was there already when Docker was asked and said that the container has the
//! address: a later container's port came later. A port that was one container's is never another's, whatever
//! addresses it takes: a container that may set its own could wait for the next container's.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use steppe_model::Mac;

use crate::{multimap::MultiMap, observe::Attachment};

/// A port of a bridge whose other end is in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// Its interface index on this host; never used twice.
    pub ifindex: u32,
    /// Its name on this host.
    pub name: Arc<str>,
    /// The name of the bridge.
    pub bridge: Arc<str>,
    /// The hardware address of the container's end.
    pub mac: Mac,
    /// Addresses of the container's end; gVisor takes them away when it starts.
    pub ips: Vec<Ipv4Addr>,
}

/// What the netfilter-agent tells of bridge ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortChange {
    /// Everything there is: it replaces all that was known.
    Listed(Vec<BridgePort>),
    /// New or changed.
    Present(BridgePort),
    /// Gone, by its interface index.
    Gone(u32),
}

/// Why an attachment has no port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPort {
    /// No port has its addresses.
    None,
    /// Several have.
    Several,
    /// It is not looked for: the attachment is on the network of another user, where it must not be heard.
    Foreign,
    /// One has, but it may be a later container's: Docker must be asked again.
    Unproven,
}

/// The bridge ports known.
#[derive(Debug, Default)]
pub struct Ports {
    changes: u64,
    by_ifindex: HashMap<u32, Known>,
    by_mac: MultiMap<Mac, u32>,
    by_ip: MultiMap<Ipv4Addr, u32>,
    /// Whose a port was in an earlier life of control, by its interface index: the beginning of the container's id.
    kept: HashMap<u32, Arc<str>>,
}

/// The addresses that a change of ports concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Hardware addresses.
    pub macs: BTreeSet<Mac>,
    /// Addresses.
    pub ips: BTreeSet<Ipv4Addr>,
}

impl Touched {
    fn note(&mut self, port: &BridgePort) {
        self.macs.insert(port.mac);
        self.ips.extend(&port.ips);
    }
}

#[derive(Debug)]
struct Known {
    port: BridgePort,
    /// The number of the change that brought it, or gave it its hardware address.
    since: u64,
    /// The number of the change that gave it the addresses it has.
    ips_since: u64,
    /// The container that it was found to be of, or the beginning of its id.
    owner: Option<Arc<str>>,
}

impl Known {
    fn is_of(&self, container: &str) -> bool {
        self.owner.as_ref().is_some_and(|owner| container.starts_with(&**owner))
    }
}

impl Ports {
    /// How many changes were taken in.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Takes a change in and tells which addresses it concerns.
    pub fn apply(&mut self, change: PortChange) -> Touched {
        self.changes += 1;
        let mut touched = Touched::default();
        match change {
            PortChange::Listed(ports) => {
                let listed: BTreeSet<u32> = ports.iter().map(|port| port.ifindex).collect();
                let gone: Vec<u32> =
                    self.by_ifindex.keys().filter(|ifindex| !listed.contains(ifindex)).copied().collect();
                gone.into_iter().for_each(|ifindex| self.remove(ifindex, &mut touched));
                for port in ports {
                    self.put(port, &mut touched);
                }
            }
            PortChange::Present(port) => self.put(port, &mut touched),
            PortChange::Gone(ifindex) => self.remove(ifindex, &mut touched),
        }
        touched
    }

    /// Takes note of whose a port was in an earlier life of control, by the beginning of the container's id, and tells which
    /// addresses that concerns.
    pub fn keep(&mut self, ifindex: u32, container: &str) -> Touched {
        let mut touched = Touched::default();
        if let Some(known) = self.by_ifindex.get_mut(&ifindex) {
            known.owner = Some(container.into());
            touched.note(&known.port);
        }
        self.kept.insert(ifindex, container.into());
        touched
    }

    /// Every port of an earlier life of control is known by now, or gone.
    pub fn forget_kept(&mut self) {
        self.kept = HashMap::new();
    }

    fn put(&mut self, port: BridgePort, touched: &mut Touched) {
        let (mut since, mut ips_since) = (self.changes, self.changes);
        let mut owner = self.kept.get(&port.ifindex).cloned();
        if let Some(known) = self.by_ifindex.get(&port.ifindex) {
            if known.port == port {
                return;
            }
            // With another address it may be meant to look like somebody else's: it counts from now.
            if known.port.mac == port.mac && known.port.bridge == port.bridge {
                since = known.since;
                if known.port.ips == port.ips {
                    ips_since = known.ips_since;
                }
            }
            owner.clone_from(&known.owner);
        }
        self.remove(port.ifindex, touched);
        touched.note(&port);
        self.by_mac.insert(port.mac, port.ifindex);
        port.ips.iter().for_each(|ip| self.by_ip.insert(*ip, port.ifindex));
        self.by_ifindex.insert(port.ifindex, Known { port, since, ips_since, owner });
    }

    fn remove(&mut self, ifindex: u32, touched: &mut Touched) {
        let Some(Known { port, .. }) = self.by_ifindex.remove(&ifindex) else { return };
        self.by_mac.remove(&port.mac, &ifindex);
        port.ips.iter().for_each(|ip| self.by_ip.remove(ip, &ifindex));
        touched.note(&port);
    }

    /// The port with this index, if it is still what the container's attachment was found behind.
    #[must_use]
    pub fn still(&self, ifindex: u32, container: &str, attachment: &Attachment) -> Option<&BridgePort> {
        let known = self.by_ifindex.get(&ifindex).filter(|known| known.is_of(container))?;
        let port = &known.port;
        let is_same = match attachment.mac {
            Some(mac) => port.mac == mac,
            None => port.ips.contains(&attachment.ip),
        };
        (is_same && port.bridge == attachment.bridge).then_some(port)
    }

    /// The ports that may be an attachment's, and whether it is its address that says so.
    fn candidates(&self, attachment: &Attachment) -> Vec<(u32, bool)> {
        match &attachment.mac {
            Some(mac) => self.by_mac.get(mac).map(|ifindex| (*ifindex, false)).collect(),
            None => self.by_ip.get(&attachment.ip).map(|ifindex| (*ifindex, true)).collect(),
        }
    }

    /// The port behind which the container's attachment is, if Docker told of the attachment after `known` changes. It is
    /// the container's from now on.
    ///
    /// # Errors
    /// [`NoPort`] when it can't be told.
    pub fn find(
        &mut self,
        container: &Arc<str>,
        attachment: &Attachment,
        known: u64,
    ) -> Result<&BridgePort, NoPort> {
        let mut named = Vec::new();
        let mut nameless = Vec::new();
        for (ifindex, by_ip) in self.candidates(attachment) {
            let Some(known) = self.by_ifindex.get(&ifindex) else { continue };
            let Known { port, since, ips_since, owner } = known;
            let since = if by_ip { ips_since } else { since };
            if port.bridge != attachment.bridge || (owner.is_some() && !known.is_of(container)) {
                continue;
            }
            if port.ips.contains(&attachment.ip) {
                named.push((ifindex, *since));
            } else if port.ips.is_empty() {
                nameless.push((ifindex, *since));
            }
        }
        let candidates = if named.is_empty() { nameless } else { named };
        let ifindex = match candidates.as_slice() {
            [] => return Err(NoPort::None),
            [(ifindex, since)] if *since <= known => ifindex,
            [_] => return Err(NoPort::Unproven),
            _ => return Err(NoPort::Several),
        };
        let found = self.by_ifindex.get_mut(ifindex).ok_or(NoPort::None)?;
        found.owner = Some(container.clone());
        Ok(&found.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(ifindex: u32, mac: u8, ips: &[Ipv4Addr]) -> BridgePort {
        let name = format!("veth{ifindex}").into();
        BridgePort {
            ifindex,
            name,
            bridge: "docker0".into(),
            mac: Mac([2, 0, 0, 0, 0, mac]),
            ips: ips.into(),
        }
    }

    fn attachment(mac: u8) -> Attachment {
        Attachment {
            network: "n".into(),
            bridge: "docker0".into(),
            ip: [172, 17, 0, mac].into(),
            prefix_len: 16,
            mac: Some(Mac([2, 0, 0, 0, 0, mac])),
        }
    }

    #[test]
    fn a_port_that_came_after_dockers_answer_proves_nothing() {
        let mut ports = Ports::default();
        let ip = attachment(2).ip;
        ports.apply(PortChange::Present(port(7, 2, &[ip])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 0), Err(NoPort::Unproven));
        assert_eq!(ports.find(&"c".into(), &attachment(2), ports.changes()).unwrap().ifindex, 7);
        ports.apply(PortChange::Gone(7));
        ports.apply(PortChange::Present(port(8, 2, &[ip])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 1), Err(NoPort::Unproven));
        assert!(ports.still(7, "c", &attachment(2)).is_none());
    }

    #[test]
    fn a_listing_keeps_what_it_confirms() {
        let mut ports = Ports::default();
        let ip = attachment(2).ip;
        ports.apply(PortChange::Present(port(7, 2, &[ip])));
        let touched = ports.apply(PortChange::Listed(vec![port(7, 2, &[ip]), port(9, 3, &[])]));
        assert_eq!(touched.macs, BTreeSet::from([Mac([2, 0, 0, 0, 0, 3])]));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 1).unwrap().ifindex, 7);
    }

    #[test]
    fn an_address_decides_and_two_of_it_decide_nothing() {
        let mut ports = Ports::default();
        ports.apply(PortChange::Present(port(7, 2, &[])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 9).unwrap().ifindex, 7);
        ports.apply(PortChange::Present(port(8, 2, &[attachment(2).ip])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 9).unwrap().ifindex, 8);
        ports.apply(PortChange::Present(port(9, 2, &[attachment(2).ip])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 9), Err(NoPort::Several));
    }

    #[test]
    fn a_port_that_takes_another_hardware_address_counts_from_then() {
        let mut ports = Ports::default();
        ports.apply(PortChange::Present(port(7, 3, &[])));
        ports.apply(PortChange::Present(port(7, 2, &[attachment(2).ip])));
        assert_eq!(ports.find(&"c".into(), &attachment(2), 1), Err(NoPort::Unproven));
    }

    #[test]
    fn a_port_that_was_one_containers_is_never_anothers_also_when_control_was_away() {
        let ip = attachment(2).ip;
        for is_listed_first in [true, false] {
            let mut ports = Ports::default();
            let list = |ports: &mut Ports| ports.apply(PortChange::Listed(vec![port(7, 2, &[ip])]));
            if is_listed_first {
                list(&mut ports);
                assert_eq!(ports.find(&"imitated".into(), &attachment(2), 1).unwrap().ifindex, 7);
            }
            let touched = ports.keep(7, "owner");
            assert_eq!(touched.ips.contains(&ip), is_listed_first);
            if !is_listed_first {
                list(&mut ports);
            }
            assert!(ports.still(7, "imitated", &attachment(2)).is_none());
            ports.forget_kept();
            assert_eq!(ports.find(&"imitated".into(), &attachment(2), 9), Err(NoPort::None));
            assert_eq!(ports.find(&"owner".into(), &attachment(2), 9).unwrap().ifindex, 7);
        }
    }
}
