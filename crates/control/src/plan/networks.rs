//! The networks of users.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use ipnet::Ipv4Net;
use steppe_model::{Resource, ResourceId, UserName};

use super::Planned;
use crate::observe::{Container, Network};

/// The networks that there are.
#[derive(Debug)]
pub struct Networks {
    /// Where their addresses are from, on every host.
    block: Ipv4Net,
    by_user: BTreeMap<UserName, Network>,
    by_bridge: BTreeMap<Arc<str>, UserName>,
    /// Whether Docker has listed them. Until then those count that the netfilter-agent keeps apart.
    are_listed: bool,
}

/// What a listing changed.
#[derive(Debug, Default)]
pub struct Changed {
    /// Resources that are new or different, and `None` for those that are gone.
    pub resources: Vec<(ResourceId, Option<Planned>)>,
    /// Users who had none before.
    pub new: BTreeSet<UserName>,
    /// Bridges that are somebody else's than before, or nobody's.
    pub bridges: BTreeSet<Arc<str>>,
    /// Whether any address means something else than before.
    pub subnets: bool,
}

impl Networks {
    /// None is known; their addresses are from this block.
    #[must_use]
    pub fn new(block: Ipv4Net) -> Self {
        Self { block, by_user: BTreeMap::new(), by_bridge: BTreeMap::new(), are_listed: false }
    }

    /// Takes note of one that the netfilter-agent has in force from an earlier life of control: workloads on it stay bound, and
    /// it stays shut, until Docker says what there is.
    pub fn keep(&mut self, network: &steppe_model::Network) -> Changed {
        if self.are_listed || self.by_user.contains_key(&network.user) {
            return Changed::default();
        }
        let kept = Network {
            id: "".into(),
            user: network.user.clone(),
            bridge: network.bridge.clone(),
            subnet: network.subnet,
            gateway: network.gateway,
            moved: None,
        };
        let all = self.by_user.values().cloned().chain([kept]).collect();
        self.replace(all)
    }

    /// Takes in all that there are.
    pub fn list(&mut self, networks: Vec<Network>) -> Changed {
        self.are_listed = true;
        self.replace(networks)
    }

    fn replace(&mut self, networks: Vec<Network>) -> Changed {
        let new: BTreeMap<_, _> =
            networks.into_iter().map(|network| (network.user.clone(), network)).collect();
        let by_bridge: BTreeMap<_, _> =
            new.values().map(|network| (network.bridge.clone(), network.user.clone())).collect();
        let mut changed = Changed::default();
        for network in new.values() {
            let resource = resource(network);
            let before = self.by_user.get(&network.user).map(self::resource);
            if before.as_ref() != Some(&resource) {
                changed.subnets = true;
                changed.resources.push((resource.id(), Some(Planned::new(resource))));
            }
        }
        for gone in self.by_user.values().filter(|known| !new.contains_key(&known.user)) {
            changed.subnets = true;
            changed.resources.push((resource(gone).id(), None));
        }
        changed.new = new.keys().filter(|user| !self.by_user.contains_key(*user)).cloned().collect();
        let bridges = self.by_bridge.keys().chain(by_bridge.keys());
        changed.bridges =
            bridges.filter(|bridge| self.by_bridge.get(*bridge) != by_bridge.get(*bridge)).cloned().collect();
        (self.by_user, self.by_bridge) = (new, by_bridge);
        changed
    }

    /// Whether Docker has listed them.
    #[must_use]
    pub fn are_listed(&self) -> bool {
        self.are_listed
    }

    /// The user whose network has this bridge.
    #[must_use]
    pub fn on_bridge(&self, bridge: &str) -> Option<&UserName> {
        self.by_bridge.get(bridge)
    }

    /// The user whose network a container is on; `None` when it is on none, or on those of several.
    #[must_use]
    pub fn only_one_of(&self, container: &Container) -> Option<&UserName> {
        let mut users = container.attachments.iter().filter_map(|attached| self.on_bridge(&attached.bridge));
        users.next().filter(|first| users.all(|other| other == *first))
    }

    /// Whether an address is some network's, here or on another host.
    #[must_use]
    pub fn contains(&self, ip: Ipv4Addr) -> bool {
        self.block.contains(&ip) || self.by_user.values().any(|network| network.subnet.contains(&ip))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Network> {
        self.by_user.values()
    }
}

fn resource(network: &Network) -> Resource {
    Resource::Network(steppe_model::Network {
        user: network.user.clone(),
        bridge: network.bridge.clone(),
        subnet: network.subnet,
        gateway: network.gateway,
    })
}
