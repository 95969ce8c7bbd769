//! What is in force.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use steppe_model::{Client, Endpoint, Listener, Resource, ResourceId};

use crate::{
    service::{LiveEndpoint, Service, Targets},
    worker::ListenKey,
};

/// What is in force. Clients can be there before their listener, and of one that has gone they stay until they are
/// removed themselves: its connections still depend on them.
#[derive(Debug, Default)]
pub(crate) struct Table {
    listeners: BTreeMap<ResourceId, Entry>,
    by_address: HashMap<SocketAddrV4, ResourceId>,
    clients: HashMap<ResourceId, Client>,
    by_listener: HashMap<ResourceId, HashSet<Ipv4Addr>>,
    /// The proxy has been told to stop.
    pub(crate) draining: bool,
    /// It has closed its listeners, and takes no more.
    pub(crate) stopping: bool,
}

/// A listener in force.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) listener: Listener,
    pub(crate) service: Arc<Service>,
    /// Its sockets.
    pub(crate) key: ListenKey,
    /// Its endpoints, and those that have left but have connections.
    pub(crate) live: Vec<Arc<LiveEndpoint>>,
}

impl Entry {
    /// Replaces what the listener is. Open connections stay where they are.
    pub(crate) fn change_targets(&mut self, listener: Listener) {
        let targets = Targets::new(&listener, &self.service.targets.load(), &mut self.live);
        self.service.targets.store(Arc::new(targets));
        self.listener = listener;
        let desired = self.desired();
        let kept = self.live.iter().filter(|live| desired.contains(&live.address) || live.in_use());
        self.live = kept.cloned().collect();
    }

    /// Its endpoints, and whether each is on its way out.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (&Arc<LiveEndpoint>, bool)> {
        let desired = self.desired();
        self.live
            .iter()
            .map(move |live| (live, !desired.contains(&live.address)))
            .filter(|(live, leaving)| !leaving || live.in_use())
    }

    fn desired(&self) -> HashSet<SocketAddrV4> {
        let routed = self.listener.routes.iter().flat_map(|route| &route.endpoints);
        let address = |endpoint: &Endpoint| endpoint.address;
        self.listener.endpoints.iter().chain(routed).map(address).collect()
    }
}

impl Table {
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.listeners.values()
    }

    pub(crate) fn entry(&self, id: &ResourceId) -> Option<&Entry> {
        self.listeners.get(id)
    }

    pub(crate) fn entry_mut(&mut self, id: &ResourceId) -> Option<&mut Entry> {
        self.listeners.get_mut(id)
    }

    /// Which listener has an address.
    pub(crate) fn owner(&self, address: SocketAddrV4) -> Option<&ResourceId> {
        self.by_address.get(&address)
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        let id = entry.listener.id();
        self.by_address.insert(entry.listener.address, id.clone());
        self.listeners.insert(id, entry);
    }

    /// Notes that a listener's address is no longer `former`.
    pub(crate) fn index(&mut self, id: &ResourceId, former: Option<SocketAddrV4>) {
        if let Some(former) = former {
            self.by_address.remove(&former);
        }
        if let Some(entry) = self.listeners.get(id) {
            self.by_address.insert(entry.listener.address, id.clone());
        }
    }

    pub(crate) fn remove(&mut self, id: &ResourceId) -> Option<Entry> {
        let entry = self.listeners.remove(id)?;
        self.by_address.remove(&entry.listener.address);
        Some(entry)
    }

    /// Who may use a listener.
    pub(crate) fn clients_of(&self, listener: &ResourceId) -> HashSet<Ipv4Addr> {
        self.by_listener.get(listener).cloned().unwrap_or_default()
    }

    pub(crate) fn is_client(&self, listener: &ResourceId, ip: Ipv4Addr) -> bool {
        self.by_listener.get(listener).is_some_and(|clients| clients.contains(&ip))
    }

    pub(crate) fn insert_client(&mut self, client: Client) {
        self.by_listener.entry(client.listener.clone()).or_default().insert(client.ip);
        self.clients.insert(client.id(), client);
    }

    pub(crate) fn remove_client(&mut self, id: &ResourceId) -> Option<Client> {
        let client = self.clients.remove(id)?;
        if let Some(clients) = self.by_listener.get_mut(&client.listener) {
            clients.remove(&client.ip);
            if clients.is_empty() {
                self.by_listener.remove(&client.listener);
            }
        }
        Some(client)
    }

    /// Everything, listeners before their clients.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let listeners = self.listeners.values().map(|entry| Resource::Listener(entry.listener.clone()));
        listeners.chain(self.clients.values().cloned().map(Resource::Client)).collect()
    }
}
