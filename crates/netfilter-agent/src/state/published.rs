//! Published ports: their elements and back, and those that stay closed for a while.

use std::{collections::HashMap, sync::Arc, time::Instant};

use steppe_model::{Expose, Protocol, PublishedPort, WorkloadId};

use super::{
    Edit, State,
    adopt::{ID_BYTES, NOBODY, fits},
};
use crate::ruleset::{CLOSED_FOR, Element, Parts, SetName, Value};

/// A port of this host.
pub(crate) type HostPort = (Protocol, u16);

/// How each kind of exposure is written in a comment.
const EXPOSURES: [(Expose, &str); 4] = [
    (Expose::Proxies, "proxies"),
    (Expose::Host, "host"),
    (Expose::Cluster, "cluster"),
    (Expose::Public, "public"),
];

/// Its key, in every set of published ports.
pub(crate) fn key((protocol, port): HostPort) -> Value {
    Value::EMPTY.protocol(protocol).port(port)
}

/// Reads a key back.
pub(crate) fn read_key(key: &mut Parts<'_>) -> Option<HostPort> {
    Some((key.protocol()?, key.port()?))
}

pub(super) fn port_of(published: &PublishedPort) -> HostPort {
    (published.protocol, published.port)
}

/// The elements.
pub(super) fn elements(published: &PublishedPort) -> Vec<Element> {
    let key = key(port_of(published));
    let mut elements = vec![Element { comment: comment(published), ..Element::key(SetName::Published, key) }];
    elements.push(Element::key(SetName::Tried, key));
    if published.expose >= Expose::Host {
        elements.push(Element::key(SetName::Exposed, key));
    }
    if published.expose == Expose::Public {
        elements.push(Element::key(SetName::Public, key));
    }
    elements
}

pub(super) fn closed(port: HostPort) -> Element {
    Element::key(SetName::Closed, key(port))
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

/// Reads a comment back.
pub(super) fn read((protocol, port): HostPort, comment: &str) -> Option<PublishedPort> {
    let mut parts = comment.splitn(4, ' ');
    let word = parts.next()?;
    let (expose, _) = EXPOSURES.into_iter().find(|(_, expose)| *expose == word)?;
    let workload = Some(parts.next()?).filter(|id| !id.is_empty()).map(WorkloadId::new);
    let user = match parts.next()? {
        NOBODY => None,
        user => Some(user.parse().ok()?),
    };
    Some(PublishedPort { protocol, port, workload, expose, name: parts.next()?.into(), user })
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
pub(crate) struct Closed(HashMap<HostPort, Instant>);

impl Closed {
    /// These were found closed: since when, nobody knows any more.
    pub(crate) fn found(ports: Vec<HostPort>, now: Instant) -> Self {
        Self(ports.into_iter().map(|port| (port, now + CLOSED_FOR)).collect())
    }

    /// These edits are in force.
    pub(crate) fn note(&mut self, edits: &[Edit], now: Instant) {
        for edit in edits {
            match edit {
                Edit::RemovePublished(published) => {
                    self.0.insert(port_of(published), now + CLOSED_FOR);
                }
                Edit::AddPublished(published) => {
                    self.0.remove(&port_of(published));
                }
                _ => {}
            }
        }
    }

    /// Those that are closed still.
    pub(crate) fn left(&mut self, now: Instant) -> Vec<Element> {
        self.0.retain(|_, until| *until > now);
        self.0.keys().map(|port| closed(*port)).collect()
    }
}
