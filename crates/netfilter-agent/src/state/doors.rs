//! How the doors are kept, as elements and back.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::{IpNet, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};
use steppe_model::{DoorMode, DoorName, Doors, Protocol};

use crate::{
    netlink::dump::RawElement,
    ruleset::{Element, Parts, SetName, Value},
};

/// `NFPROTO_IPV4` and `NFPROTO_IPV6` (linux/netfilter.h).
const FAMILIES: [u8; 2] = [2, 10];
/// `ARPHRD_ETHER` (linux/if_arp.h).
const ETHERNET: u16 = 1;

/// By door the sets that have elements while it is looked at, and while it is shut.
const SETS: [(DoorName, [SetName; 2]); 6] = [
    (DoorName::Spoofing, [SetName::SpoofingDoor, SetName::SpoofingShut]),
    (DoorName::Networks, [SetName::NetworksDoor, SetName::NetworksShut]),
    (DoorName::Published, [SetName::PublishedDoor, SetName::PublishedShut]),
    (DoorName::Leaving, [SetName::LeavingDoor, SetName::LeavingShut]),
    (DoorName::Dns, [SetName::DnsDoor, SetName::DnsShut]),
    (DoorName::Dns, [SetName::BridgeDnsDoor, SetName::BridgeDnsShut]),
];

/// The sets of [`elements`] that hold ranges: a change makes them anew.
const RANGES: [SetName; 3] = [SetName::Peers, SetName::Peers6, SetName::PeerPorts];

/// The same doors in the one form that the kernel's elements give back: no door that is off, and the fewest blocks.
pub(super) fn canonical(doors: &Doors) -> Doors {
    let modes = doors.modes.iter().filter(|(_, mode)| **mode != DoorMode::Off);
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in &doors.peers {
        match peer {
            IpNet::V4(net) => v4.push(net.trunc()),
            IpNet::V6(net) => v6.push(net.trunc()),
        }
    }
    let v4 = Ipv4Net::aggregate(&v4).into_iter().map(IpNet::V4);
    let v6 = Ipv6Net::aggregate(&v6).into_iter().map(IpNet::V6);
    let peers: BTreeSet<IpNet> = v4.chain(v6).collect();
    let uids: BTreeSet<u32> = doors.local_uids.iter().copied().collect();
    Doors {
        modes: modes.map(|(name, mode)| (*name, *mode)).collect(),
        peers: peers.into_iter().collect(),
        local_uids: uids.into_iter().collect(),
        published_ports: doors.published_ports.clone(),
    }
}

/// The elements of doors in their canonical form.
pub(super) fn elements(doors: &Doors) -> Vec<Element> {
    let mut elements = Vec::new();
    for (name, [looked_at, shut]) in SETS {
        let sets = match doors.mode(name) {
            DoorMode::Enforce => &[looked_at, shut][..],
            DoorMode::Audit => &[looked_at],
            DoorMode::Off => &[],
        };
        for set in sets {
            elements.extend(switches(*set).into_iter().map(|key| Element::key(*set, key)));
        }
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for peer in &doors.peers {
        match peer {
            IpNet::V4(net) => v4.push((net.network().to_bits().into(), net.broadcast().to_bits().into())),
            IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
        }
    }
    let ports = &doors.published_ports;
    elements.extend(range_elements(SetName::Peers, v4));
    elements.extend(range_elements(SetName::Peers6, v6));
    elements
        .extend(range_elements(SetName::PeerPorts, vec![((*ports.start()).into(), (*ports.end()).into())]));
    let uid = |uid: &u32| Element::key(SetName::LocalUids, Value::only(&uid.to_ne_bytes()));
    elements.extend(doors.local_uids.iter().map(uid));
    elements
}

/// What a set of a door's has while it is looked at, or shut.
fn switches(set: SetName) -> Vec<Value> {
    match set {
        SetName::PublishedDoor | SetName::PublishedShut | SetName::LeavingDoor | SetName::LeavingShut => {
            [Protocol::Tcp, Protocol::Udp].map(|protocol| Value::only(&[protocol.number()])).to_vec()
        }
        SetName::NetworksDoor | SetName::NetworksShut | SetName::DnsDoor | SetName::DnsShut => {
            FAMILIES.map(|family| Value::only(&[family])).to_vec()
        }
        _ => vec![Value::only(&ETHERNET.to_ne_bytes())],
    }
}

/// Whether a set is made anew when it changes.
pub(super) fn is_of_ranges(set: SetName) -> bool {
    RANGES.contains(&set)
}

/// First and last of each block, in order, as elements: neighbours become one range.
pub(super) fn range_elements(set: SetName, blocks: Vec<(u128, u128)>) -> Vec<Element> {
    let mut ranges: Vec<(u128, u128)> = Vec::new();
    for (first, last) in blocks {
        match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => ranges.push((first, last)),
        }
    }
    let bytes = bytes_of(set);
    let key = |number: u128| Value::only(&number.to_be_bytes()[16 - bytes..]);
    // What reaches to the last of all has no end.
    let most = u128::MAX >> (128 - 8 * bytes);
    let mut elements = Vec::new();
    for (first, last) in ranges {
        elements.push(Element::key(set, key(first)));
        if last < most {
            elements.push(Element { end: true, ..Element::key(set, key(last + 1)) });
        }
    }
    elements
}

