//! What is known of the containers: events and answers go in, facts come out. No I/O.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    convert::{Listed, Network},
    event::Event,
};
use crate::observe::{Attachment, Container, Health, Observation, PublishedPort};

#[cfg(test)]
mod tests;

/// With the value `true`: a container is to be on its user's network.
const ATTACH_LABEL: &str = "steppe.attach";

type ContainerId = Arc<str>;
type NetworkId = Arc<str>;

/// All containers that Docker has, also those that don't run: when one starts its labels are needed at once.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    containers: HashMap<ContainerId, Entry>,
    /// The bridges of the networks seen so far; a network without one has none. An id never gets another bridge.
    bridges: HashMap<NetworkId, Option<Arc<str>>>,
    /// Which of them are users'.
    users: HashSet<NetworkId>,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    labels: BTreeMap<String, String>,
    attachments: BTreeMap<NetworkId, Attachment>,
    published: Vec<PublishedPort>,
    health: Health,
    phase: Phase,
    /// Its process has ended and no start was announced since. Docker says so some 100 ms before its list does.
    ended: bool,
    /// Further names that its author gave it on its networks, and the networks that this is known of.
    aliases: Vec<Arc<str>>,
    aliases_on: BTreeSet<NetworkId>,
    /// The oldest state of the bridge ports that an attachment was asked for with.
    ports_known: u64,
    /// It was told as a fact that has not been taken back.
    told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It has no process.
    Stopped,
    /// It is attached to a network, and its process is about to start.
    Starting,
    /// It has a process.
    Running,
}

/// The questions that a batch of events raises. A container's connection to a network that one of those events tells
/// of outweighs what a list says: Docker may write its list a moment after it has told the event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Networks to look at, for these containers' sake. Ask these first: it is what containers wait for.
    pub(super) inspect: BTreeMap<NetworkId, BTreeSet<ContainerId>>,
    /// Containers to list.
    pub(super) list: BTreeSet<ContainerId>,
    disconnected: BTreeSet<(NetworkId, ContainerId)>,
}

impl Ledger {
    /// Takes an event in; says what can be said without asking Docker (what is gone), and notes what to ask.
    pub(super) fn event(&mut self, event: Event, questions: &mut Questions) -> Option<Observation> {
        match event {
            Event::Created { id, name, labels } => {
                let entry = self.containers.entry(id.clone()).or_insert_with(|| Entry::new(name, labels));
                entry.asks().then(|| Observation::Created(entry.fact(&id)))
            }
            Event::Started { id } => {
                if let Some(entry) = self.containers.get_mut(&id) {
                    entry.ended = false;
                }
                questions.list.insert(id);
                None
            }
            Event::Ended { id } => {
                let entry = self.containers.get_mut(&id)?;
                entry.ended = true;
                if entry.asks() {
                    // What can't be done while it runs can be now.
                    questions.list.insert(id.clone());
                }
                entry.stop().then_some(Observation::ContainerGone(id))
            }
            Event::Changed { id } => {
                questions.list.insert(id);
                None
            }
            Event::Destroyed { id } => {
                questions.list.remove(&id);
                for members in questions.inspect.values_mut() {
                    members.remove(&id);
                }
                let entry = self.containers.remove(&id)?;
                (entry.told || entry.asks()).then_some(Observation::ContainerGone(id))
            }
            Event::Connected { network, id } => {
                match self.containers.get_mut(&id) {
                    Some(entry) => entry.ended = false,
                    None => {
                        questions.list.insert(id.clone());
                    }
                }
                questions.disconnected.remove(&(network.clone(), id.clone()));
                questions.inspect.entry(network).or_default().insert(id);
                None
            }
            Event::Disconnected { network, id } => {
                if let Some(members) = questions.inspect.get_mut(&network) {
                    members.remove(&id);
                }
                questions.disconnected.insert((network.clone(), id.clone()));
                let entry = self.containers.get_mut(&id)?;
                entry.attachments.remove(&network)?;
                if entry.phase == Phase::Starting && entry.attachments.is_empty() {
                    // Its start has failed.
                    return entry.stop().then_some(Observation::ContainerGone(id));
                }
                entry.told.then(|| Observation::Container(entry.fact(&id)))
            }
            Event::NetworkDestroyed { network } => {
                self.bridges.remove(&network);
                self.users.remove(&network);
                None
            }
        }
    }

