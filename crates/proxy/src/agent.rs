//! Desired state from control, put in force.

mod table;

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use arc_swap::ArcSwap;
use steppe_api::sync::{Agent, Change, Rejection};
use steppe_model::{Client, Listener, Protocol, Resource, ResourceId};
use tracing::info;

pub(crate) use table::{Entry, Table};

use crate::{
    ProxyError,
    limits::Permit,
    service::{MAX_ENDPOINTS, Service, Targets},
    socket::{datagram_sockets, listen_sockets},
    worker::{Command, ListenKey, Shared, Workers},
};

/// The table, seen by the agent and by those who answer questions. Never locked across an await, nor by a worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedTable(Arc<Mutex<Table>>);

impl SharedTable {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing panics between two steps that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the ejections that are over.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        for entry in self.lock().entries() {
            entry.service.targets.load().pools().for_each(|pool| pool.sweep(now));
        }
    }
}

/// Makes desired state true.
#[derive(Debug)]
pub(crate) struct ProxyAgent {
    table: SharedTable,
    workers: Workers,
    shared: Arc<Shared>,
    next_key: u64,
}

/// What a batch of changes has still to do.
#[derive(Debug, Default)]
struct Batch {
    /// Listeners whose clients changed.
    changed: HashSet<ResourceId>,
    /// Clients that were removed.
    removed: HashSet<(ResourceId, Ipv4Addr)>,
    /// Addresses whose sockets the workers were told to close, and may not have yet.
    closing: HashSet<SocketAddrV4>,
}

#[tonic::async_trait]
impl Agent for ProxyAgent {
    fn inventory(&self) -> Vec<Resource> {
        self.table.lock().resources()
    }

    async fn apply(&mut self, changes: Vec<Change>) -> Vec<Rejection> {
        let mut batch = Batch::default();
        let mut rejections = Vec::new();
        for change in changes {
            let id = change.id();
            if wants_closing_address(&change, &batch) {
                self.workers.settle().await;
                batch.closing.clear();
            }
            if let Err(reason) = self.take(change, &mut batch) {
                rejections.push(Rejection { id, reason });
            }
        }
        self.finish(batch);
        self.workers.settle().await;
        rejections
    }
}

fn wants_closing_address(change: &Change, batch: &Batch) -> bool {
    matches!(change, Change::Upsert(Resource::Listener(listener)) if batch.closing.contains(&listener.address))
}

impl ProxyAgent {
    pub(crate) fn new(table: SharedTable, workers: Workers, shared: Arc<Shared>) -> Self {
        Self { table, workers, shared, next_key: 0 }
    }

    fn take(&mut self, change: Change, batch: &mut Batch) -> Result<(), String> {
        match change {
            Change::Upsert(Resource::Listener(listener)) => self.upsert_listener(listener, batch),
            Change::Upsert(Resource::Client(client)) => {
                self.upsert_client(client, batch);
                Ok(())
            }
            Change::Upsert(_) => {
                Err("the proxy takes listeners and clients; this is for another agent".into())
            }
            Change::Remove(id) => {
                self.remove(&id, batch);
                Ok(())
            }
        }
    }

    fn upsert_listener(&mut self, listener: Listener, batch: &mut Batch) -> Result<(), String> {
        check(&listener)?;
        let table = self.table.clone();
        let mut table = table.lock();
        if table.stopping {
            return Err("the proxy is stopping and takes no listeners; its successor will".into());
        }
        let (id, protocol) = (listener.id(), listener.key.port.protocol);
        if let Some(owner) = table.owner(listener.address).filter(|owner| **owner != id) {
            let taken = ProxyError::AddressTaken { address: listener.address, owner: owner.to_string() };
            return Err(taken.to_string());
        }
        match table.entry_mut(&id) {
            Some(entry) if entry.listener == listener => Ok(()),
            Some(entry) if entry.listener.address == listener.address => {
                entry.change_targets(listener);
                if protocol == Protocol::Udp {
                    let key = entry.key;
                    self.tell_all(|| Command::Reroute(key));
                }
                Ok(())
            }
            Some(entry) => {
                let sockets = self.bind(&listener).map_err(|error| error.to_string())?;
                let (old_key, old_address) = (entry.key, entry.listener.address);
                entry.change_targets(listener);
                entry.key = self.listen(&entry.service, protocol, sockets);
                self.unlisten(old_key);
                batch.closing.insert(old_address);
                info!(listener = %id, from = %old_address, to = %entry.listener.address, "listener moved");
                table.index(&id, Some(old_address));
                Ok(())
            }
            None => {
                let sockets = self.bind(&listener).map_err(|error| error.to_string())?;
                let mut live = Vec::new();
                let targets = Targets::new(&listener, &Targets::default(), &mut live);
                let service = Arc::new(Service {
                    id: id.clone(),
                    name: listener.key.service.name.clone(),
                    targets: ArcSwap::from_pointee(targets),
                    clients: ArcSwap::from_pointee(table.clients_of(&id)),
                    counters: Default::default(),
                });
                let key = self.listen(&service, protocol, sockets);
                info!(listener = %id, address = %listener.address, endpoints = listener.endpoints.len(), "listening");
                table.insert(Entry { listener, service, key, live });
                Ok(())
            }
        }
    }

