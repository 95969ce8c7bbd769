//! From what is known to resources.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Instant,
};

use steppe_model::{
    Client, Endpoint, Grant, GrantSpec, Listener, ListenerKey, Resource, ResourceId, ServiceKey, ServiceName,
    ServicePort, UserName, VirtualIp, VirtualPort, Workload as BoundWorkload, WorkloadId,
};

use super::{
    Attached, Delta, Ignored, NoPort, Planned, PlannedPort, PlannedService, Planner, Provider, Workload,
};
use crate::{
    agent::AgentName,
    observe::{Attachment, SourceName},
    plan::{
        BridgePort, alloc_of,
        service::{allowed, is_carried, path, route},
        settings::Path,
    },
};

/// Characters of a container's id that Docker shows, and that are unique enough on one host.
const SHORT_ID: usize = 12;

/// The containers that ask for a service, each with the ports it dials.
type Consumers = BTreeMap<Arc<str>, BTreeSet<VirtualPort>>;
type Resources = BTreeMap<(AgentName, ResourceId), Planned>;
/// The users who provide a service; `None` among them when nobody's workload does.
type Owners = BTreeSet<Option<UserName>>;

impl Planner {
    pub(super) fn plan_workload(&mut self, id: &Arc<str>, delta: &mut Delta) {
        let mut resources = BTreeMap::new();
        if let Some(known) = self.workloads.get(id).cloned() {
            let own = self.asking.iter().filter(|instance| self.containers_of(instance).contains(id));
            let alloc = alloc_of(&known.container).and_then(|alloc| self.allocs.own(alloc));
            let workload = Workload::understand(known.container.clone(), own, alloc.map(|alloc| &**alloc));
            delta.ignored.extend(new_ones(&known.ignored, &workload.ignored));
            self.index_asked(&known, false);
            self.index_asked(&workload, true);
            let attached = self.attach(&workload, delta);
            resources = attached.iter().filter_map(|attached| bind(&workload, attached)).collect();
            self.attached.insert(id.clone(), attached);
            self.workloads.insert(id.clone(), workload);
        } else {
            self.attached.remove(id);
        }
        let old = self.bound.remove(id).unwrap_or_default();
        let named = |map: BTreeMap<ResourceId, Planned>| -> Resources {
            map.into_iter().map(|(id, planned)| ((AgentName::NetfilterAgent, id), planned)).collect()
        };
        compare(&named(old), &named(resources.clone()), delta);
        if !resources.is_empty() {
            self.bound.insert(id.clone(), resources);
        }
    }

    /// Finds the bridge ports of a container's attachments. One that was found before is kept for as long as it is there.
    fn attach(&mut self, workload: &Workload, delta: &mut Delta) -> Vec<Attached> {
        let container = &workload.container;
        let before = self.attached.get(&container.id).map_or(&[][..], Vec::as_slice);
        let ports = &mut self.ports;
        let mut find = |attachment: &Attachment| {
            let kept = before.iter().find(|attached| attached.attachment == *attachment);
            let kept = kept.and_then(|attached| attached.port.as_ref().ok());
            if let Some(port) = kept.and_then(|port| ports.still(port.ifindex, attachment)) {
                return Ok(port.clone());
            }
            ports.find(&container.id, attachment, container.ports_known).cloned()
        };
        let attached = container.attachments.iter().map(|attachment| {
            let port = find(attachment);
            if port == Err(NoPort::Unproven) {
                let is_alloc = self.allocs.own(&container.id).is_some();
                let reread = if is_alloc { &mut delta.reread_allocs } else { &mut delta.reread };
                reread.insert(container.id.clone());
            }
            Attached { attachment: attachment.clone(), port }
        });
        attached.collect()
    }

