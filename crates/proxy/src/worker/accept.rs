//! Taking new connections.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, EventFlags},
    io::Errno,
    net::acceptfrom_with,
};
use tracing::{debug, warn};

use super::{
    ListenKey,
    connection::Connection,
    event_loop::Worker,
    token::{ConnectionKey, MAX_INDEX, Side, Token},
};
use crate::{
    limits::Permit,
    proxy_protocol,
    service::{Membership, Service},
    socket::{ACCEPT_FLAGS, BACKLOG, dialled_address, reset},
};

/// Connections taken from one listener before others get their turn.
const TURN: usize = 64;
/// When descriptors have run out: how long until it is looked again, unless a connection of this worker ends before.
const STARVED: Duration = Duration::from_millis(100);
/// What a connection needs: the client's socket and the endpoint's.
const SOCKETS: u32 = 2;
/// Everything there is to know of a socket, each thing once when it changes.
pub(super) const EVERYTHING: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::PRI)
    .union(EventFlags::ET);

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listening {
    socket: OwnedFd,
    service: Arc<Service>,
    /// It waits in the queue of those with more to accept.
    queued: bool,
    _permit: Permit,
}

/// Why accepting stopped.
enum Stop {
    /// Nobody waits.
    Empty,
    /// Others should have their turn.
    Turn,
    /// No descriptor is left.
    Starved,
}

impl Worker {
    pub(super) fn listen(&mut self, key: ListenKey, socket: OwnedFd, permit: Permit, service: Arc<Service>) {
        let listening = Listening { socket, service, queued: false, _permit: permit };
        let index = self.listeners.insert(listening);
        self.listener_keys.insert(key, index);
        let token = Token::Listener(index as u32).encode();
        let socket = &self.listeners[index].socket;
        if let Err(error) = epoll::add(&self.epoll, socket, token, EventFlags::IN | EventFlags::ET) {
            // ENOMEM, or the limit on watches (epoll(7), max_user_watches).
            warn!(listener = %self.listeners[index].service.id, %error, "can't watch a listening socket: raise fs.epoll.max_user_watches");
        }
    }

    pub(super) fn unlisten(&mut self, key: ListenKey) {
        if let Some(index) = self.listener_keys.remove(&key) {
            self.accept_the_last(index);
            self.listeners.remove(index);
        }
    }

    pub(super) fn unlisten_all(&mut self) {
        let keys: Vec<_> = self.listener_keys.keys().copied().collect();
        keys.into_iter().for_each(|key| self.unlisten(key));
    }

    /// Takes the connections that wait at a listener which is about to close: to their clients they are established, and
    /// closing the socket would reset them. Those for which no descriptor is left are.
    fn accept_the_last(&mut self, index: usize) {
        // No more than these can have waited; who comes meanwhile must not keep the listener open.
        for _ in 0..=BACKLOG as usize / TURN {
            if !matches!(self.accept_some(index), Stop::Turn) {
                break;
            }
        }
    }

    /// Takes the connections that wait at a listener, as many as fit in a turn.
    pub(super) fn accept(&mut self, index: u32) {
        match self.accept_some(index as usize) {
            Stop::Empty => {}
            Stop::Turn => self.accept_later(index),
            Stop::Starved => {
                let now = Instant::now();
                if self.starved_warning.due(now) {
                    warn!(
                        limit = self.shared.descriptors.limit(),
                        "out of descriptors: new connections wait; raise the limit (ulimit -n, LimitNOFILE)"
                    );
                }
                self.starved_until = Some(now + STARVED);
                self.accept_later(index);
            }
        }
    }

    fn accept_later(&mut self, index: u32) {
        if let Some(listening) = self.listeners.get_mut(index as usize)
            && !listening.queued
        {
            listening.queued = true;
            self.accept_again.push_back(index);
        }
    }

    /// Goes on with the listeners that have more, unless descriptors have run out.
    pub(super) fn accept_more(&mut self) {
        if let Some(until) = self.starved_until {
            if Instant::now() < until {
                return;
            }
            self.starved_until = None;
        }
        for _ in 0..self.accept_again.len() {
            let Some(index) = self.accept_again.pop_front() else { break };
            if let Some(listening) = self.listeners.get_mut(index as usize) {
                listening.queued = false;
                self.accept(index);
            }
            if self.starved_until.is_some() {
                break;
            }
        }
    }

    fn accept_some(&mut self, index: usize) -> Stop {
        for _ in 0..TURN {
            let Some(listening) = self.listeners.get(index) else { return Stop::Empty };
            let Some(permit) = self.shared.descriptors.lend(SOCKETS) else { return Stop::Starved };
            match acceptfrom_with(&listening.socket, ACCEPT_FLAGS) {
                Ok((socket, address)) => {
                    // The listener is of the IPv4 family, and so is whoever connects to it.
                    let Some(client) = address.and_then(|address| SocketAddrV4::try_from(address).ok())
                    else {
                        continue;
                    };
                    let service = listening.service.clone();
                    self.admit(socket, client, &service, permit);
                }
                Err(Errno::AGAIN) => return Stop::Empty,
                // accept(2): these say that the system, not this connection, is short of something.
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return Stop::Starved,
                // Everything else is the fate of one connection, which is gone.
                Err(_) => {}
            }
        }
        Stop::Turn
    }

    /// Lets a connection in, if its client may use the service and there is somewhere for it to go.
    fn admit(&mut self, socket: OwnedFd, client: SocketAddrV4, service: &Arc<Service>, permit: Permit) {
        service.counters.accepted.increment();
        if !may_use(service, *client.ip()) {
            service.counters.refused.increment();
            debug!(listener = %service.id, %client, "refused: no client of this listener");
            return reset(socket);
        }
        let targets = service.targets.load();
        let (pool, ahead) = if targets.need_dialled() {
            // An error says that the connection is gone already.
            let Ok(dialled) = dialled_address(&socket) else { return };
            let header = targets.proxy_protocol().then(|| proxy_protocol::header(client, dialled));
            (targets.pool(Some(dialled.port())).clone(), header)
        } else {
            (targets.pool(None).clone(), None)
        };
        if self.connections.len() > MAX_INDEX {
            return reset(socket);
        }
        let generation = self.next_generation;
        self.next_generation = generation.wrapping_add(1);
        let id = self.next_id;
        self.next_id += self.id_step;
        let ahead = ahead.as_ref().map_or(&[][..], |header| header);
        let membership = Membership::new(service);
        let connection = Connection::new((id, generation), (socket, client), membership, pool, ahead, permit);
        self.kept_bytes += connection.kept();
        let index = self.connections.insert(connection);
        let key = ConnectionKey { index: index as u32, generation };
        let token = Token::Connection(key, Side::Client).encode();
        if let Err(error) = epoll::add(&self.epoll, &self.connections[index].client_socket, token, EVERYTHING)
        {
            warn!(%error, "can't watch a connection: raise fs.epoll.max_user_watches");
            return self.abort(key, "out of watches");
        }
        self.try_next(key);
    }
}

/// Whether somebody is a client of a service.
pub(super) fn may_use(service: &Service, client: Ipv4Addr) -> bool {
    service.clients.load().contains(&client)
}
