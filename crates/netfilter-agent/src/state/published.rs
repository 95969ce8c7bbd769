//! Published ports: their elements and back, and those that stay closed for a while.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use steppe_model::{Expose, Protocol, PublishedPort, WorkloadId};

use super::{
    Edit, State,
    adopt::{ID_BYTES, NOBODY, fits},
};
use crate::ruleset::{CLOSED_FOR, Element, Parts, SetName, Value};

/// A port of this host.
pub(crate) type HostPort = (Protocol, u16);

/// A port of this host at one of its addresses, or at all of them.
pub(crate) type Place = (Option<Ipv4Addr>, HostPort);

/// How each kind of exposure is written in a comment.
const EXPOSURES: [(Expose, &str); 4] = [
    (Expose::Proxies, "proxies"),
    (Expose::Host, "host"),
    (Expose::Cluster, "cluster"),
    (Expose::Public, "public"),
];

/// Its key, in every set of ports that says nothing of addresses.
pub(crate) fn key((protocol, port): HostPort) -> Value {
    Value::EMPTY.protocol(protocol).port(port)
}

/// Its key in one of two sets: the first is that of ports at every address.
fn key_at((address, (protocol, port)): Place, [everywhere, at]: [SetName; 2]) -> (SetName, Value) {
    match address {
        None => (everywhere, key((protocol, port))),
        Some(address) => (at, Value::EMPTY.ip(address).protocol(protocol).port(port)),
    }
}

/// Reads a key back.
pub(crate) fn read_key(key: &mut Parts<'_>) -> Option<HostPort> {
    Some((key.protocol()?, key.port()?))
}

/// The same of a key with an address.
pub(crate) fn read_key_at(key: &mut Parts<'_>) -> Option<Place> {
    Some((Some(key.ip()?), read_key(key)?))
}

pub(super) fn port_of(published: &PublishedPort) -> HostPort {
    (published.protocol, published.port)
}

/// Where it is published.
pub(super) fn places(published: &PublishedPort) -> BTreeSet<Place> {
    let port = port_of(published);
    let everywhere = published.addresses.is_empty().then_some((None, port));
    everywhere.into_iter().chain(published.addresses.iter().map(|at| (Some(*at), port))).collect()
}

/// The elements.
pub(super) fn elements(published: &PublishedPort) -> Vec<Element> {
    let comment = comment(published);
    let places = places(published).into_iter().map(|place| {
        let (set, key) = key_at(place, [SetName::Published, SetName::PublishedAt]);
        Element { comment: comment.clone(), ..Element::key(set, key) }
    });
    let mut elements: Vec<_> = places.collect();
    let key = key(port_of(published));
    elements.push(Element::key(SetName::Tried, key));
    if published.expose >= Expose::Host {
        elements.push(Element::key(SetName::Exposed, key));
    }
    if published.expose == Expose::Public {
        elements.push(Element::key(SetName::Public, key));
    }
    elements
}

pub(super) fn closed(place: Place) -> Element {
    let (set, key) = key_at(place, [SetName::Closed, SetName::ClosedAt]);
    Element::key(set, key)
}

/// 7 + 90 + 63 + 64 bytes and three blanks, 227 in all.
fn comment(published: &PublishedPort) -> String {
    let expose =
        EXPOSURES.iter().find(|(expose, _)| *expose == published.expose).map_or("", |(_, word)| word);
    let workload = published.workload.as_ref().map_or("", WorkloadId::as_str);
    let user = published.user.as_ref().map_or(NOBODY, |user| user.as_str());
    let name = published.name.replace(|c: char| c.is_control(), "?");
    format!("{expose} {workload} {user} {name}")
}

/// Adds what an element says to what others of its port said.
pub(super) fn take(
    found: &mut BTreeMap<HostPort, PublishedPort>,
    (address, port): Place,
    comment: &str,
) -> Option<()> {
    match found.entry(port) {
        Entry::Vacant(vacant) => {
            let read = read(port, comment)?;
            vacant.insert(PublishedPort { addresses: address.into_iter().collect(), ..read });
        }
        // What contradicts it is left out, and shows in the count.
        Entry::Occupied(mut known) if !known.get().addresses.is_empty() => {
            known.get_mut().addresses.extend(address);
        }
        Entry::Occupied(_) => {}
    }
    Some(())
}

