//! From what is known to resources.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use steppe_model::{
    Client, Endpoint, Grant, GrantSpec, Listener, ListenerKey, Protocol, Resource, ResourceId, ServiceKey,
    ServiceName, ServicePort, UserName, VirtualIp, VirtualPort,
};

use super::{Delta, Ignored, Planned, PlannedPort, PlannedService, Planner, Provider};
use crate::{
    agent::AgentName,
    observe::SourceName,
    plan::{
        service::{allowed, path, route},
        settings::Path,
    },
};

/// The containers that ask for a service, each with the ports it dials.
type Consumers = BTreeMap<Arc<str>, BTreeSet<VirtualPort>>;
pub(super) type Resources = BTreeMap<(AgentName, ResourceId), Planned>;

impl Planner {
    pub(super) fn plan_name(&mut self, name: &ServiceName, now: Instant, delta: &mut Delta) {
        let mut ignored = Vec::new();
        let providers = self.providers(name, &mut ignored);
        let before = if ignored.is_empty() {
            self.ignored.remove(name)
        } else {
            self.ignored.insert(name.clone(), ignored.clone())
        };
        delta.ignored.extend(new_ones(&before.unwrap_or_default(), &ignored));
        let mut asked = self.asked(name);
        let keys = asked.keys().cloned().collect();
        let before =
            if asked.is_empty() { self.keys.remove(name) } else { self.keys.insert(name.clone(), keys) };
        for key in before.into_iter().flatten() {
            asked.entry(key).or_default();
        }
        for (key, consumers) in asked {
            self.plan_service(key, consumers, &providers, now, delta);
        }
    }

    /// Every instance of a service, whoever it belongs to.
    fn providers(&self, name: &ServiceName, ignored: &mut Vec<Ignored>) -> Vec<Provider> {
        let local = self.local();
        let registered = self.instances_of(name);
        let mut providers: Vec<_> =
            registered.map(|instance| Provider::registered(instance, &local, ignored)).collect();
        merge(&mut providers);
        for id in self.offers.get(name) {
            let Some(workload) = self.workloads.get(id) else { continue };
            providers.extend(Provider::offered(workload, &local, ignored).map(|(_, provider)| provider));
        }
        providers.sort_by(|a, b| (&a.source, &a.node, &a.id).cmp(&(&b.source, &b.node, &b.id)));
        providers
    }

    /// Who asks for a service of this name, by the service that is meant.
    fn asked(&self, name: &ServiceName) -> BTreeMap<ServiceKey, Consumers> {
        let mut asked: BTreeMap<ServiceKey, Consumers> = BTreeMap::new();
        for id in self.consumers.get(name) {
            let Some(workload) = self.workloads.get(id) else { continue };
            for spec in workload.specs_of(name) {
                let key = meant(&spec, workload.user.as_ref());
                asked.entry(key).or_default().entry(id.clone()).or_default().insert(spec.port);
            }
        }
        asked
    }

    fn plan_service(
        &mut self,
        key: ServiceKey,
        consumers: Consumers,
        all: &[Provider],
        now: Instant,
        delta: &mut Delta,
    ) {
        let old = self.services.remove(&key);
        let old_resources = old.as_ref().map(|old| old.resources.clone()).unwrap_or_default();
        if consumers.is_empty() {
            compare(&old_resources, &Resources::new(), delta);
            for port in old.iter().flat_map(|old| old.ports.keys()) {
                self.allocator.release_listener(&ListenerKey { service: key.clone(), port: *port });
            }
            self.allocator.release_vip(&key);
            return;
        }
        let chosen = choose(&key, all, old.as_ref().is_some_and(|old| old.own_seen));
        let Chosen { providers, own_seen, are_own } = chosen;
        let verdicts: BTreeMap<_, _> = consumers
            .keys()
            .map(|id| {
                let user = self.workloads.get(id).and_then(|workload| workload.user.as_ref());
                // What is nobody's is open, to who may name it so.
                (id.clone(), allowed(&key, if are_own { &providers } else { &[] }, user))
            })
            .collect();
        let vip = self.allocator.vip(&key).ok();
        let ports = self.plan_ports(&key, &consumers, &providers, old.as_ref());
        let resources = match vip {
            Some(vip) => self.resources(&key, vip, &ports, &consumers, &verdicts, &providers),
            None => Resources::new(),
        };
        compare(&old_resources, &resources, delta);
        let is_empty = !providers.iter().any(Provider::usable);
        let empty_since = is_empty.then(|| old.as_ref().and_then(|old| old.empty_since).unwrap_or(now));
        let planned = PlannedService {
            vip,
            providers,
            own_seen,
            are_own,
            ports,
            consumers: verdicts,
            empty_since,
            resources,
        };
        self.touch_names(old.as_ref(), &planned);
        self.services.insert(key, planned);
    }

