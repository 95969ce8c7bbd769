//! UDP has no connections, so whose answer a datagram is must be remembered: a *flow* is what one address of a client sends to
//! one listener, and what comes back. Pure: time is told.
//!
//! There are never more flows than a table was made for. A flow ends when nothing was sent either way for a while. When the table is
//! full, whoever has the most gives the one that was idle the longest, so that who opens flows without end displaces his
//! own, and nobody else's.

mod order;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use slab::Slab;

use order::{Links, Order};

/// One client may have this part of a table. Who has more to say opens flows at the cost of his own: without a bound one client
/// alone would keep every socket that the table may have.
const SHARE: usize = 4;

/// Whose flow it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Peers {
    /// The listener, by its index with the worker.
    pub(crate) listener: u32,
    /// Where the client sends from.
    pub(crate) client: SocketAddrV4,
}

/// Most flows of a table, and of one client in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    flows: usize,
    per_client: usize,
}

impl Limits {
    pub(crate) fn new(flows: usize) -> Self {
        Self { flows: flows.max(1), per_client: flows.div_ceil(SHARE).max(1) }
    }
}

/// Flows, each with what the shell keeps of it.
#[derive(Debug)]
pub(crate) struct Flows<T> {
    limits: Limits,
    idle: Duration,
    entries: Slab<Entry<T>>,
    by_peers: HashMap<Peers, u32>,
    /// All, the one that was idle the longest first.
    order: Order,
    clients: HashMap<Ipv4Addr, Client>,
    /// The clients by how many flows they have.
    sizes: BTreeSet<(usize, Ipv4Addr)>,
}

#[derive(Debug)]
struct Entry<T> {
    peers: Peers,
    /// When something was last sent, either way.
    used: Instant,
    in_all: Links,
    in_clients: Links,
    flow: T,
}

#[derive(Debug, Default)]
struct Client {
    count: usize,
    /// Its flows, the one that was idle the longest first.
    order: Order,
}

impl<T> Flows<T> {
    /// An empty table, whose flows end when they were idle for `idle`.
    pub(crate) fn new(limits: Limits, idle: Duration) -> Self {
        Self {
            limits,
            idle,
            entries: Slab::new(),
            by_peers: HashMap::new(),
            order: Order::default(),
            clients: HashMap::new(),
            sizes: BTreeSet::new(),
        }
    }

    /// The flow between these.
    pub(crate) fn find(&self, peers: &Peers) -> Option<u32> {
        self.by_peers.get(peers).copied()
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<(Peers, &mut T)> {
        self.entries.get_mut(index as usize).map(|entry| (entry.peers, &mut entry.flow))
    }

    /// Something was sent: it is idle from now on.
    pub(crate) fn touch(&mut self, index: u32, now: Instant) {
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        entry.used = now;
        let client = *entry.peers.client.ip();
        self.order.renew(index, &mut self.entries, |entry| &mut entry.in_all);
        if let Some(client) = self.clients.get_mut(&client) {
            client.order.renew(index, &mut self.entries, |entry| &mut entry.in_clients);
        }
    }

    /// The flow that must go before this client may have one more, if one must.
    pub(crate) fn in_the_way_of(&self, client: Ipv4Addr) -> Option<u32> {
        match self.clients.get(&client) {
            Some(own) if own.count >= self.limits.per_client => own.order.first(),
            _ if self.entries.len() >= self.limits.flows => self.dispensable(),
            _ => None,
        }
    }

    /// The flow that is missed the least.
    pub(crate) fn dispensable(&self) -> Option<u32> {
        let (_, client) = self.sizes.last()?;
        self.clients.get(client).and_then(|client| client.order.first())
    }

    /// Adds a flow between peers that have none. There must be room, see [`Flows::in_the_way_of`].
    pub(crate) fn insert(&mut self, peers: Peers, now: Instant, flow: T) -> u32 {
        let entry = Entry { peers, used: now, in_all: Links::NONE, in_clients: Links::NONE, flow };
        // The limit is far below what 32 bits can number.
        let index = self.entries.insert(entry) as u32;
        self.by_peers.insert(peers, index);
        self.order.push(index, &mut self.entries, |entry| &mut entry.in_all);
        let ip = *peers.client.ip();
        let client = self.clients.entry(ip).or_default();
        client.order.push(index, &mut self.entries, |entry| &mut entry.in_clients);
        self.sizes.remove(&(client.count, ip));
        client.count += 1;
        self.sizes.insert((client.count, ip));
        index
    }

    pub(crate) fn remove(&mut self, index: u32) -> Option<(Peers, T)> {
        let peers = self.entries.get(index as usize)?.peers;
        self.order.remove(index, &mut self.entries, |entry| &mut entry.in_all);
        let ip = *peers.client.ip();
        if let Some(client) = self.clients.get_mut(&ip) {
            client.order.remove(index, &mut self.entries, |entry| &mut entry.in_clients);
            self.sizes.remove(&(client.count, ip));
            client.count -= 1;
            if client.count == 0 {
                self.clients.remove(&ip);
            } else {
                self.sizes.insert((client.count, ip));
            }
        }
        self.by_peers.remove(&peers);
        Some((peers, self.entries.remove(index as usize).flow))
    }

    /// When the next flow has been idle for too long, if nothing is sent.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        let first = self.entries.get(self.order.first()? as usize)?;
        Some(first.used + self.idle)
    }

    /// A flow that has been idle for too long.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u32> {
        self.order.first().filter(|_| self.next_end().is_some_and(|end| end <= now))
    }

    pub(crate) fn each(&mut self, mut seen: impl FnMut(Peers, &mut T)) {
        self.entries.iter_mut().for_each(|(_, entry)| seen(entry.peers, &mut entry.flow));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Peers, &T)> {
        self.entries.iter().map(|(index, entry)| (index as u32, entry.peers, &entry.flow))
    }
}
