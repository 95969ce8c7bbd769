//! The plan follows from the facts alone, whatever they are and in whatever order they came.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{
    nomad::{ALLOCS, alloc, bridged},
    *,
};
use crate::observe::{AllocNetwork, Elsewhere, Life};

const ASKED: [&str; 6] = ["web:80", "web", "redis:6379/udp", "bob/web:80,redis", "web#v1:80", "w!b"];
const NAMES: [&str; 2] = ["web", "redis"];

#[derive(Debug, Clone)]
enum Event {
    Observe(Observation),
    Port(PortChange),
    Plan,
}

fn any_container() -> impl Strategy<Value = Container> {
    let user = prop::option::of(prop::sample::select(vec!["alice", "bob"]));
    let asked = prop::option::of(prop::sample::select(ASKED.to_vec()));
    let offered = prop::option::of(prop::sample::select(vec!["web:8080", "redis:1", "web:"]));
    let allow = prop::option::of(prop::sample::select(vec!["*", "alice"]));
    let alloc = prop::option::of(prop::sample::select(ALLOCS.to_vec()));
    let bridge = prop::sample::select(vec![None, Some(false), Some(false), Some(true)]);
    (1..5u8, user, asked, offered, allow, alloc, bridge).prop_map(
        |(n, user, asked, offered, allow, alloc, bridge)| {
            let labels = [
                (ALLOC_LABEL, alloc),
                ("steppe.user", user),
                ("steppe.connect_to", asked),
                ("steppe.service", offered),
                ("steppe.allow", allow),
            ];
            let labels: Vec<_> =
                labels.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
            match bridge {
                None => Container { attachments: Vec::new(), ..container(n, &labels) },
                Some(false) => container(n, &labels),
                Some(true) => on_network("alice", container(n, &labels)),
            }
        },
    )
}

fn any_instance() -> impl Strategy<Value = Instance> {
    let node = prop::sample::select(vec![NODE, "n2"]);
    let address = prop::sample::select(vec!["", "172.17.0.2", "172.17.0.3", "10.0.0.7", "x"]);
    let port = prop::sample::select(vec![20_001, 20_003, 8080, 0]);
    let tags = prop::sample::subsequence(
        vec!["v1", "connect_to=web:80", "connect_to=redis", "steppe.weight=7"],
        0..4,
    );
    let id = prop::sample::select(vec![
        "i1".to_owned(),
        "i2".to_owned(),
        format!("_nomad-task-{}-x", ALLOCS[0]),
        format!("_nomad-task-{}-x", ALLOCS[1]),
    ]);
    (node, id, address, port, tags, any::<bool>()).prop_map(|(node, id, address, port, tags, passing)| {
        let mut instance = instance(node, &id, address, port, &tags);
        if !passing {
            instance.health = Health::Critical("sick".into());
        }
        instance
    })
}

fn any_alloc() -> impl Strategy<Value = Alloc> {
    let network = prop::sample::select(vec![AllocNetwork::Task, AllocNetwork::Host, bridged(4)]);
    let namespace = prop::sample::select(vec!["default", "alice", "no/user"]);
    let asks = prop::option::of(prop::sample::select(ASKED.to_vec()));
    let life = prop_oneof![4 => Just(Life::Placed), 1 => Just(Life::Stopping), 1 => Just(Life::Dead)];
    (prop::sample::select(ALLOCS.to_vec()), namespace, network, asks, life).prop_map(
        |(id, namespace, network, asks, life)| Alloc {
            life,
            ..alloc(id, namespace, network, asks.as_slice())
        },
    )
}

fn any_elsewhere() -> impl Strategy<Value = Observation> {
    let says = prop_oneof![
        any_alloc().prop_map(|alloc| Elsewhere::Found(Arc::new(alloc))),
        Just(Elsewhere::Unknown),
        Just(Elsewhere::Denied),
    ];
    (prop::sample::select(ALLOCS.to_vec()), says)
        .prop_map(|(id, says)| Observation::AllocElsewhere(id.into(), says))
}

