//! What Nomad tells: whose a workload is, what it asks for, and where an instance of an allocation is dialled.

use super::*;
use crate::observe::{AllocNetwork, AllocPort, AllocService, Ask, Elsewhere, Life};

pub(super) const ALLOCS: [&str; 2] =
    ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];

pub(super) fn alloc(id: &str, namespace: &str, network: AllocNetwork, asks: &[&str]) -> Alloc {
    let ask = |text: &&str| Ask { origin: "tag of service api (job api)".into(), text: (*text).into() };
    Alloc {
        id: id.into(),
        namespace: namespace.into(),
        user_in_meta: Some("meta".into()),
        user_in_labels: Some("label".into()),
        job: "api".into(),
        group: "g".into(),
        name: "api.g[0]".into(),
        node: "nomad-n2".into(),
        life: Life::Placed,
        network,
        ports: vec![AllocPort {
            label: "http".into(),
            host_ip: [10, 0, 0, 9].into(),
            host_port: 24_011,
            to: 8080,
        }],
        asks: asks.iter().map(ask).collect(),
        services: vec![AllocService {
            name: "web".into(),
            settings: BTreeMap::from([("weight".into(), "9".into())]),
            tags: Vec::new(),
            port: None,
        }],
    }
}

/// Bridge mode, with the address that [`port`] `n` has on Nomad's bridge.
pub(super) fn bridged(n: u8) -> AllocNetwork {
    AllocNetwork::Bridge { address: Some([172, 17, 0, n].into()), ports_known: u64::MAX }
}

pub(super) fn of_alloc(n: u8, alloc: &str, labels: &[(&str, &str)]) -> Container {
    container(n, &[&[(ALLOC_LABEL, alloc)], labels].concat())
}

pub(super) fn registration(alloc: &str) -> String {
    format!("_nomad-task-{alloc}-group-g-web-http")
}

pub(super) fn listed(alloc: Alloc) -> Observation {
    Observation::Allocs(vec![Arc::new(alloc)])
}

fn has_grant(world: &World) -> bool {
    world.0.values().any(|planned| matches!(&*planned.resource, Resource::Grant(_)))
}

#[test]
fn a_job_grants_before_anything_is_registered() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let world = settle(
        &mut planner,
        vec![
            listed(alloc(ALLOCS[0], "alice", AllocNetwork::Task, &["web:80"])),
            Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[("steppe.user", "root")])]),
        ],
    );
    assert!(has_grant(&world));
    let (workload, _) = planner.workloads().next().unwrap();
    assert_eq!(workload.user, Some("alice".parse().unwrap()), "the namespace, whatever the labels say");
    assert!(planner.services().contains_key(&"alice/web".parse_key()));
}

#[test]
fn an_allocation_in_bridge_mode_is_found_by_its_address_and_sends_from_the_kernels_hardware_address() {
    let mut planner = planner();
    let on_nomads = BridgePort { bridge: "nomad".into(), ..port(4) };
    planner.observe_port(PortChange::Listed(vec![on_nomads, port(3)]));
    let pause = Container { attachments: Vec::new(), ..of_alloc(9, ALLOCS[0], &[]) };
    let mut world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![pause]),
            listed(alloc(ALLOCS[0], "default", bridged(4), &["web:80"])),
        ],
    );
    let bound = world.0.values().find_map(|planned| match &*planned.resource {
        Resource::Workload(bound) => Some(bound.clone()),
        _ => None,
    });
    let bound = bound.unwrap();
    assert_eq!((bound.ip, bound.mac), ([172, 17, 0, 4].into(), port(4).mac));
    assert!(has_grant(&world));
    // Docker's next full listing says nothing of it.
    planner.observe(Observation::Containers(Vec::new()));
    world.apply(planner.plan(Instant::now()));
    assert!(has_grant(&world));
    planner.observe(Observation::Allocs(Vec::new()));
    world.apply(planner.plan(Instant::now()));
    assert!(world.0.is_empty(), "{:?}", world.ids());
}

#[test]
fn an_address_that_was_read_before_its_port_was_seen_proves_nothing() {
    let mut planner = planner();
    let network = |ports_known| AllocNetwork::Bridge { address: Some([172, 17, 0, 4].into()), ports_known };
    planner.observe_port(PortChange::Listed(Vec::new()));
    planner.observe(listed(alloc(ALLOCS[0], "default", network(1), &["web:80"])));
    planner.observe_port(PortChange::Present(BridgePort { bridge: "nomad".into(), ..port(4) }));
    let delta = planner.plan(Instant::now());
    assert_eq!(delta.reread_allocs, BTreeSet::from([ALLOCS[0].into()]));
    planner.observe(listed(alloc(ALLOCS[0], "default", network(2), &["web:80"])));
    let mut world = World::default();
    world.apply(planner.plan(Instant::now()));
    assert!(has_grant(&world));
}