/// Reads a comment back.
fn read((protocol, port): HostPort, comment: &str) -> Option<PublishedPort> {
    let mut parts = comment.splitn(4, ' ');
    let word = parts.next()?;
    let (expose, _) = EXPOSURES.into_iter().find(|(_, expose)| *expose == word)?;
    let workload = Some(parts.next()?).filter(|id| !id.is_empty()).map(WorkloadId::new);
    let user = match parts.next()? {
        NOBODY => None,
        user => Some(user.parse().ok()?),
    };
    let (name, addresses) = (parts.next()?.into(), BTreeSet::new());
    Some(PublishedPort { protocol, port, addresses, workload, expose, name, user })
}

impl Edit {
    /// The places of published ports that are closed from then on, and those that are open.
    pub(super) fn closes_and_opens(&self) -> (BTreeSet<Place>, BTreeSet<Place>) {
        let (old, new) = match self {
            Self::AddPublished(new) => (BTreeSet::new(), places(new)),
            Self::RemovePublished(old) => (places(old), BTreeSet::new()),
            Self::ChangePublished(old, new) => (places(old), places(new)),
            _ => Default::default(),
        };
        (&old - &new, &new - &old)
    }
}

impl State {
    pub(super) fn plan_published(&self, new: &PublishedPort) -> Result<Vec<Edit>, String> {
        if let Some(id) = &new.workload {
            if !fits(id.as_str()) {
                return Err(format!("workload: 1 to {ID_BYTES} bytes without blanks are expected"));
            }
            if !self.workloads.contains_key(id) {
                return Err(format!("workload: `{id}` is not in force"));
            }
        }
        Ok(match self.published.get(&port_of(new)) {
            Some(old) if **old == *new => Vec::new(),
            Some(old) => vec![Edit::ChangePublished(old.clone(), Arc::new(new.clone()))],
            None => vec![Edit::AddPublished(Arc::new(new.clone()))],
        })
    }

    pub(super) fn plan_published_removal(&self, port: HostPort) -> Option<Edit> {
        self.published.get(&port).map(|old| Edit::RemovePublished(old.clone()))
    }

    /// The published ports.
    pub(crate) fn published(&self) -> impl Iterator<Item = &PublishedPort> {
        self.published.values().map(|published| &**published)
    }

    /// A published port.
    pub(crate) fn published_at(&self, port: HostPort) -> Option<&PublishedPort> {
        self.published.get(&port).map(|published| &**published)
    }

    pub(super) fn publish(&mut self, new: &Arc<PublishedPort>) {
        let port = port_of(new);
        if let Some(id) = &new.workload {
            self.published_of.entry(id.clone()).or_default().insert(port);
        }
        self.published.insert(port, new.clone());
    }

    pub(super) fn unpublish(&mut self, old: &PublishedPort) {
        let port = port_of(old);
        self.published.remove(&port);
        if let Some(id) = &old.workload
            && let Some(ports) = self.published_of.get_mut(id)
        {
            ports.remove(&port);
            if ports.is_empty() {
                self.published_of.remove(id);
            }
        }
    }
}

/// Ports of containers that are gone, each with the moment from which on anybody may have it. The kernel forgets them by
/// itself: this is for tables that are made anew.
#[derive(Debug, Default)]
pub(crate) struct Closed(HashMap<Place, Instant>);

impl Closed {
    /// These were found closed: since when, nobody knows any more.
    pub(crate) fn found(places: Vec<Place>, now: Instant) -> Self {
        Self(places.into_iter().map(|place| (place, now + CLOSED_FOR)).collect())
    }

    /// These edits are in force.
    pub(crate) fn note(&mut self, edits: &[Edit], now: Instant) {
        for edit in edits {
            let (closed, opened) = edit.closes_and_opens();
            self.0.extend(closed.into_iter().map(|place| (place, now + CLOSED_FOR)));
            opened.iter().for_each(|place| {
                self.0.remove(place);
            });
        }
    }

    /// Those that are closed still.
    pub(crate) fn left(&mut self, now: Instant) -> Vec<Element> {
        self.0.retain(|_, until| *until > now);
        self.0.keys().map(|place| closed(*place)).collect()
    }
}
