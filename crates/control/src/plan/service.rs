//! One service: which endpoints each of its ports leads to, and who may reach it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use steppe_model::{Endpoint, Route, ServiceKey, UserName, VirtualPort};

use super::{
    provider::Provider,
    settings::{Allow, Path},
};

/// Where connections to a port go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routing {
    /// The endpoints that may get connections; for a port that means every port: those without a route.
    pub endpoints: Vec<Endpoint>,
    /// With a port that means every port: the endpoints by the port that was dialled.
    pub routes: Vec<Route>,
    /// Why there is nowhere to go though there are instances; `None` when there is no such reason.
    pub problem: Option<String>,
}

impl Routing {
    /// Whether it leads anywhere.
    #[must_use]
    pub fn leads(&self) -> bool {
        !self.endpoints.is_empty() || self.routes.iter().any(|route| !route.endpoints.is_empty())
    }
}

/// Which way connections to a service take: past the proxy only if every instance says so and none wants to be told who called,
/// which the proxy alone can do.
#[must_use]
pub fn path(providers: &[Provider]) -> Path {
    let past =
        |provider: &Provider| provider.settings.path == Path::Kernel && !provider.settings.proxy_protocol;
    if !providers.is_empty() && providers.iter().all(past) { Path::Kernel } else { Path::Proxy }
}

/// Finds out where connections to `port` go. PORT leads to the registered port whose port in the container is PORT, else to the
/// only registered one; several and no match lead nowhere.
#[must_use]
pub fn route(providers: &[Provider], port: VirtualPort) -> Routing {
    let instances = by_instance(providers);
    match port.number {
        Some(number) => {
            let chosen = choose(&instances, Some(number.get()));
            let problem = chosen.endpoints.is_empty().then(|| ambiguity(&chosen.ambiguous)).flatten();
            Routing { endpoints: chosen.endpoints, routes: Vec::new(), problem }
        }
        None => {
            let known: BTreeSet<u16> =
                providers.iter().filter_map(|provider| provider.container_port).collect();
            let routes = known
                .into_iter()
                .map(|port| Route { port, endpoints: choose(&instances, Some(port)).endpoints });
            Routing { endpoints: choose(&instances, None).endpoints, routes: routes.collect(), problem: None }
        }
    }
}

fn by_instance(providers: &[Provider]) -> BTreeMap<&str, Vec<&Provider>> {
    let mut instances: BTreeMap<&str, Vec<&Provider>> = BTreeMap::new();
    for provider in providers {
        instances.entry(&*provider.group).or_default().push(provider);
    }
    instances
}

#[derive(Default)]
struct Chosen<'a> {
    endpoints: Vec<Endpoint>,
    ambiguous: Vec<&'a Provider>,
}

fn choose<'a>(instances: &BTreeMap<&str, Vec<&'a Provider>>, port: Option<u16>) -> Chosen<'a> {
    // The same address twice, from two sources say, is one endpoint.
    let mut by_address: BTreeMap<SocketAddrV4, Endpoint> = BTreeMap::new();
    let mut chosen = Chosen::default();
    for registered in instances.values() {
        let exact: Vec<_> =
            registered.iter().filter(|p| port.is_some() && p.container_port == port).copied().collect();
        let ports: BTreeSet<_> = registered.iter().map(|p| (p.address.ok(), p.container_port)).collect();
        let taken = match (exact.is_empty(), ports.len()) {
            (false, _) => exact,
            (true, 1) => registered.clone(),
            (true, _) => {
                chosen.ambiguous.extend(registered);
                continue;
            }
        };
        for provider in taken.into_iter().filter(|provider| provider.usable()) {
            let Ok(address) = provider.address else { continue };
            let endpoint =
                Endpoint { address, weight: provider.settings.weight, node: provider.node.clone() };
            let known = by_address.entry(address).or_insert_with(|| endpoint.clone());
            known.weight = known.weight.max(endpoint.weight);
        }
    }
    chosen.endpoints = by_address.into_values().collect();
    chosen
}

fn ambiguity(ambiguous: &[&Provider]) -> Option<String> {
    if ambiguous.is_empty() {
        return None;
    }
    let tags: BTreeSet<String> =
        ambiguous.iter().flat_map(|p| &p.tags).filter_map(|tag| telling_tag(tag)).collect();
    let tags = if tags.is_empty() {
        "give each registered port a tag of its own".to_owned()
    } else {
        format!("name one of {}", tags.into_iter().collect::<Vec<_>>().join(", "))
    };
    Some(format!("several ports are registered and none is this one in the container: {tags}"))
}

/// A tag that a grant can name.
fn telling_tag(tag: &str) -> Option<String> {
    tag.parse::<steppe_model::Tag>().ok().map(|tag| format!("#{tag}"))
}

/// Whether `user`'s workloads may be granted a service. Where instances disagree, one that does not allow them is enough
/// to refuse: a connection may go to any of them.
///
/// # Errors
/// Who is allowed, for the message.
pub fn allowed(key: &ServiceKey, providers: &[Provider], user: Option<&UserName>) -> Result<(), String> {
    let Some(owner) = &key.user else { return Ok(()) };
    if Some(owner) == user {
        return Ok(());
    }
    let allows = |provider: &Provider| match &provider.settings.allow {
        Allow::All => true,
        Allow::Users(users) => user.is_some_and(|user| users.contains(user)),
    };
    if !providers.is_empty() && providers.iter().all(allows) {
        return Ok(());
    }
    let named: BTreeSet<Arc<str>> = providers
        .iter()
        .flat_map(|provider| match &provider.settings.allow {
            Allow::All => vec!["*".into()],
            Allow::Users(users) => users.iter().map(|user| user.as_str().into()).collect(),
        })
        .collect();
    let named: Vec<&str> = named.iter().map(|user| &**user).collect();
    Err(if named.is_empty() { "nobody else".to_owned() } else { named.join(", ") })
}