    /// The questions that bring a container's facts up to date.
    pub(super) fn reread(&self, id: &ContainerId, questions: &mut Questions) {
        questions.list.insert(id.clone());
        self.reread_starting(id, questions);
    }

    /// The same for all containers whose facts the full list doesn't give.
    pub(super) fn reread_all_starting(&self, questions: &mut Questions) {
        for id in self.containers.keys() {
            self.reread_starting(id, questions);
        }
    }

    fn reread_starting(&self, id: &ContainerId, questions: &mut Questions) {
        let Some(entry) = self.containers.get(id).filter(|entry| entry.phase == Phase::Starting) else {
            return;
        };
        for network in entry.attachments.keys() {
            questions.inspect.entry(network.clone()).or_default().insert(id.clone());
        }
    }

    /// Takes a network's state in, for the containers that it was asked for.
    pub(super) fn inspected(
        &mut self,
        id: &NetworkId,
        network: &Network,
        asked_for: &BTreeSet<ContainerId>,
        ports_known: u64,
    ) -> Vec<Observation> {
        self.learn(id.clone(), network);
        let Some(bridge) = &network.bridge else { return Vec::new() };
        let mut facts = Vec::new();
        for container in asked_for {
            // Not a member: it is gone again, and the event that says so comes next.
            let Some(address) = network.members.get(container) else { continue };
            // Unknown: created before the events and the list that we have; it is being listed, without which there
            // are no labels.
            let entry = self
                .containers
                .entry(container.clone())
                .or_insert_with(|| Entry::new("".into(), BTreeMap::new()));
            entry.ports_known = match entry.attachments.keys().any(|other| other != id) {
                true => entry.ports_known.min(ports_known),
                false => ports_known,
            };
            let attachment = Attachment {
                network: id.clone(),
                bridge: bridge.clone(),
                ip: address.ip,
                prefix_len: address.prefix_len,
                mac: Some(address.mac),
            };
            entry.attachments.insert(id.clone(), attachment);
            if entry.phase == Phase::Stopped {
                entry.phase = Phase::Starting;
                entry.health = Health::Critical("not started yet".into());
            }
            if !entry.name.is_empty() {
                facts.push(Observation::Container(entry.tell(container)));
            }
        }
        facts
    }

    /// Networks in the list whose bridges aren't known: look at them before the list is taken in.
    pub(super) fn unknown_networks(&self, list: &[Listed]) -> BTreeSet<NetworkId> {
        let seen = list.iter().flat_map(|listed| listed.networks.keys());
        seen.filter(|id| !self.bridges.contains_key(*id)).cloned().collect()
    }

    /// Takes the state of some containers in. A container that was asked for and isn't in the list doesn't exist.
    pub(super) fn listed(
        &mut self,
        list: Vec<Listed>,
        questions: &Questions,
        ports_known: u64,
    ) -> Vec<Observation> {
        let mut facts = Vec::new();
        let mut missing = questions.list.clone();
        for listed in list {
            missing.remove(&listed.id);
            let id = listed.id.clone();
            let entry = self.update(listed, questions, ports_known);
            match entry.phase {
                Phase::Stopped => {
                    facts.extend(entry.stop().then(|| Observation::ContainerGone(id.clone())));
                    facts.extend(entry.asks().then(|| Observation::Created(entry.fact(&id))));
                }
                Phase::Starting | Phase::Running => facts.push(Observation::Container(entry.tell(&id))),
            }
        }
        for id in missing {
            if self.containers.remove(&id).is_some_and(|entry| entry.told || entry.asks()) {
                facts.push(Observation::ContainerGone(id));
            }
        }
        facts
    }

    /// Takes the state of all containers in.
    pub(super) fn listed_all(&mut self, list: Vec<Listed>, ports_known: u64) -> Vec<Observation> {
        let present: BTreeSet<_> = list.iter().map(|listed| listed.id.clone()).collect();
        self.containers.retain(|id, _| present.contains(id));
        let mut all = Vec::new();
        let mut created = Vec::new();
        for listed in list {
            let id = listed.id.clone();
            let entry = self.update(listed, &Questions::default(), ports_known);
            match entry.phase {
                Phase::Stopped => {
                    entry.stop();
                    created.extend(entry.asks().then(|| Observation::Created(entry.fact(&id))));
                }
                Phase::Starting | Phase::Running => all.push(entry.tell(&id)),
            }
        }
        let mut facts = vec![Observation::Containers(all)];
        facts.extend(created);
        facts
    }

