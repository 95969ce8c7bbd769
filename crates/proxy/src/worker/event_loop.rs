//! A worker's loop.

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventFlags},
    },
    io::Errno,
};
use slab::Slab;
use tokio::sync::oneshot;

use super::{
    Command, ListenKey, Shared,
    accept::Listening,
    command::Inbox,
    connection::Connection,
    datagrams::Datagrams,
    deadlines::Deadlines,
    flow::Flow,
    seldom::Seldom,
    token::{ConnectionKey, Token},
};
use crate::{
    copy::{BUFFER_BYTES, PIPE_BYTES, Pipes},
    flows::{self, Flows, Peers},
    service::Service,
    watch::ConnectionInfo,
};

/// Events fetched at a time.
const EVENTS: usize = 256;

/// One worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) epoll: OwnedFd,
    inbox: Inbox,
    pub(super) shared: Arc<Shared>,
    pub(super) listeners: Slab<Listening>,
    pub(super) listener_keys: HashMap<ListenKey, usize>,
    pub(super) connections: Slab<Connection>,
    pub(super) buffer: Box<[u8]>,
    pub(super) pipes: Pipes,
    /// Bytes of memory for what slow peers of its connections do not take yet.
    pub(super) kept_bytes: usize,
    pub(super) deadlines: Deadlines,
    /// When connections that have no keepalive yet get it.
    pub(super) keep_alive_at: Option<Instant>,
    /// Connections that have more to do.
    pub(super) again: VecDeque<ConnectionKey>,
    /// Listeners with more to accept.
    pub(super) accept_again: VecDeque<u32>,
    /// Set while there is no descriptor for one more connection: when to look again.
    pub(super) starved_until: Option<Instant>,
    pub(super) starved_warning: Seldom,
    pub(super) host_warning: Seldom,
    pub(super) next_generation: u32,
    pub(super) next_id: u64,
    /// Ids of connections grow by this, so that no two workers give the same.
    pub(super) id_step: u64,
    pub(super) datagrams: Datagrams,
    drained: Option<oneshot::Sender<()>>,
}

impl Worker {
    pub(super) fn new(number: u64, workers: u64, inbox: Inbox, shared: Arc<Shared>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flows = flows::Limits::new(shared.descriptors.flows() / workers as usize);
        let datagrams = Datagrams::new(Flows::new(flows, shared.udp_idle_timeout));
        epoll::add(&epoll, &*inbox.bell, Token::Inbox.encode(), EventFlags::IN | EventFlags::ET)?;
        let pipes = Pipes::new(shared.descriptors.clone(), PIPE_BYTES);
        Ok(Self {
            epoll,
            inbox,
            shared,
            listeners: Slab::new(),
            listener_keys: HashMap::new(),
            connections: Slab::new(),
            buffer: vec![0; BUFFER_BYTES].into(),
            pipes,
            kept_bytes: 0,
            deadlines: Deadlines::default(),
            keep_alive_at: None,
            again: VecDeque::new(),
            accept_again: VecDeque::new(),
            starved_until: None,
            starved_warning: Seldom::default(),
            host_warning: Seldom::default(),
            next_generation: 0,
            next_id: number + 1,
            id_step: workers,
            datagrams,
            drained: None,
        })
    }