    fn plan_ports(
        &mut self,
        key: &ServiceKey,
        consumers: &Consumers,
        providers: &[Provider],
        old: Option<&PlannedService>,
    ) -> BTreeMap<VirtualPort, PlannedPort> {
        let dialled: BTreeSet<VirtualPort> = consumers.values().flatten().copied().collect();
        let listener_key = |port: VirtualPort| ListenerKey { service: key.clone(), port };
        for port in old.iter().flat_map(|old| old.ports.keys()).filter(|port| !dialled.contains(port)) {
            self.allocator.release_listener(&listener_key(*port));
        }
        let by_proxy = !providers.is_empty() && path(providers) == Path::Proxy;
        let plan = dialled.into_iter().map(|port| {
            let mut routing = route(providers, port);
            let mut listener = None;
            if by_proxy {
                match self.allocator.listener(&listener_key(port)) {
                    Ok(address) => listener = Some(address),
                    Err(error) => routing.problem = Some(error.to_string()),
                }
            }
            (port, PlannedPort { listener, routing })
        });
        plan.collect()
    }

    fn resources(
        &self,
        key: &ServiceKey,
        vip: Ipv4Addr,
        ports: &BTreeMap<VirtualPort, PlannedPort>,
        consumers: &Consumers,
        verdicts: &BTreeMap<Arc<str>, Result<(), String>>,
        providers: &[Provider],
    ) -> Resources {
        let mut resources = Resources::new();
        let mut put = |planned: Planned| {
            resources.insert((AgentName::of(&planned.resource), planned.resource.id()), planned);
        };
        put(Planned::new(Resource::VirtualIp(VirtualIp { service: key.clone(), vip })));
        // Datagrams go as they came, by either path.
        let told = providers.iter().any(|provider| provider.settings.proxy_protocol);
        let proxy_protocol = |port: VirtualPort| told && port.protocol == Protocol::Tcp;
        let mut clients: BTreeMap<VirtualPort, Vec<ResourceId>> = BTreeMap::new();
        for (id, dialled) in consumers.iter().filter(|(id, _)| verdicts.get(*id) == Some(&Ok(()))) {
            for (workload, attached) in self.bound_attachments(id) {
                for port in dialled {
                    let mut grant =
                        Planned::new(Resource::Grant(Grant { workload: workload.clone(), vip, port: *port }));
                    let listener = ListenerKey { service: key.clone(), port: *port };
                    let client = Client {
                        listener: ResourceId::new(&listener.to_string()),
                        ip: attached.attachment.ip,
                    };
                    if ports.get(port).is_some_and(|port| port.listener.is_some()) {
                        grant.requires.push(client.id());
                        clients.entry(*port).or_default().push(client.id());
                    }
                    // Also without a listener: connections that outlive their service are its own as long as
                    // the grant stands.
                    put(Planned::new(Resource::Client(client)));
                    put(grant);
                }
            }
        }
        let rule = |port: VirtualPort, listener, endpoints: &[Endpoint]| ServicePort {
            service: key.clone(),
            vip,
            port,
            listener,
            // Who wants to be told who called can't be reached past the proxy.
            endpoints: if proxy_protocol(port) { Vec::new() } else { endpoints.to_vec() },
        };
        let never_by_proxy = path(providers) == Path::Kernel;
        for (port, planned) in ports {
            // A service that shall go by the proxy, and for which no listener is left, goes nowhere.
            if planned.listener.is_none() && !never_by_proxy {
                continue;
            }
            let past_the_proxy = planned.routing.routes.iter().filter_map(|route| {
                let exact = VirtualPort::new(port.protocol, route.port);
                let is_own =
                    ports.contains_key(&exact) || route.endpoints.is_empty() || proxy_protocol(exact);
                (!is_own).then(|| rule(exact, None, &route.endpoints))
            });
            past_the_proxy.for_each(|rule| put(Planned::new(Resource::ServicePort(rule))));
            let Some(address) = planned.listener else {
                if !planned.routing.endpoints.is_empty() {
                    put(Planned::new(Resource::ServicePort(rule(*port, None, &planned.routing.endpoints))));
                }
                continue;
            };
            let listener = Listener {
                key: ListenerKey { service: key.clone(), port: *port },
                address,
                endpoints: planned.routing.endpoints.clone(),
                routes: planned.routing.routes.clone(),
                proxy_protocol: proxy_protocol(*port),
            };
            if planned.routing.leads() {
                let resource = rule(*port, Some(address), &planned.routing.endpoints);
                let mut requires = clients.remove(port).unwrap_or_default();
                requires.push(listener.id());
                put(Planned { resource: Arc::new(Resource::ServicePort(resource)), requires });
            }
            put(Planned::new(Resource::Listener(listener)));
        }
        resources
    }
}

