//! By subject. What they share is in [`fixtures`].

use std::net::{Ipv4Addr, SocketAddrV4};

use steppe_model::{Mac, Protocol};

use super::*;
use crate::{
    observe::{Attach, Attachment, Container, Health, Observation, PublishedPort, SourceName},
    plan::{
        BridgePort, PortChange,
        workload::{ALLOC_LABEL, registered_alloc},
        workload_id,
    },
};

mod claims;
mod fixtures;
mod members;
mod names;
mod networks;
mod nomad;
mod places;
mod properties;
mod published;
mod users;
mod wishes;

use fixtures::*;

#[test]
fn a_label_grants_on_one_host() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let world = settle(
        &mut planner,
        vec![Observation::Containers(vec![
            container(1, &[("steppe.connect_to", "web:80")]),
            container(2, &[("steppe.service", "web:8080")]),
        ])],
    );
    assert_eq!(world.endpoints("web:80/tcp"), ["172.17.0.2:8080"]);
    let vip = planner.services().values().next().unwrap().vip.unwrap();
    let short = "0".repeat(12);
    let expected = [
        "web:80/tcp".to_owned(),
        "web:80/tcp < 172.17.0.1".to_owned(),
        format!("{short}@docker0:101"),
        format!("{short}@docker0:101 > {vip}:80/tcp"),
        format!("{short}@docker0:102"),
        vip.to_string(),
        format!("{vip}:80/tcp"),
        "published 20001/tcp".to_owned(),
        "published 20002/tcp".to_owned(),
        "asker 172.17.0.1".to_owned(),
        "asker 172.17.0.2".to_owned(),
    ];
    assert_eq!(world.ids(), expected);
}

#[test]
fn a_rule_requires_its_listener_and_clients() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let containers = vec![
        container(1, &[("steppe.connect_to", "web:80")]),
        container(2, &[("steppe.service", "web:8080")]),
    ];
    let world = settle(&mut planner, vec![Observation::Containers(containers)]);
    for ((agent, _), planned) in &world.0 {
        let required: Vec<_> = planned.requires.iter().map(ResourceId::as_str).collect();
        match &*planned.resource {
            Resource::ServicePort(_) => assert_eq!(required, ["web:80/tcp < 172.17.0.1", "web:80/tcp"]),
            Resource::Grant(_) => assert_eq!(required, ["web:80/tcp < 172.17.0.1"]),
            Resource::Asker(_) => {}
            _ => assert!(required.is_empty(), "{agent:?} {planned:?}"),
        }
    }
}

#[test]
fn a_service_without_an_endpoint_keeps_its_grant_and_has_no_port() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let asks = container(1, &[("steppe.connect_to", "web:80")]);
    let mut sick = instance("n2", "w", "", 80, &[]);
    sick.health = Health::Critical("503".into());
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![asks]),
            Observation::Instances(SourceName::Consul, name("web"), vec![sick]),
        ],
    );
    let kinds = world.0.values().map(|planned| match &*planned.resource {
        Resource::Listener(listener) => format!("listener {}", listener.endpoints.len()),
        Resource::Client(_) => "client".into(),
        Resource::Workload(_) => "workload".into(),
        Resource::VirtualIp(_) => "virtual ip".into(),
        Resource::ServicePort(_) => "service port".into(),
        Resource::Grant(_) => "grant".to_owned(),
        other => other.id().to_string(),
    });
    let expected = [
        "listener 0",
        "client",
        "workload",
        "grant",
        "virtual ip",
        "published 20001/tcp",
        "asker 172.17.0.1",
    ];
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[test]
fn a_tag_grants_by_the_published_port_or_the_address() {
    for (address, registered) in [("", 20_001), ("10.0.0.9", 20_001), ("172.17.0.1", 9)] {
        let mut planner = planner();
        planner.observe_port(PortChange::Listed(vec![port(1)]));
        let tagged = instance(NODE, "api-1", address, registered, &["connect_to=web:80"]);
        let world = settle(
            &mut planner,
            vec![
                Observation::Containers(vec![container(1, &[])]),
                Observation::Registrations { node: NODE.into(), instances: vec![tagged] },
                Observation::Instances(
                    SourceName::Consul,
                    name("web"),
                    vec![instance("n2", "w", "", 24_011, &[])],
                ),
            ],
        );
        assert_eq!(world.endpoints("web:80/tcp"), ["10.0.0.9:24011"], "{address}");
    }
}

