//! Published ports, and who may dial them.

use steppe_model::Expose;

use super::{
    nomad::{ALLOCS, alloc, bridged, listed, of_alloc, registration},
    *,
};
use crate::observe::{Alloc, AllocNetwork, AllocPort, AllocService};

fn published(world: &World) -> Vec<steppe_model::PublishedPort> {
    let ports = world.0.values().filter_map(|planned| match &*planned.resource {
        Resource::PublishedPort(port) => Some(port.clone()),
        _ => None,
    });
    ports.collect()
}

/// Who may dial the port of a container with these labels, and of whom the catalogue has these registrations.
fn exposed(labels: &[(&str, &str)], instances: Vec<Instance>) -> Expose {
    let mut planner = planner();
    let labels = [&[("steppe.user", "alice")], labels].concat();
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![container(1, &labels)]),
            Observation::Registrations { node: NODE.into(), instances },
        ],
    );
    published(&world)[0].expose
}

#[test]
fn a_port_opens_as_its_instance_says() {
    let host = || instance(NODE, "a", "", 20_001, &["steppe.expose=host"]);
    let by_address = instance(NODE, "b", "172.17.0.1", 8080, &["steppe.expose=public"]);
    let other_port = instance(NODE, "c", "172.17.0.1", 9090, &["steppe.expose=public"]);
    let silent = instance(NODE, "d", "", 20_001, &[]);
    let nonsense = instance(NODE, "e", "", 20_001, &["steppe.expose=all"]);
    assert_eq!(exposed(&[], vec![]), Expose::Proxies);
    assert_eq!(exposed(&[], vec![host()]), Expose::Host);
    assert_eq!(exposed(&[], vec![by_address.clone()]), Expose::Public);
    assert_eq!(exposed(&[], vec![by_address.clone(), host()]), Expose::Host, "the narrowest");
    assert_eq!(exposed(&[], vec![host(), silent]), Expose::Proxies);
    assert_eq!(exposed(&[], vec![nonsense]), Expose::Proxies);
    assert_eq!(exposed(&[], vec![other_port]), Expose::Proxies, "another port's");
    assert_eq!(exposed(&[("steppe.expose", "cluster")], vec![]), Expose::Cluster);
    assert_eq!(exposed(&[("steppe.expose", "cluster")], vec![by_address]), Expose::Cluster, "the label");
}

#[test]
fn a_jobs_own_words_count_before_anything_is_registered() {
    let mut planner = planner();
    let service = |port: &str, settings: &[(&str, &str)], tags: &[&str]| AllocService {
        name: "web".into(),
        settings: settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        tags: tags.iter().map(ToString::to_string).collect(),
        port: Some((Protocol::Tcp, port.into())),
    };
    let own = AllocPort { label: "http".into(), host_ip: [10, 0, 0, 9].into(), host_port: 20_001, to: 8080 };
    let mut expose = |services: Vec<AllocService>| {
        let alloc = Alloc {
            services,
            ports: vec![own.clone()],
            ..alloc(ALLOCS[0], "alice", AllocNetwork::Task, &[])
        };
        planner.observe(listed(alloc));
        planner.observe(Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])]));
        planner.plan(Instant::now());
        let planned = planner.published.told(&ResourceId::new("published 20001/tcp")).unwrap();
        let Resource::PublishedPort(port) = &*planned.resource else { panic!("{planned:?}") };
        port.expose
    };
    assert_eq!(expose(vec![service("http", &[("expose", "cluster")], &[])]), Expose::Cluster);
    let tagged = service("http", &[("expose", "cluster")], &["steppe.expose=public"]);
    assert_eq!(expose(vec![tagged.clone()]), Expose::Public);
    assert_eq!(expose(vec![service("other", &[], &[]), tagged.clone()]), Expose::Public);
    assert_eq!(expose(vec![service("8080", &[], &[]), tagged]), Expose::Proxies);
}