fn any_event() -> impl Strategy<Value = Event> {
    let observe = |observation| Event::Observe(observation);
    prop_oneof![
        4 => any_container().prop_map(Observation::Container).prop_map(observe),
        1 => prop::collection::vec(any_container(), 0..3)
            .prop_map(|containers| {
                let by_id: BTreeMap<_, _> = containers.into_iter().map(|c| (c.id.clone(), c)).collect();
                Event::Observe(Observation::Containers(by_id.into_values().collect()))
            }),
        1 => (1..5u8).prop_map(|n| Event::Observe(Observation::ContainerGone(container(n, &[]).id))),
        2 => prop::collection::vec(any_instance(), 0..3)
            .prop_map(|instances| Event::Observe(Observation::Registrations { node: NODE.into(), instances })),
        3 => (prop::sample::select(NAMES.to_vec()), prop::collection::vec(any_instance(), 0..4))
            .prop_map(|(service, instances)| Event::Observe(Observation::Instances(SourceName::Consul, name(service), instances))),
        2 => prop::collection::vec(any_alloc(), 0..3)
            .prop_map(|allocs| {
                let by_id: BTreeMap<_, _> = allocs.into_iter().map(|a| (a.id.clone(), Arc::new(a))).collect();
                Event::Observe(Observation::Allocs(by_id.into_values().collect()))
            }),
        2 => any_elsewhere().prop_map(observe),
        1 => prop::collection::vec(any_instance(), 0..3).prop_map(|instances| {
            let nomads = instances.into_iter().map(|i| Instance { source: SourceName::Nomad, ..i }).collect();
            Event::Observe(Observation::Instances(SourceName::Nomad, name("web"), nomads))
        }),
        2 => (1..5u8).prop_map(|n| Event::Port(PortChange::Present(port(n)))),
        2 => (1..5u8).prop_map(|n| Event::Port(PortChange::Present(port_on("alice", n)))),
        2 => prop::sample::subsequence(vec!["alice", "bob"], 0..3).prop_map(|users| {
            Event::Observe(Observation::Networks(users.into_iter().map(network).collect()))
        }),
        2 => (prop::sample::select(vec!["alice", "bob"]), prop::sample::subsequence(NAMES.to_vec(), 0..3))
            .prop_map(|(user, names)| {
                let names = names.into_iter().map(name).collect();
                Event::Observe(Observation::ServicesOf(user.parse().unwrap(), names))
            }),
        1 => (1..5u8).prop_map(|n| Event::Port(PortChange::Gone(100 + u32::from(n)))),
        4 => Just(Event::Plan),
    ]
}

/// The facts that the events leave standing.
#[derive(Default)]
struct Facts {
    containers: BTreeMap<Arc<str>, Container>,
    registrations: Option<Observation>,
    instances: HashMap<(ServiceName, SourceName), Vec<Instance>>,
    allocs: Option<Observation>,
    elsewhere: BTreeMap<Arc<str>, Elsewhere>,
    networks: Option<Observation>,
    services_of: BTreeMap<UserName, BTreeSet<ServiceName>>,
    /// Services that their own user was seen to provide while they were asked for: that is remembered.
    own_seen: BTreeSet<ServiceKey>,
    ports: BTreeMap<u32, BridgePort>,
}

impl Facts {
    fn note(&mut self, event: &Event) {
        match event.clone() {
            Event::Observe(Observation::Containers(all)) => {
                self.containers = all.into_iter().map(|c| (c.id.clone(), c)).collect();
            }
            Event::Observe(Observation::Container(one)) => {
                self.containers.insert(one.id.clone(), one);
            }
            Event::Observe(Observation::ContainerGone(id)) => {
                self.containers.remove(&id);
            }
            Event::Observe(Observation::Instances(source, name, instances)) => {
                self.instances.insert((name, source), instances);
            }
            Event::Observe(allocs @ Observation::Allocs(_)) => self.allocs = Some(allocs),
            Event::Observe(Observation::AllocElsewhere(id, says)) => {
                self.elsewhere.insert(id, says);
            }
            Event::Observe(networks @ Observation::Networks(_)) => self.networks = Some(networks),
            Event::Observe(Observation::ServicesOf(user, names)) => {
                self.services_of.insert(user, names);
            }
            Event::Observe(registrations) => self.registrations = Some(registrations),
            Event::Port(PortChange::Present(port)) => {
                self.ports.insert(port.ifindex, port);
            }
            Event::Port(PortChange::Gone(ifindex)) => {
                self.ports.remove(&ifindex);
            }
            Event::Port(PortChange::Listed(_)) | Event::Plan => {}
        }
    }

