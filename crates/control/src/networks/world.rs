//! What there is on this host, as far as users' networks are concerned.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use bollard::models::{ContainerSummary, Network as DockerNetwork};
use ipnet::Ipv4Net;
use steppe_model::UserName;

use super::{
    name,
    subnet::{self, Taken},
};

/// Label of a network: the user.
pub(super) const USER: &str = "steppe.user";
/// Label of a network that an operator asked for: it stays although nobody needs it.
pub(super) const KEEP: &str = "steppe.keep";
/// Label of a network whose subnet is not the usual one: what was in the way.
pub(super) const MOVED: &str = "steppe.moved";
/// Option of a network: the name of its bridge.
pub(super) const BRIDGE: &str = "com.docker.network.bridge.name";

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct World {
    /// Networks that Steppe made.
    pub(super) own: BTreeMap<UserName, Own>,
    /// The names of all others.
    pub(super) others: BTreeSet<String>,
    /// Addresses that somebody has.
    pub(super) taken: Vec<Taken>,
    /// The names of containers that name a network, running or not, by the network's name.
    pub(super) attached: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// The names of the host's interfaces.
    pub(super) interfaces: BTreeSet<String>,
}

/// A network that Steppe made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) id: Arc<str>,
    pub(super) subnet: Ipv4Net,
    pub(super) gateway: Ipv4Addr,
    /// An operator asked for it.
    pub(super) kept: bool,
    /// What was in the way of the usual subnet when it was made.
    pub(super) moved: Option<Arc<str>>,
}

impl World {
    /// From what Docker lists; `host` are addresses that the host has or has routes to, and `interfaces` its interfaces' names.
    pub(super) fn new(
        networks: Vec<DockerNetwork>,
        containers: Vec<ContainerSummary>,
        host: Vec<Taken>,
        interfaces: BTreeSet<String>,
    ) -> Self {
        let mut world = Self { interfaces, ..Self::default() };
        let mut names = HashMap::new();
        for network in networks {
            let name = network.name.clone().unwrap_or_default();
            if let Some(id) = &network.id {
                names.insert(id.clone(), name.clone());
            }
            let by: Arc<str> = format!("Docker's network {name}").into();
            world.taken.extend(subnets(&network).into_iter().map(|block| Taken { block, by: by.clone() }));
            match own(&network) {
                // Docker before 25 lets two have one name; which of them is meant nobody can tell.
                Some((user, own)) if !world.own.contains_key(&user) => drop(world.own.insert(user, own)),
                _ => drop(world.others.insert(name)),
            }
        }
        // After Docker's networks, whose own routes these may be.
        world.taken.extend(host);
        for container in containers {
            let Some(name) = container_name(&container) else { continue };
            for network in named_networks(container, &names) {
                world.attached.entry(network).or_default().insert(name.clone());
            }
        }
        world
    }

    /// The containers that are attached to a user's network or will be when they start.
    pub(super) fn attached_to(&self, user: &UserName) -> impl Iterator<Item = &Arc<str>> {
        self.attached.get(&name::network(user)).into_iter().flatten()
    }
}

/// None if Steppe did not make it.
fn own(network: &DockerNetwork) -> Option<(UserName, Own)> {
    let labels = network.labels.as_ref()?;
    let user: UserName = labels.get(USER)?.parse().ok()?;
    let is_own = network.name.as_ref() == Some(&name::network(&user))
        && network.driver.as_deref() == Some("bridge")
        && network.options.as_ref()?.get(BRIDGE).map(String::as_str) == Some(&*name::bridge(&user));
    let [config] = &network.ipam.as_ref()?.config.as_ref()?[..] else { return None };
    let subnet: Ipv4Net = config.subnet.as_ref()?.parse().ok()?;
    let gateway = config.gateway.as_ref().and_then(|ip| ip.parse().ok());
    let own = Own {
        id: network.id.as_deref()?.into(),
        subnet,
        gateway: gateway.unwrap_or_else(|| subnet::gateway(subnet)),
        kept: labels.contains_key(KEEP),
        moved: labels.get(MOVED).map(|why| why.as_str().into()),
    };
    is_own.then_some((user, own))
}