#[test]
fn a_port_is_of_the_workload_that_it_leads_to_as_long_as_that_is_bound() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let mut world = settle(
        &mut planner,
        vec![Observation::Containers(vec![container(1, &[("steppe.user", "alice")]), container(2, &[])])],
    );
    let port = published(&world).remove(0);
    let id = workload_id(&container(1, &[]).id, &super::port(1));
    assert_eq!((port.workload, port.user), (Some(id), Some("alice".parse().unwrap())));
    assert_eq!(published(&world).len(), 1, "who has nothing to do with Steppe is left alone");
    planner.observe_port(PortChange::Gone(101));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(published(&world)[0].workload, None);
}

#[test]
fn a_port_that_passes_to_the_next_container_is_its_whatever_is_told_first() {
    let asks = |n: u8| {
        let next = container(n, &[("steppe.user", "alice")]);
        let published = PublishedPort { host_port: 20_009, ..next.published[0].clone() };
        Container { published: vec![published], ..next }
    };
    for (first, second) in [(1, 2), (2, 1)] {
        let mut planner = planner();
        let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks(first)])]);
        planner.observe(Observation::ContainerGone(asks(first).id));
        planner.observe(Observation::Container(asks(second)));
        world.apply(planner.plan(Instant::now()));
        assert_eq!(published(&world)[0].name, asks(second).name);
    }
}

#[test]
fn a_port_is_shut_at_the_addresses_that_it_is_published_at() {
    let at = |n: u8, host_ips: &[&str]| {
        let next = container(n, &[("steppe.user", "alice")]);
        let one = PublishedPort { host_port: 20_009, ..next.published[0].clone() };
        let published =
            host_ips.iter().map(|ip| PublishedPort { host_ip: ip.parse().unwrap(), ..one.clone() });
        Container { published: published.collect(), ..next }
    };
    let addresses = |containers: Vec<Container>| {
        let world = settle(&mut planner(), vec![Observation::Containers(containers)]);
        let told = published(&world);
        assert_eq!(told.len(), 1);
        told[0].addresses.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(addresses(vec![at(1, &["127.0.0.1"])]), ["127.0.0.1"]);
    assert_eq!(addresses(vec![at(1, &["127.0.0.1", "10.0.0.9"])]), ["10.0.0.9", "127.0.0.1"]);
    assert_eq!(addresses(vec![at(1, &["127.0.0.1"]), at(2, &["10.0.0.9"])]), ["10.0.0.9", "127.0.0.1"]);
    for all in ["0.0.0.0", "::", "::1"] {
        assert!(addresses(vec![at(1, &["127.0.0.1", all])]).is_empty(), "{all}");
        assert!(addresses(vec![at(1, &["127.0.0.1"]), at(2, &[all])]).is_empty(), "{all}");
    }
    let many: Vec<_> = (0..=64).map(|n| format!("10.0.0.{n}")).collect();
    assert!(addresses(vec![at(1, &many.iter().map(String::as_str).collect::<Vec<_>>())]).is_empty());
}

#[test]
fn an_allocation_publishes_both_protocols_in_bridge_mode_and_nothing_on_the_hosts_network() {
    let ports = |network| {
        let world = settle(&mut planner(), vec![listed(alloc(ALLOCS[0], "alice", network, &[]))]);
        published(&world).iter().map(|port| port.id().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(ports(bridged(4)), ["published 24011/tcp", "published 24011/udp"]);
    assert_eq!(ports(AllocNetwork::Host), Vec::<String>::new());
}

#[test]
fn a_registration_of_an_allocation_opens_its_own_port_alone() {
    let mut planner = planner();
    let opens = |alloc: &str| instance(NODE, &registration(alloc), "", 20_001, &["steppe.expose=public"]);
    let world = settle(
        &mut planner,
        vec![
            listed(alloc(ALLOCS[0], "alice", AllocNetwork::Task, &[])),
            Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])]),
            Observation::Registrations { node: NODE.into(), instances: vec![opens(ALLOCS[1])] },
        ],
    );
    assert_eq!(published(&world)[0].expose, Expose::Proxies);
}