/// The service that a grant of a workload of `user` means: that of the user it names, else of its own. Whether that user has
/// such a service does not matter, or the virtual IP that a name stands for would change when instances come and go.
#[must_use]
pub fn meant(spec: &GrantSpec, user: Option<&UserName>) -> ServiceKey {
    spec.key(spec.user.as_ref().or(user).cloned())
}

/// Where connections to a service go.
struct Chosen {
    providers: Vec<Provider>,
    /// Whether its own user was ever seen to provide it.
    own_seen: bool,
    /// Whether the providers are its own user's.
    are_own: bool,
}

/// The instances of a service: its own user's, else nobody's (LANGUAGE.md). Once its user was seen to provide it, nobody's
/// never take their place as long as anybody asks for it: whoever dials it means those.
fn choose(key: &ServiceKey, all: &[Provider], own_seen: bool) -> Chosen {
    let is_own = |provider: &&Provider| provider.owner == key.user;
    let own_seen = own_seen || (key.user.is_some() && all.iter().any(|provider| is_own(&provider)));
    let are_own = key.user.is_none() || own_seen;
    let may_be_own = all.iter().any(|provider| !provider.is_told());
    let providers = all.iter().filter(|provider| match () {
        () if are_own => is_own(provider),
        // Those that nobody has told yet whose they are may be its own.
        () => provider.owner.is_none() && provider.is_told() != may_be_own,
    });
    let providers = providers.filter(|provider| provider.has(key.tag.as_ref())).cloned().collect();
    Chosen { providers, own_seen, are_own }
}

/// An instance that both catalogues have is Consul's, which knows its health, with the tags of both.
fn merge(providers: &mut Vec<Provider>) {
    let (nomads, mut others): (Vec<_>, Vec<_>) =
        std::mem::take(providers).into_iter().partition(|provider| provider.source == SourceName::Nomad);
    for nomads in nomads {
        let twin = others.iter_mut().find(|other| {
            (&other.group, &other.address, other.container_port)
                == (&nomads.group, &nomads.address, nomads.container_port)
        });
        match twin {
            Some(twin) => {
                let more = nomads.tags.into_iter().filter(|tag| !twin.tags.contains(tag));
                twin.tags.extend(more.collect::<Vec<_>>());
            }
            None => providers.push(nomads),
        }
    }
    providers.append(&mut others);
}

/// Tells what changed: first what is new or different, then what is gone.
pub(super) fn compare(old: &Resources, new: &Resources, delta: &mut Delta) {
    for ((agent, id), planned) in new {
        if old.get(&(*agent, id.clone())) != Some(planned) {
            delta.resources.push((*agent, id.clone(), Some(planned.clone())));
        }
    }
    for (agent, id) in old.keys().filter(|key| !new.contains_key(*key)) {
        delta.resources.push((*agent, id.clone(), None));
    }
}

pub(super) fn new_ones<'a>(old: &'a [Ignored], new: &'a [Ignored]) -> impl Iterator<Item = Ignored> + 'a {
    new.iter().filter(|ignored| !old.contains(ignored)).cloned()
}