    fn upsert_client(&mut self, client: Client, batch: &mut Batch) {
        batch.changed.insert(client.listener.clone());
        self.table.lock().insert_client(client);
    }

    /// An id that nobody knows is no error.
    fn remove(&mut self, id: &ResourceId, batch: &mut Batch) {
        let table = self.table.clone();
        let mut table = table.lock();
        if let Some(entry) = table.remove(id) {
            self.unlisten(entry.key);
            batch.closing.insert(entry.listener.address);
            info!(listener = %id, address = %entry.listener.address, "listener closed; its connections go on");
        } else if let Some(client) = table.remove_client(id) {
            batch.changed.insert(client.listener.clone());
            batch.removed.insert((client.listener, client.ip));
        }
    }

    /// Publishes who may use what, and then cuts those who no longer may: whoever a worker lets in before it obeys is there
    /// to be cut, and whoever comes later finds the new rules.
    fn finish(&self, mut batch: Batch) {
        let table = self.table.lock();
        for id in &batch.changed {
            if let Some(entry) = table.entry(id) {
                entry.service.clients.store(Arc::new(table.clients_of(id)));
            }
        }
        batch.removed.retain(|(listener, ip)| !table.is_client(listener, *ip));
        if !batch.removed.is_empty() {
            let removed = Arc::new(batch.removed);
            self.tell_all(|| Command::Cut(removed.clone()));
        }
    }

    /// A listening socket for each worker, and the permit to have it.
    fn bind(&self, listener: &Listener) -> Result<Vec<(std::os::fd::OwnedFd, Permit)>, ProxyError> {
        let descriptors = &self.shared.descriptors;
        let workers = self.workers.count();
        let permits: Option<Vec<_>> = (0..workers).map(|_| descriptors.lend(1)).collect();
        let permits = permits.ok_or(ProxyError::Descriptors { limit: descriptors.limit() })?;
        let address = listener.address;
        let sockets = match listener.key.port.protocol {
            Protocol::Tcp => listen_sockets(address, workers),
            Protocol::Udp => datagram_sockets(address, workers),
        };
        let sockets = sockets.map_err(|errno| ProxyError::listen(address, errno))?;
        Ok(sockets.into_iter().zip(permits).collect())
    }

    fn listen(
        &mut self,
        service: &Arc<Service>,
        protocol: Protocol,
        sockets: Vec<(std::os::fd::OwnedFd, Permit)>,
    ) -> ListenKey {
        let key = ListenKey(self.next_key);
        self.next_key += 1;
        for (worker, (socket, permit)) in sockets.into_iter().enumerate() {
            let service = service.clone();
            let command = match protocol {
                Protocol::Tcp => Command::Listen { key, socket, permit, service },
                Protocol::Udp => Command::Hear { key, socket, permit, service },
            };
            self.workers.tell(worker, command);
        }
        key
    }

    fn unlisten(&self, key: ListenKey) {
        self.tell_all(|| Command::Unlisten(key));
    }

    fn tell_all(&self, command: impl Fn() -> Command) {
        (0..self.workers.count()).for_each(|worker| self.workers.tell(worker, command()));
    }
}

fn check(listener: &Listener) -> Result<(), String> {
    if listener.key.port.protocol == Protocol::Udp && listener.proxy_protocol {
        return Err("proxy_protocol: it is for TCP, whose stream it heads; datagrams go as they came".into());
    }
    let pools = listener.routes.iter().map(|route| &route.endpoints).chain([&listener.endpoints]);
    match pools.map(Vec::len).max() {
        Some(most) if most > MAX_ENDPOINTS => {
            Err(format!("endpoints: there are {most}, and at most {MAX_ENDPOINTS} can be balanced"))
        }
        _ => Ok(()),
    }
}