/// Bytes of a key in a set of ranges.
fn bytes_of(set: SetName) -> usize {
    match set {
        SetName::PeerPorts => 2,
        SetName::Peers6 => 16,
        _ => 4,
    }
}

/// The ends of ranges, by set, as they are found.
#[derive(Debug, Default)]
pub(super) struct FoundRanges(HashMap<SetName, BTreeSet<(u128, bool)>>);

impl FoundRanges {
    /// Takes one.
    pub(super) fn take(&mut self, set: SetName, element: RawElement<'_>) -> Option<()> {
        let mut bytes = [0; 16];
        bytes.get_mut(16 - bytes_of(set)..)?.copy_from_slice(element.key.get(..bytes_of(set))?);
        // Of two at the same place the end of the lower range comes first.
        self.0.entry(set).or_default().insert((u128::from_be_bytes(bytes), !element.end));
        Some(())
    }

    /// First and last of each range.
    pub(super) fn ranges(&self, set: SetName) -> Vec<(u128, u128)> {
        let most = u128::MAX >> (128 - 8 * bytes_of(set));
        let (mut ranges, mut open) = (Vec::new(), None);
        for (at, begins) in self.0.get(&set).into_iter().flatten() {
            match (begins, open) {
                (true, None) => open = Some(*at),
                (false, Some(first)) if *at > first => {
                    ranges.push((first, at - 1));
                    open = None;
                }
                // Not ours.
                _ => {}
            }
        }
        ranges.extend(open.map(|first| (first, most)));
        ranges
    }
}

/// What was found of the doors.
#[derive(Debug, Default)]
pub(super) struct FoundDoors {
    switches: BTreeMap<SetName, usize>,
    uids: BTreeSet<u32>,
}

impl FoundDoors {
    /// Takes an element of one of the switches' sets.
    pub(super) fn switch(&mut self, set: SetName) {
        *self.switches.entry(set).or_default() += 1;
    }

    /// Takes a uid.
    pub(super) fn uid(&mut self, key: &mut Parts<'_>) -> Option<()> {
        self.uids.insert(key.number()?);
        Some(())
    }

    /// The doors, if there are any.
    pub(super) fn read(self, ranges: &FoundRanges) -> Option<Doors> {
        let ports = ranges.ranges(SetName::PeerPorts).first().copied()?;
        let published_ports: RangeInclusive<u16> = ports.0.try_into().ok()?..=ports.1.try_into().ok()?;
        let has = |set| self.switches.get(&set).copied().unwrap_or(0) == switches(set).len();
        let mode = |(name, [looked_at, shut]): (DoorName, [SetName; 2])| match (has(looked_at), has(shut)) {
            (true, true) => Some((name, DoorMode::Enforce)),
            (true, false) => Some((name, DoorMode::Audit)),
            (false, _) => None,
        };
        let v4 = ranges.ranges(SetName::Peers).into_iter().flat_map(|(first, last)| {
            let ends = [first, last].map(|end| Ipv4Addr::from_bits(end as u32));
            Ipv4Subnets::new(ends[0], ends[1], 0).map(IpNet::V4)
        });
        let v6 = ranges.ranges(SetName::Peers6).into_iter().flat_map(|(first, last)| {
            Ipv6Subnets::new(Ipv6Addr::from_bits(first), Ipv6Addr::from_bits(last), 0).map(IpNet::V6)
        });
        Some(Doors {
            modes: SETS.into_iter().filter_map(mode).collect(),
            peers: v4.chain(v6).collect(),
            local_uids: self.uids.into_iter().collect(),
            published_ports,
        })
    }
}