    /// What is forgotten with the last instance, or the last who asked.
    fn forget(&mut self, planner: &Planner) {
        self.instances.retain(|(name, _), _| planner.wanted().any(|wanted| wanted == name));
        let instances = || self.instances.values().flatten();
        self.services_of.retain(|user, _| planner.tenants.wants(user));
        let seen = planner.services.iter().filter(|(_, planned)| planned.own_seen);
        self.own_seen = seen.map(|(key, _)| key.clone()).collect();
        self.elsewhere.retain(|id, _| instances().any(|i| registered_alloc(i) == Some(&**id)));
    }

    /// A planner that learns all of them at once, in another order.
    fn afresh(self) -> World {
        let mut planner = planner();
        let mut world = World::default();
        self.registrations.into_iter().for_each(|registrations| planner.observe(registrations));
        if let Some(allocs) = self.allocs {
            planner.observe(allocs);
        }
        planner.observe(Observation::Containers(self.containers.into_values().rev().collect()));
        world.apply(planner.plan(Instant::now()));
        planner.observe_port(PortChange::Listed(self.ports.into_values().rev().collect()));
        if let Some(networks) = self.networks {
            planner.observe(networks);
            world.apply(planner.plan(Instant::now()));
        }
        for (user, names) in self.services_of {
            planner.observe(Observation::ServicesOf(user, names));
        }
        world.apply(planner.plan(Instant::now()));
        for key in self.own_seen {
            if let Some(planned) = planner.services.get_mut(&key) {
                planned.own_seen = true;
                planner.dirty_names.insert(key.name);
            }
        }
        for ((name, source), instances) in self.instances {
            planner.observe(Observation::Instances(source, name, instances));
        }
        for (id, says) in self.elsewhere {
            planner.observe(Observation::AllocElsewhere(id, says));
        }
        world.apply(planner.plan(Instant::now()));
        world
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever happened in whatever order, the plan is the one that the facts of now call for.
    #[test]
    fn the_plan_follows_from_the_facts_alone(events in prop::collection::vec(any_event(), 0..40)) {
        let mut planner = planner();
        let mut facts = Facts::default();
        let mut world = World::default();
        for event in events {
            // A catalogue answers only for what is wanted.
            if let Event::Observe(Observation::Instances(_, name, _)) = &event
                && !planner.wanted().any(|wanted| wanted == name) { continue; }
            facts.note(&event);
            match event {
                Event::Observe(observation) => planner.observe(observation),
                Event::Port(change) => { planner.observe_port(change); }
                Event::Plan => {}
            }
            world.apply(planner.plan(Instant::now()));
            facts.forget(&planner);
        }
        prop_assert!(planner.plan(Instant::now()).resources.is_empty());
        prop_assert_eq!(world.0, facts.afresh().0);
    }

    /// No right without a grant: whoever has a Client or a Grant has asked for that service.
    #[test]
    fn nobody_is_granted_what_was_not_asked(containers in prop::collection::vec(any_container(), 0..5)) {
        let mut planner = planner();
        planner.observe_port(PortChange::Listed((1..5).map(port).collect()));
        let world = settle(&mut planner, vec![Observation::Containers(containers.clone())]);
        for planned in world.0.values() {
            if let Resource::Client(client) = &*planned.resource {
                let of_ip = containers.iter().rev().find(|c| c.attachments.iter().any(|a| a.ip == client.ip));
                let asked = of_ip.and_then(|c| c.labels.get("steppe.connect_to")).cloned().unwrap_or_default();
                let service = client.listener.as_str().split([':', '#']).next().unwrap_or_default();
                let service = service.rsplit('/').next().unwrap_or_default();
                prop_assert!(asked.contains(service), "{client:?} asked {asked:?}");
            }
        }
    }
}