#[test]
fn an_instance_on_this_host_is_dialled_at_its_container_and_a_remote_containers_address_not_at_all() {
    let mut planner = planner();
    let instances = vec![
        instance(NODE, "here", "", 20_002, &[]),
        instance("n2", "there", "10.0.0.7", 24_011, &[]),
        instance("n2", "next-door", "172.17.0.2", 8080, &[]),
        instance("n2", "loopback", "127.0.0.1", 8080, &[]),
        instance("n2", "name", "web.example", 8080, &[]),
    ];
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![
                container(1, &[("steppe.connect_to", "web:80")]),
                container(2, &[]),
            ]),
            Observation::Instances(SourceName::Consul, name("web"), instances),
        ],
    );
    assert_eq!(world.endpoints("web:80/tcp"), ["10.0.0.7:24011", "172.17.0.2:8080"]);
    let planned = planner.services().values().next().unwrap();
    let left_out = planned.providers.iter().filter(|provider| provider.address.is_err());
    assert_eq!(left_out.map(|provider| &*provider.id).collect::<Vec<_>>(), ["loopback", "name", "next-door"]);
}

#[test]
fn what_this_node_registers_elsewhere_is_no_container_of_its_own() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let consumer = container(1, &[("steppe.connect_to", "web:80")]);
    // Port 20002 is published here as well, by somebody else.
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![consumer, container(2, &[])]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![instance(NODE, "far", "10.0.0.7", 20_002, &[])],
            ),
        ],
    );
    assert_eq!(world.endpoints("web:80/tcp"), ["10.0.0.7:20002"]);
}

#[test]
fn a_dead_allocations_registration_is_not_the_next_containers() {
    let mut planner = planner();
    let old = "_nomad-task-11111111-1111-1111-1111-111111111111-web";
    let next = [("com.hashicorp.nomad.alloc_id", "22222222-2222-2222-2222-222222222222")];
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![
                container(1, &[("steppe.connect_to", "web:80")]),
                container(2, &next),
            ]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![instance(NODE, old, "172.17.0.2", 8080, &[])],
            ),
        ],
    );
    assert!(world.endpoints("web:80/tcp").is_empty());
}

#[test]
fn a_registration_that_no_container_has_is_named_until_one_has() {
    let mut planner = planner();
    let tagged = instance(NODE, "api-1", "172.17.0.1", 9, &["connect_to=web:80"]);
    settle(&mut planner, vec![Observation::Registrations { node: NODE.into(), instances: vec![tagged] }]);
    assert_eq!(
        planner.ignored().map(|ignored| ignored.origin).collect::<Vec<_>>(),
        ["tag of Consul service api-1".into()]
    );
    settle(&mut planner, vec![Observation::Containers(vec![container(1, &[])])]);
    assert_eq!(planner.ignored().count(), 0);
}

#[test]
fn users_have_services_of_their_own() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed((1..=6).map(port).collect()));
    let label = |n, user, rest: (&'static str, &'static str)| container(n, &[("steppe.user", user), rest]);
    let world = settle(
        &mut planner,
        vec![Observation::Containers(vec![
            label(1, "alice", ("steppe.service", "redis:1")),
            label(2, "bob", ("steppe.service", "redis:2")),
            label(3, "alice", ("steppe.connect_to", "redis:6379")),
            label(4, "carol", ("steppe.connect_to", "bob/redis:6379")),
            label(5, "carol", ("steppe.connect_to", "redis:6379")),
        ])],
    );
    assert_eq!(world.endpoints("alice/redis:6379/tcp"), ["172.17.0.1:1"]);
    let carols = |id: &&str| id.contains("< 172.17.0.4") || *id == "carol/redis:6379/tcp";
    assert!(!world.ids().iter().any(carols), "{:?}", world.ids());
    let refused = &planner.services()[&"bob/redis".parse_key()].consumers;
    assert_eq!(refused.values().next().unwrap(), &Err("nobody else".to_owned()));
}

#[test]
fn nomads_containers_cannot_choose_their_user() {
    let mut planner = planner();
    let labels = [("steppe.user", "alice"), ("com.hashicorp.nomad.alloc_id", "x")];
    settle(&mut planner, vec![Observation::Containers(vec![container(1, &labels)])]);
    assert_eq!(planner.workloads().next().unwrap().0.user, None);
}

