//! What is in force: who asks, what each may name, and who is on whose network. Pure.

mod key;
mod lookup;
mod network;
mod records;
mod view;

pub(crate) use key::Map;
pub(crate) use lookup::{Finding, Rules, Why};

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use steppe_model::{Asker, Member, Resource, ResourceId, UserName};

use network::Network;
pub(crate) use view::View;

/// Everything in force.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    views: Map<Ipv4Addr, Arc<View>>,
    networks: Map<UserName, Network>,
    /// What each id stands for.
    ids: BTreeMap<ResourceId, Id>,
    /// control has told everything once: what is not here does not exist.
    pub(crate) settled: bool,
}

#[derive(Debug, Clone)]
enum Id {
    Asker(Ipv4Addr),
    Member(UserName, Ipv4Addr),
}

/// A change that is ready to be made.
#[derive(Debug)]
pub(crate) enum Edit {
    Asker(Arc<View>),
    Member(Member),
    Remove(ResourceId),
}

impl Zone {
    /// Makes changes, in order.
    pub(crate) fn edit(&mut self, edits: impl IntoIterator<Item = Edit>) {
        for edit in edits {
            match edit {
                Edit::Asker(view) => {
                    self.ids.insert(view.asker().id(), Id::Asker(view.asker().ip));
                    self.views.insert(view.asker().ip, view);
                }
                Edit::Member(member) => {
                    self.ids.insert(member.id(), Id::Member(member.network.clone(), member.ip));
                    self.networks.entry(member.network.clone()).or_default().insert(member);
                }
                Edit::Remove(id) => self.remove(&id),
            }
        }
    }

    fn remove(&mut self, id: &ResourceId) {
        match self.ids.remove(id) {
            Some(Id::Asker(ip)) => {
                self.views.remove(&ip);
            }
            Some(Id::Member(user, ip)) => {
                let Some(network) = self.networks.get_mut(&user) else { return };
                network.remove(ip);
                if network.is_empty() {
                    self.networks.remove(&user);
                }
            }
            None => {}
        }
    }

    /// What somebody who asks from `ip` sees: nothing of Steppe's if that is no asker.
    pub(crate) fn view(&self, ip: Ipv4Addr) -> Option<&Arc<View>> {
        self.views.get(&ip)
    }

    fn network_of(&self, view: Option<&View>) -> Option<&Network> {
        self.networks.get(view?.asker().network.as_ref()?)
    }

    /// The askers, by their ids.
    pub(crate) fn askers(&self) -> impl Iterator<Item = &Asker> {
        self.ids.values().filter_map(|id| match id {
            Id::Asker(ip) => self.views.get(ip).map(|view| view.asker()),
            Id::Member(..) => None,
        })
    }

    /// The members, by their ids.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.ids.values().filter_map(|id| match id {
            Id::Asker(_) => None,
            Id::Member(user, ip) => self.networks.get(user)?.member(*ip),
        })
    }

    /// How many askers and members there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.views.len(), self.ids.len() - self.views.len())
    }

    /// Everything, as control told it.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let askers = self.askers().cloned().map(Resource::Asker);
        askers.chain(self.members().cloned().map(Resource::Member)).collect()
    }
}

#[cfg(test)]
mod tests;