#[test]
fn the_hosts_network_gives_no_grant() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let world =
        settle(&mut planner, vec![listed(alloc(ALLOCS[0], "default", AllocNetwork::Host, &["web:80"]))]);
    assert!(!has_grant(&world));
    let (workload, attached) = planner.workloads().next().unwrap();
    assert!(attached.is_empty() && workload.asked.len() == 1);
}

/// Consul's registration of an instance on another node, and a consumer here that asks for it.
fn with_instance_elsewhere(address: &str, port: u16) -> (Planner, World) {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![super::port(1)]));
    let instances = vec![instance("n2", &registration(ALLOCS[1]), address, port, &[])];
    let world = settle(
        &mut planner,
        vec![
            listed(alloc(ALLOCS[0], "default", AllocNetwork::Task, &["web:80"])),
            Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])]),
            Observation::Instances(SourceName::Consul, name("web"), instances),
        ],
    );
    (planner, world)
}

#[test]
fn a_container_elsewhere_with_an_address_that_is_somebodys_here_is_dialled_at_its_published_port() {
    // 172.17.0.1 is the consumer itself, on this host.
    let (mut planner, mut world) = with_instance_elsewhere("172.17.0.1", 8080);
    assert!(planner.unanswered(&[SourceName::Consul]).contains(&name("web")), "nobody knows yet whose it is");
    assert_eq!(world.endpoints_of("default/web"), Vec::<String>::new());
    let there = alloc(ALLOCS[1], "default", AllocNetwork::Task, &[]);
    planner.observe(Observation::AllocElsewhere(ALLOCS[1].into(), Elsewhere::Found(Arc::new(there.clone()))));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.endpoints("default/web:80/tcp"), ["10.0.0.9:24011"]);
    assert!(planner.unanswered(&[SourceName::Consul]).is_empty());
    let provider = &planner.services()[&"default/web".parse_key()].providers[0];
    assert_eq!((provider.container_port, provider.settings.weight), (Some(8080), 9));

    // Without a published port it can't be dialled.
    let unpublished = Alloc { ports: Vec::new(), ..there };
    planner.observe(Observation::AllocElsewhere(ALLOCS[1].into(), Elsewhere::Found(Arc::new(unpublished))));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.endpoints("default/web:80/tcp"), Vec::<String>::new());
}

/// What is dialled for each of these services after Nomad said this of the instance's allocation.
fn dialled(says: Elsewhere, services: [&str; 2]) -> [Vec<String>; 2] {
    let (mut planner, mut world) = with_instance_elsewhere("", 24_011);
    planner.observe(Observation::AllocElsewhere(ALLOCS[1].into(), says));
    world.apply(planner.plan(Instant::now()));
    services.map(|service| world.endpoints_of(service))
}

#[test]
fn the_allocation_says_whose_an_instance_elsewhere_is() {
    let found = |namespace| Elsewhere::Found(Arc::new(alloc(ALLOCS[1], namespace, AllocNetwork::Task, &[])));
    let services = ["default/web", "web"];
    let nothing = [const { Vec::<String>::new() }; 2];
    assert_eq!(dialled(found("default"), services), [vec!["10.0.0.9:24011".to_owned()], Vec::new()]);
    assert_eq!(dialled(found("bob"), services), nothing, "bob's");
    // Whose it is can't be told: it would be open to everybody.
    assert_eq!(dialled(Elsewhere::Unknown, services), nothing);
    assert_eq!(dialled(Elsewhere::Denied, services), nothing);
}

#[test]
fn what_no_allocation_registered_is_nobodys_and_stands_in_for_the_users_own() {
    let (mut planner, mut world) = with_instance_elsewhere("", 24_011);
    let by_hand = instance("n2", "web-1", "", 24_011, &[]);
    planner.observe(Observation::Instances(SourceName::Consul, name("web"), vec![by_hand]));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.endpoints_of("default/web"), ["10.0.0.9:24011"]);
    assert!(!planner.services()[&"default/web".parse_key()].are_own);
}

#[test]
fn a_service_is_looked_for_in_the_namespaces_that_may_be_meant() {
    let mut planner = planner();
    let mut wanted = |allocs: Vec<Alloc>| {
        planner.observe(Observation::Allocs(allocs.into_iter().map(Arc::new).collect()));
        let is_told = planner.plan(Instant::now()).wanted_changed;
        let wanted = planner.wanted_by_user().into_iter().map(|(name, users)| {
            format!("{name} {}", users.iter().map(|user| user.as_str()).collect::<Vec<_>>().join(","))
        });
        (is_told, wanted.collect::<Vec<_>>())
    };
    let [first, second] = ALLOCS;
    let own = || alloc(first, "alice", AllocNetwork::Host, &["web,bob/pg"]);
    let expected = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(wanted(vec![own()]), (true, expected(&["pg bob", "web alice"])));
    let others = alloc(second, "bob", AllocNetwork::Host, &["web"]);
    let both = expected(&["pg bob", "web alice,bob"]);
    assert_eq!(wanted(vec![own(), others.clone()]), (true, both.clone()), "the name was wanted before");
    assert_eq!(wanted(vec![own(), others]), (false, both));
    assert_eq!(wanted(vec![own()]), (true, expected(&["pg bob", "web alice"])));
    assert_eq!(wanted(vec![]), (true, vec![]));
}