    /// Works until the control side is gone.
    pub(super) fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let mut called = false;
            for &Event { flags, data } in &events {
                match Token::decode(data) {
                    Token::Inbox => called = true,
                    Token::Listener(index) => self.accept(index),
                    Token::Datagrams(index) => drop(self.hear_some(index)),
                    Token::Flow(index) => self.answer(index),
                    Token::Connection(key, side) => self.ready(key, side, flags),
                }
            }
            self.go_on();
            self.give_up_overdue();
            self.keep_alive();
            self.end_idle_flows();
            self.accept_more();
            // Last, so that a connection accepted under the old rules is there to be cut.
            if called && !self.obey() {
                return Ok(());
            }
            self.tell_if_drained();
        }
    }

    /// How long there is nothing to do if nothing happens; `None` for ever.
    fn timeout(&mut self) -> Option<Timespec> {
        if !self.again.is_empty() || (self.starved_until.is_none() && !self.accept_again.is_empty()) {
            return Some(Timespec::default());
        }
        let connections = &self.connections;
        let overdue = self.deadlines.next(|deadline| {
            connections
                .get(deadline.connection.index as usize)
                .is_some_and(|connection| connection.awaits(deadline))
        });
        let flows = self.datagrams.flows.next_end();
        let at = [overdue, self.starved_until, self.keep_alive_at, flows].into_iter().flatten().min()?;
        let left = at.saturating_duration_since(Instant::now());
        // Rounded up to what epoll_wait(2) can tell apart, or it would return a moment too early, again and again.
        let left = Duration::from_millis(left.as_millis() as u64 + 1);
        Timespec::try_from(left).ok()
    }

    /// Gives their turn to those that had more to do.
    fn go_on(&mut self) {
        for _ in 0..self.again.len() {
            let Some(key) = self.again.pop_front() else { break };
            if let Some(connection) = self.connection(key) {
                connection.queued = false;
                self.relay(key);
            }
        }
    }

    /// The connection with this key, if it still is.
    pub(super) fn connection(&mut self, key: ConnectionKey) -> Option<&mut Connection> {
        self.connections
            .get_mut(key.index as usize)
            .filter(|connection| connection.generation == key.generation)
    }

    /// Obeys all commands in the inbox. `false`: nobody is left to give any.
    fn obey(&mut self) -> bool {
        // Not empty, and non-blocking: the bell has rung.
        let _ = rustix::io::read(&*self.inbox.bell, &mut [0; 8]);
        loop {
            match self.inbox.commands.try_recv() {
                Ok(command) => self.obey_one(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn obey_one(&mut self, command: Command) {
        match command {
            Command::Listen { key, socket, permit, service } => self.listen(key, socket, permit, service),
            Command::Hear { key, socket, permit, service } => self.hear(key, socket, permit, service),
            Command::Reroute(key) => self.reroute(key),
            Command::Unlisten(key) => {
                self.unlisten(key);
                self.stop_hearing(key);
            }
            Command::Cut(clients) => {
                let revoked = "grant revoked";
                self.cut(revoked, |connection| {
                    clients.contains(&(connection.service.id.clone(), *connection.client.ip()))
                });
                self.end_flows(revoked, |peers, flow| {
                    clients.contains(&(flow.service.id.clone(), *peers.client.ip()))
                });
            }
            Command::CutAll => self.cut("drain timeout", |_| true),
            Command::List { service, limit, reply } => {
                let now = Instant::now();
                let wanted = |of: &Service| service.as_ref().is_none_or(|name| *name == of.name);
                let connections = self.connections.iter().map(|(_, connection)| connection);
                let connections = connections.filter(|connection| wanted(&connection.service));
                let flows = self.datagrams.flows.iter().filter(|(_, _, flow)| wanted(&flow.service));
                let mut all = connections
                    .map(Told::Connection)
                    .chain(flows.map(|(_, peers, flow)| Told::Flow(peers, flow)));
                let told = all.by_ref().take(limit).map(|told| told.info(now)).collect();
                // Whoever asked may have gone.
                let _ = reply.send((told, all.count() as u64));
            }
            Command::Barrier(reply) => {
                let _ = reply.send(());
            }
            Command::Drain(reply) => {
                self.unlisten_all();
                self.stop_hearing_all();
                self.drained = Some(reply);
            }
        }
    }

    fn tell_if_drained(&mut self) {
        if self.connections.is_empty()
            && let Some(reply) = self.drained.take()
        {
            let _ = reply.send(());
        }
    }
}

/// What people are told of.
enum Told<'a> {
    Connection(&'a Connection),
    Flow(Peers, &'a Flow),
}

impl Told<'_> {
    fn info(self, now: Instant) -> ConnectionInfo {
        match self {
            Self::Connection(connection) => connection.info(now),
            Self::Flow(peers, flow) => flow.info(peers, now),
        }
    }
}