#[test]
fn several_ports_and_no_match_are_ambiguous() {
    let mut planner = planner();
    let alloc = "_nomad-task-11111111-1111-1111-1111-111111111111-web";
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![container(1, &[("steppe.connect_to", "web:80,web#http:80")])]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![
                    instance("n2", &format!("{alloc}-http"), "10.0.0.7", 24_011, &["http"]),
                    instance("n2", &format!("{alloc}-admin"), "10.0.0.7", 24_012, &["admin"]),
                ],
            ),
        ],
    );
    assert!(world.endpoints("web:80/tcp").is_empty());
    assert_eq!(world.endpoints("web#http:80/tcp"), ["10.0.0.7:24011"]);
    let problem =
        planner.services()[&"web".parse_key()].ports.values().next().unwrap().routing.problem.clone();
    assert!(problem.unwrap().ends_with("name one of #admin, #http"));
}

#[test]
fn past_the_proxy_goes_only_what_every_instance_wants_there() {
    let consumer = container(1, &[("steppe.connect_to", "web")]);
    let kernel = [("steppe.service", "web:8080"), ("steppe.path", "kernel")];
    let rules = |world: &World| -> Vec<(String, bool, usize)> {
        let rules = world.0.values().filter_map(|planned| match &*planned.resource {
            Resource::ServicePort(rule) => {
                Some((rule.port.to_string(), rule.listener.is_some(), rule.endpoints.len()))
            }
            _ => None,
        });
        rules.collect()
    };
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2), port(3)]));
    let first = vec![Observation::Containers(vec![consumer.clone(), container(2, &kernel)])];
    let mut world = settle(&mut planner, first);
    // The port in the container has a way of its own; everything else leads to the only port there is.
    assert_eq!(rules(&world), [("*/tcp".into(), false, 1), ("8080/tcp".into(), false, 1)]);
    assert!(!world.ids().contains(&"web:*/tcp"), "{:?}", world.ids());

    planner.observe(Observation::Container(container(3, &[("steppe.service", "web:8080")])));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(rules(&world), [("*/tcp".into(), true, 2), ("8080/tcp".into(), false, 2)]);

    let labels = [("steppe.service", "web:8080"), ("steppe.proxy_protocol", "v2"), ("steppe.path", "kernel")];
    planner.observe(Observation::Container(container(3, &labels)));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(rules(&world), [("*/tcp".into(), true, 0)], "the kernel tells no instance who called");

    let consumer = container(1, &[("steppe.connect_to", "web:53/udp")]);
    planner.observe(Observation::Container(consumer));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(rules(&world), [("53/udp".into(), true, 2)], "datagrams tell nobody by either path");
    let listener = world.0.values().find_map(|planned| match &*planned.resource {
        Resource::Listener(listener) => Some(listener.clone()),
        _ => None,
    });
    assert!(!listener.unwrap().proxy_protocol);
}

#[test]
fn a_container_that_comes_back_behind_another_port_is_granted_anew() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let asks = || container(1, &[("steppe.connect_to", "web:80")]);
    let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks()])]);
    let id = |ifindex| {
        let port = BridgePort { ifindex, ..port(1) };
        workload_id(&asks().id, &port).resource_id()
    };
    assert!(world.ids().contains(&id(101).as_str()));
    planner.observe_port(PortChange::Gone(101));
    world.apply(planner.plan(Instant::now()));
    let vip = planner.services()[&"web".parse_key()].vip.unwrap().to_string();
    let left = [&*vip, "published 20001/tcp"];
    assert_eq!(world.ids(), left, "the service stays, and nobody is granted it");
    // Docker's next answer says nothing of a port that came after it.
    planner.observe(Observation::Container(Container { ports_known: 2, ..asks() }));
    planner.observe_port(PortChange::Present(BridgePort { ifindex: 150, ..port(1) }));
    let delta = planner.plan(Instant::now());
    assert_eq!(delta.reread, BTreeSet::from([asks().id]));
    world.apply(delta);
    assert_eq!(world.ids(), left);
    planner.observe(Observation::Container(Container { ports_known: 3, ..asks() }));
    world.apply(planner.plan(Instant::now()));
    assert!(world.ids().contains(&id(150).as_str()));
}