#[test]
fn nomad_is_asked_of_the_allocations_elsewhere_and_of_no_others() {
    let (mut planner, _) = with_instance_elsewhere("", 24_011);
    let mut wanted = |instances| {
        planner.observe(Observation::Instances(SourceName::Consul, name("web"), instances));
        planner.plan(Instant::now()).wanted_allocs
    };
    assert_eq!(wanted(vec![instance("n2", &registration(ALLOCS[1]), "", 24_011, &[])]), None, "asked before");
    let both = ALLOCS.map(|alloc| instance("n2", &registration(alloc), "", 24_011, &[]));
    assert_eq!(wanted(both.into()), None, "the other is on this node");
    assert_eq!(wanted(Vec::new()), Some(BTreeSet::new()));
}

/// A consumer, and the one instance of what it asks for on this host, as Consul has it whatever Nomad says.
struct Here {
    planner: Planner,
    world: World,
    consumer: Alloc,
}

impl Here {
    fn new() -> Self {
        let mut planner = planner();
        planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
        let consumer = alloc(ALLOCS[1], "default", AllocNetwork::Task, &["web"]);
        let instances = vec![instance(NODE, &registration(ALLOCS[0]), "", 20_002, &[])];
        let facts = vec![
            Observation::Allocs(vec![Arc::new(consumer.clone()), Arc::new(Self::provider(Life::Placed))]),
            Observation::Containers(vec![of_alloc(1, ALLOCS[1], &[]), of_alloc(2, ALLOCS[0], &[])]),
            Observation::Instances(SourceName::Consul, name("web"), instances),
        ];
        let world = settle(&mut planner, facts);
        Self { planner, world, consumer }
    }

    fn provider(life: Life) -> Alloc {
        Alloc { life, ..alloc(ALLOCS[0], "default", AllocNetwork::Task, &["pg"]) }
    }

    fn tell(&mut self, others: Vec<Alloc>) {
        let all = others.into_iter().chain([self.consumer.clone()]).map(Arc::new);
        self.planner.observe(Observation::Allocs(all.collect()));
        self.world.apply(self.planner.plan(Instant::now()));
    }
}

#[test]
fn a_dead_allocation_takes_its_endpoints_with_it_whatever_the_catalogue_says() {
    let mut here = Here::new();
    assert_eq!(here.world.endpoints_of("default/web"), ["172.17.0.2:8080"]);
    here.tell(vec![Here::provider(Life::Dead)]);
    assert_eq!(here.world.endpoints_of("default/web"), Vec::<String>::new());
    // Nomad has forgotten it, and its servers too.
    here.tell(Vec::new());
    here.planner.observe(Observation::AllocElsewhere(ALLOCS[0].into(), Elsewhere::Unknown));
    here.world.apply(here.planner.plan(Instant::now()));
    assert_eq!(here.world.endpoints_of("web"), Vec::<String>::new());
}

#[test]
fn an_allocation_that_stops_gets_no_new_connections_and_keeps_its_own_grants() {
    let mut here = Here::new();
    let asks = |planner: &Planner| planner.wanted().any(|wanted| *wanted == name("pg"));
    here.tell(vec![Here::provider(Life::Stopping)]);
    assert_eq!(here.world.endpoints_of("default/web"), Vec::<String>::new());
    let providers = &here.planner.services()[&"default/web".parse_key()].providers;
    assert!(providers[0].address.is_err_and(|why| why.contains("being stopped")), "{providers:?}");
    assert!(asks(&here.planner));
}

#[test]
fn an_instance_that_both_catalogues_have_is_one_and_consul_knows_its_health() {
    let (mut planner, mut world) = with_instance_elsewhere("", 24_011);
    let there = alloc(ALLOCS[1], "default", AllocNetwork::Task, &[]);
    planner.observe(Observation::AllocElsewhere(ALLOCS[1].into(), Elsewhere::Found(Arc::new(there))));
    let nomads = Instance {
        source: SourceName::Nomad,
        namespace: Some("default".into()),
        ..instance("a-node-id", &registration(ALLOCS[1]), "10.0.0.9", 24_011, &["v2"])
    };
    planner.observe(Observation::Instances(SourceName::Nomad, name("web"), vec![nomads]));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.endpoints("default/web:80/tcp"), ["10.0.0.9:24011"]);
    let providers = &planner.services()[&"default/web".parse_key()].providers;
    assert_eq!((providers.len(), providers[0].source), (1, SourceName::Consul));
    assert_eq!(providers[0].tags, ["v2"]);
    let sick = Instance {
        health: Health::Critical("HTTP 503".into()),
        ..instance("n2", &registration(ALLOCS[1]), "", 24_011, &[])
    };
    planner.observe(Observation::Instances(SourceName::Consul, name("web"), vec![sick]));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.endpoints("default/web:80/tcp"), Vec::<String>::new());
}
