//! A flow, as its worker holds it: how it begins, moves from an endpoint to the next, and ends.

use std::{os::fd::OwnedFd, sync::Arc, time::Instant};

use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
};
use tracing::warn;

use super::{accept::may_use, datagrams::is_fault, event_loop::Worker, relay::tell, token::Token};
use crate::{
    balance::Tried,
    flows::Peers,
    limits::Permit,
    service::{InUse, LiveEndpoint, Membership, Pool},
    socket::datagrams_towards,
    watch::ConnectionInfo,
};

/// One flow: its socket is connected to an endpoint, so that the kernel tells its answers from others', and the
/// errors that its datagrams meet come back.
#[derive(Debug)]
pub(super) struct Flow {
    id: u64,
    started: Instant,
    pub(super) service: Membership,
    pub(super) endpoint: InUse,
    pub(super) socket: OwnedFd,
    /// Endpoints that could not be reached since one last answered.
    pub(super) tried: Tried,
    answered: bool,
    pub(super) bytes_to_endpoint: u64,
    pub(super) bytes_to_client: u64,
    _permit: Permit,
}

impl Flow {
    /// Its endpoint is alive.
    pub(super) fn has_answered(&mut self) {
        if !self.answered {
            self.answered = true;
            self.endpoint.connected();
            self.tried.clear();
        }
    }

    /// For people.
    pub(super) fn info(&self, peers: Peers, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id: self.id,
            listener: self.service.id.clone(),
            service: self.service.name.clone(),
            client: peers.client,
            endpoint: Some(self.endpoint.address()),
            age: now.saturating_duration_since(self.started),
            bytes_to_endpoint: self.bytes_to_endpoint,
            bytes_to_client: self.bytes_to_client,
        }
    }
}

impl Worker {
    /// Begins a flow, if its client may use the service and there is somewhere for it to go.
    pub(super) fn open(&mut self, peers: Peers, now: Instant) -> Option<u32> {
        let service = self.datagrams.sockets.get(peers.listener as usize)?.service.clone();
        let client = *peers.client.ip();
        if !may_use(&service, client) {
            service.counters.refused.increment();
            return None;
        }
        service.counters.accepted.increment();
        if let Some(victim) = self.datagrams.flows.in_the_way_of(client) {
            self.end_flow(victim, "crowded out");
        }
        let pool = service.targets.load().pool(None).clone();
        let mut tried = Tried::default();
        let begun = self.descriptor().ok_or(Errno::MFILE).and_then(|permit| {
            let next = next_socket(&pool, &mut tried, now)?;
            Ok(next.map(|(socket, endpoint)| (socket, endpoint, permit)))
        });
        let (socket, endpoint, permit) = match begun {
            Ok(Some(begun)) => begun,
            Ok(None) => {
                service.counters.failed.increment();
                return None;
            }
            Err(errno) => {
                service.counters.failed.increment();
                self.short_of_something(&service.id, errno, now);
                return None;
            }
        };
        let id = self.next_id;
        self.next_id += self.id_step;
        let index = self.datagrams.flows.insert(
            peers,
            now,
            Flow {
                id,
                started: now,
                service: Membership::new(&service),
                endpoint: InUse::new(endpoint),
                socket,
                tried,
                answered: false,
                bytes_to_endpoint: 0,
                bytes_to_client: 0,
                _permit: permit,
            },
        );
        self.watch_flow(index).then_some(index)
    }

    /// The endpoint of a flow can't be reached: it goes to the next. When all have been tried it stays, and begins anew.
    pub(super) fn move_on(&mut self, index: u32, errno: Errno, now: Instant) {
        let Some((_, flow)) = self.datagrams.flows.get_mut(index) else { return };
        let pool = flow.service.targets.load().pool(None).clone();
        if let Some(member) = pool.position(flow.endpoint.endpoint()) {
            pool.connect_failed(member, errno, now);
            flow.tried.insert(member);
        }
        match next_socket(&pool, &mut flow.tried, now) {
            Ok(Some((socket, endpoint))) => {
                flow.service.counters.retried.increment();
                // The former socket closes, and is watched no more.
                flow.socket = socket;
                flow.endpoint = InUse::new(endpoint);
                flow.answered = false;
                self.watch_flow(index);
            }
            Ok(None) => flow.tried.clear(),
            Err(errno) => {
                let listener = flow.service.id.clone();
                self.short_of_something(&listener, errno, now);
            }
        }
    }

    /// Whether it can be watched; else it ends.
    fn watch_flow(&mut self, index: u32) -> bool {
        let Some((_, flow)) = self.datagrams.flows.get_mut(index) else { return false };
        let added = epoll::add(&self.epoll, &flow.socket, Token::Flow(index).encode(), EventFlags::IN);
        if let Err(error) = &added {
            warn!(%error, "can't watch a flow: raise fs.epoll.max_user_watches");
            self.end_flow(index, "out of watches");
        }
        added.is_ok()
    }

    /// A descriptor for one more flow, if need be that of the flow which is missed the least.
    fn descriptor(&mut self) -> Option<Permit> {
        self.shared.descriptors.lend(1).or_else(|| {
            let victim = self.datagrams.flows.dispensable()?;
            self.end_flow(victim, "crowded out");
            self.shared.descriptors.lend(1)
        })
    }

    fn short_of_something(&mut self, listener: &steppe_model::ResourceId, errno: Errno, now: Instant) {
        if self.host_warning.due(now) {
            let error = std::io::Error::from(errno);
            warn!(%listener, %error, "can't open a socket for a flow: this host is short of something");
        }
    }

    /// Ends a flow, and tells.
    pub(super) fn end_flow(&mut self, index: u32, how: &'static str) {
        if let Some((peers, flow)) = self.datagrams.flows.remove(index) {
            tell(&self.shared.ends, || flow.info(peers, Instant::now()), how);
        }
    }

    /// Ends all flows that are `doomed`.
    pub(super) fn end_flows(&mut self, how: &'static str, doomed: impl Fn(Peers, &Flow) -> bool) {
        let flows = self.datagrams.flows.iter().filter(|(_, peers, flow)| doomed(*peers, flow));
        let indexes: Vec<_> = flows.map(|(index, ..)| index).collect();
        indexes.into_iter().for_each(|index| self.end_flow(index, how));
    }

    /// Ends the flows that were idle for too long.
    pub(super) fn end_idle_flows(&mut self) {
        if self.datagrams.flows.next_end().is_none() {
            return;
        }
        let now = Instant::now();
        while let Some(index) = self.datagrams.flows.overdue(now) {
            self.end_flow(index, "idle");
        }
    }
}

/// A socket towards the next endpoint in turn that was not tried, if there is one.
///
/// # Errors
/// What this host is short of.
fn next_socket(
    pool: &Pool,
    tried: &mut Tried,
    now: Instant,
) -> Result<Option<(OwnedFd, Arc<LiveEndpoint>)>, Errno> {
    while let Some(member) = pool.pick(tried) {
        let endpoint = pool.endpoint(member);
        match datagrams_towards(endpoint.address) {
            Ok(socket) => return Ok(Some((socket, endpoint.clone()))),
            Err(errno) if is_fault(errno) => {
                pool.connect_failed(member, errno, now);
                tried.insert(member);
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}