fn subnets(network: &DockerNetwork) -> Vec<Ipv4Net> {
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()).into_iter().flatten();
    // Those of IPv6 are not read.
    configs.filter_map(|config| config.subnet.as_ref()?.parse().ok()).collect()
}

/// What people call a container: its name, else its id.
fn container_name(container: &ContainerSummary) -> Option<Arc<str>> {
    let names = container.names.iter().flatten().map(|name| name.trim_start_matches('/'));
    let name = names.into_iter().find(|name| !name.is_empty() && !name.contains('/'));
    name.or(container.id.as_deref()).map(Into::into)
}

/// The names of the networks that a container names; `names` are the names by the networks' ids.
fn named_networks(container: ContainerSummary, names: &HashMap<String, String>) -> BTreeSet<String> {
    let settings = container.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let mode = container.host_config.and_then(|host| host.network_mode);
    let ids = settings.values().filter_map(|settings| settings.network_id.as_ref());
    let by_id: Vec<_> = ids.chain(&mode).filter_map(|id| names.get(id).cloned()).collect();
    settings.into_keys().chain(mode).chain(by_id).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn network(json: serde_json::Value) -> DockerNetwork {
        serde_json::from_value(json).unwrap()
    }

    /// As Docker lists one that Steppe made.
    pub(crate) fn made_for(user: &str, subnet: &str) -> serde_json::Value {
        let name = format!("steppe-{user}");
        serde_json::json!({
            "Name": name, "Id": format!("id-{user}"), "Driver": "bridge",
            "IPAM": { "Config": [{ "Subnet": subnet, "Gateway": subnet.replace(".0/24", ".1") }] },
            "Options": { "com.docker.network.bridge.name": name }, "Labels": { "steppe.user": user },
        })
    }

    pub(crate) fn container(name: &str, network: &str) -> ContainerSummary {
        let json = serde_json::json!({
            "Id": format!("id-{name}"), "Names": [format!("/{name}")], "HostConfig": { "NetworkMode": "default" },
            "NetworkSettings": { "Networks": { network: { "NetworkID": "" } } },
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn only_what_steppe_made_is_its_own() {
        let alice: UserName = "alice".parse().unwrap();
        let is_own = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut json = made_for("alice", "10.208.7.0/24");
            change(&mut json);
            let world = World::new(vec![network(json)], Vec::new(), Vec::new(), BTreeSet::new());
            assert_eq!(world.others.len(), 1 - world.own.len());
            world.own.contains_key(&alice)
        };
        assert!(is_own(&|_| {}));
        assert!(!is_own(&|json| json["Labels"] = serde_json::json!({})));
        assert!(!is_own(&|json| json["Labels"]["steppe.user"] = "bob".into()));
        assert!(!is_own(&|json| json["Name"] = "alice".into()));
        assert!(!is_own(&|json| json["Driver"] = "macvlan".into()));
        assert!(!is_own(&|json| json["Options"] = serde_json::json!({})));
        assert!(!is_own(&|json| json["IPAM"]["Config"] = serde_json::json!([])));
    }

    #[test]
    fn whoever_names_a_network_is_attached() {
        let mut by_id = container("by-id", "other");
        by_id.host_config.as_mut().unwrap().network_mode = Some("id-alice".to_owned());
        let containers = vec![container("by-name", "steppe-alice"), by_id, container("else", "bridge")];
        let networks = vec![network(made_for("alice", "10.208.7.0/24"))];
        let world = World::new(networks, containers, Vec::new(), BTreeSet::new());
        let attached: Vec<_> = world.attached_to(&"alice".parse().unwrap()).map(|name| &**name).collect();
        assert_eq!(attached, ["by-id", "by-name"]);
        assert_eq!(world.own[&"alice".parse().unwrap()].gateway.to_string(), "10.208.7.1");
        assert_eq!(&*world.taken[0].by, "Docker's network steppe-alice");
    }
}