    pub(super) fn plan_name(&mut self, name: &ServiceName, now: Instant, delta: &mut Delta) {
        let mut ignored = Vec::new();
        let providers = self.providers(name, &mut ignored);
        let before = if ignored.is_empty() {
            self.ignored.remove(name)
        } else {
            self.ignored.insert(name.clone(), ignored.clone())
        };
        delta.ignored.extend(new_ones(&before.unwrap_or_default(), &ignored));
        let owners =
            providers.iter().filter(|provider| provider.is_told()).map(|provider| provider.owner.clone());
        let mut asked = self.asked(name, &owners.collect());
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

    /// The service that a grant of a workload of `user` means now.
    #[must_use]
    pub fn meant(&self, spec: &GrantSpec, user: Option<&UserName>) -> ServiceKey {
        let providers = self.providers(&spec.name, &mut Vec::new());
        let owners = providers.into_iter().filter(Provider::is_told).map(|provider| provider.owner);
        spec.key(meant(spec, user, &owners.collect()))
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
    fn asked(&self, name: &ServiceName, owners: &Owners) -> BTreeMap<ServiceKey, Consumers> {
        let mut asked: BTreeMap<ServiceKey, Consumers> = BTreeMap::new();
        for id in self.consumers.get(name) {
            let Some(workload) = self.workloads.get(id) else { continue };
            let specs = workload.asked.iter().filter_map(|asked| asked.spec.as_ref().ok());
            for spec in specs.filter(|spec| spec.name == *name) {
                let key = spec.key(meant(spec, workload.user.as_ref(), owners));
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
        let providers: Vec<Provider> =
            all.iter().filter(|p| p.owner == key.user && p.has(key.tag.as_ref())).cloned().collect();
        let verdicts: BTreeMap<_, _> = consumers
            .keys()
            .map(|id| {
                let user = self.workloads.get(id).and_then(|workload| workload.user.as_ref());
                (id.clone(), allowed(&key, &providers, user))
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
        let empty_since = is_empty.then(|| old.and_then(|old| old.empty_since).unwrap_or(now));
        let planned = PlannedService { vip, providers, ports, consumers: verdicts, empty_since, resources };
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
            if by_proxy && is_carried(port) {
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
        let proxy_protocol = providers.iter().any(|provider| provider.settings.proxy_protocol);
        let mut clients: BTreeMap<VirtualPort, Vec<ResourceId>> = BTreeMap::new();
        for (id, dialled) in consumers.iter().filter(|(id, _)| verdicts.get(*id) == Some(&Ok(()))) {
            for (workload, attached) in self.bound_attachments(id) {
                for port in dialled {
                    let mut grant =
                        Planned::new(Resource::Grant(Grant { workload: workload.clone(), vip, port: *port }));
                    if is_carried(*port) {
                        let listener = ListenerKey { service: key.clone(), port: *port };
                        let client =
                            Client { listener: ResourceId::new(&listener.to_string()), ip: attached.ip };
                        if ports.get(port).is_some_and(|port| port.listener.is_some()) {
                            grant.requires.push(client.id());
                            clients.entry(*port).or_default().push(client.id());
                        }
                        // Also without a listener: connections that outlive their service are its own as long as
                        // the grant stands.
                        put(Planned::new(Resource::Client(client)));
                    }
                    put(grant);
                }
            }
        }
        let rule = |port, listener, endpoints: &[Endpoint]| ServicePort {
            service: key.clone(),
            vip,
            port,
            listener,
            // Who wants to be told who called can't be reached past the proxy.
            endpoints: if proxy_protocol { Vec::new() } else { endpoints.to_vec() },
        };
        let never_by_proxy = path(providers) == Path::Kernel;
        for (port, planned) in ports {
            // A service that shall go by the proxy, and for which no listener is left, goes nowhere.
            if planned.listener.is_none() && !never_by_proxy {
                continue;
            }
            let past_the_proxy = planned.routing.routes.iter().filter_map(|route| {
                let exact = VirtualPort::new(port.protocol, route.port);
                let is_own = ports.contains_key(&exact) || route.endpoints.is_empty() || proxy_protocol;
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
                proxy_protocol,
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

    /// The attachments of a container that are bound to a bridge port.
    fn bound_attachments<'a>(&'a self, id: &'a str) -> impl Iterator<Item = (WorkloadId, &'a Attachment)> {
        let attached = self.attached.get(id).into_iter().flatten();
        attached.filter_map(move |attached| {
            let port = attached.port.as_ref().ok()?;
            Some((workload_id(id, port), &attached.attachment))
        })
    }
}

/// Whose service a grant means: the consumer's own user's, else nobody's (LANGUAGE.md). `owners` are those who provide
/// the service of this name.
fn meant(spec: &GrantSpec, own: Option<&UserName>, owners: &Owners) -> Option<UserName> {
    match (&spec.user, own) {
        (Some(user), _) => Some(user.clone()),
        (None, Some(own)) if owners.contains(&Some(own.clone())) || !owners.contains(&None) => {
            Some(own.clone())
        }
        (None, _) => None,
    }
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

/// What an attachment is known by. The bridge port is part of it: a container that comes back behind another port is
/// granted everything anew.
#[must_use]
pub fn workload_id(container: &str, port: &BridgePort) -> WorkloadId {
    let short = container.get(..SHORT_ID).unwrap_or(container);
    WorkloadId::new(&format!("{short}@{}:{}", port.bridge, port.ifindex))
}

fn bind(workload: &Workload, attached: &Attached) -> Option<(ResourceId, Planned)> {
    let port = attached.port.as_ref().ok()?;
    let Attachment { ip, bridge, .. } = &attached.attachment;
    let resource = Resource::Workload(BoundWorkload {
        id: workload_id(&workload.container.id, port),
        ip: *ip,
        mac: attached.mac()?,
        bridge: bridge.clone(),
        port_ifindex: port.ifindex,
        name: workload.container.name.clone(),
        user: workload.user.clone(),
        guarded: false,
    });
    Some((resource.id(), Planned::new(resource)))
}

/// Tells what changed: first what is new or different, then what is gone.
fn compare(old: &Resources, new: &Resources, delta: &mut Delta) {
    for ((agent, id), planned) in new {
        if old.get(&(*agent, id.clone())) != Some(planned) {
            delta.resources.push((*agent, id.clone(), Some(planned.clone())));
        }
    }
    for (agent, id) in old.keys().filter(|key| !new.contains_key(*key)) {
        delta.resources.push((*agent, id.clone(), None));
    }
}

fn new_ones<'a>(old: &'a [Ignored], new: &'a [Ignored]) -> impl Iterator<Item = Ignored> + 'a {
    new.iter().filter(|ignored| !old.contains(ignored)).cloned()
}