    fn update(&mut self, listed: Listed, questions: &Questions, ports_known: u64) -> &mut Entry {
        let bridges = &self.bridges;
        let entry = self
            .containers
            .entry(listed.id.clone())
            .or_insert_with(|| Entry::new("".into(), BTreeMap::new()));
        entry.name = listed.name;
        entry.labels = listed.labels;
        if !listed.running || entry.ended {
            // Docker's list knows of a container's start only once it has started.
            if entry.phase != Phase::Starting {
                entry.phase = Phase::Stopped;
            }
            return entry;
        }
        let asked = |network: &NetworkId| {
            questions.inspect.get(network).is_some_and(|members| members.contains(&listed.id))
        };
        let cut =
            |network: &NetworkId| questions.disconnected.contains(&(network.clone(), listed.id.clone()));
        entry.attachments.retain(|network, _| asked(network));
        entry.ports_known = match entry.attachments.keys().any(|id| !listed.networks.contains_key(id)) {
            true => entry.ports_known.min(ports_known),
            false => ports_known,
        };
        for (network, address) in &listed.networks {
            let Some(Some(bridge)) = bridges.get(network).filter(|_| !cut(network)) else { continue };
            let attachment = Attachment {
                network: network.clone(),
                bridge: bridge.clone(),
                ip: address.ip,
                prefix_len: address.prefix_len,
                mac: Some(address.mac),
            };
            entry.attachments.insert(network.clone(), attachment);
        }
        entry.phase = Phase::Running;
        entry.published = listed.published;
        entry.health = listed.health;
        entry
    }

    /// Notes a network's bridge.
    pub(super) fn learn(&mut self, id: NetworkId, network: &Network) {
        if network.is_users {
            self.users.insert(id.clone());
        }
        self.bridges.insert(id, network.bridge.clone());
    }

    /// Containers in the list whose names on users' networks aren't known: look at them before the list is taken in.
    pub(super) fn unknown_aliases(&self, list: &[Listed]) -> Vec<ContainerId> {
        let unknown = list.iter().filter(|listed| listed.running).filter(|listed| {
            let known = self.containers.get(&listed.id).map(|entry| &entry.aliases_on);
            let mut users = listed.networks.keys().filter(|id| self.users.contains(*id));
            users.any(|id| known.is_none_or(|known| !known.contains(id)))
        });
        unknown.map(|listed| listed.id.clone()).collect()
    }

    /// Notes a container's names on the networks that a list has.
    pub(super) fn learn_aliases(&mut self, listed: &Listed, aliases: Vec<Arc<str>>) {
        let entry = self
            .containers
            .entry(listed.id.clone())
            .or_insert_with(|| Entry::new(listed.name.clone(), listed.labels.clone()));
        entry.aliases = aliases;
        entry.aliases_on = listed.networks.keys().cloned().collect();
    }
}

impl Entry {
    fn new(name: Arc<str>, labels: BTreeMap<String, String>) -> Self {
        Self {
            name,
            labels,
            attachments: BTreeMap::new(),
            published: Vec::new(),
            health: Health::Critical("not started yet".into()),
            phase: Phase::Stopped,
            ended: false,
            aliases: Vec::new(),
            aliases_on: BTreeSet::new(),
            ports_known: 0,
            told: false,
        }
    }

    /// It has no process; says whether that is to be told.
    fn stop(&mut self) -> bool {
        self.phase = Phase::Stopped;
        self.attachments.clear();
        self.published.clear();
        self.aliases.clear();
        self.aliases_on.clear();
        std::mem::take(&mut self.told)
    }

    /// Whether it asks to be attached to its user's network.
    fn asks(&self) -> bool {
        self.labels.get(ATTACH_LABEL).is_some_and(|value| value == "true")
    }

    fn tell(&mut self, id: &ContainerId) -> Container {
        self.told = true;
        self.fact(id)
    }

    fn fact(&self, id: &ContainerId) -> Container {
        Container {
            id: id.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            attachments: self.attachments.values().cloned().collect(),
            published: self.published.clone(),
            aliases: self.aliases.clone(),
            health: self.health.clone(),
            ports_known: self.ports_known,
        }
    }
}
