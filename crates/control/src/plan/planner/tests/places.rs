//! Whose a registration or a bridge port is when names, addresses and nodes change.

use super::*;

fn consumer() -> Container {
    container(1, &[("steppe.connect_to", "web:80")])
}

fn endpoints(planner: &Planner) -> Vec<String> {
    let ports = planner.services().values().flat_map(|service| service.ports.values());
    let endpoints = ports.flat_map(|port| &port.routing.endpoints);
    endpoints.map(|endpoint| endpoint.address.to_string()).collect()
}

#[test]
fn the_catalogues_name_of_the_node_may_come_after_its_services() {
    let mut planner = planner();
    let here = instance("n1.example", "here", "", 20_002, &[]);
    settle(
        &mut planner,
        vec![
            Observation::Containers(vec![consumer()]),
            Observation::Instances(SourceName::Consul, name("web"), vec![here]),
            Observation::Registrations { node: "n1.example".into(), instances: vec![] },
            Observation::Container(container(2, &[])),
        ],
    );
    assert_eq!(endpoints(&planner), ["172.17.0.2:8080"]);
    settle(&mut planner, vec![Observation::ContainerGone(container(2, &[]).id)]);
    assert_eq!(endpoints(&planner), ["10.0.0.9:20002"]);
}

#[test]
fn consul_compares_node_names_without_regard_to_case() {
    let mut planner = planner();
    settle(
        &mut planner,
        vec![
            Observation::Containers(vec![consumer(), container(2, &[])]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![instance("N1", "here", "", 20_002, &[])],
            ),
        ],
    );
    assert_eq!(endpoints(&planner), ["172.17.0.2:8080"]);
}

#[test]
fn a_dead_allocations_registration_is_no_container_that_nomad_did_not_make() {
    let mut planner = planner();
    let old = "_nomad-task-11111111-1111-1111-1111-111111111111-web";
    settle(
        &mut planner,
        vec![
            Observation::Containers(vec![consumer(), container(2, &[])]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![instance(NODE, old, "172.17.0.2", 8080, &[])],
            ),
        ],
    );
    assert!(endpoints(&planner).is_empty());
}

#[test]
fn a_port_that_was_one_containers_is_never_anothers() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(3)]));
    settle(&mut planner, vec![Observation::Containers(vec![container(3, &[])])]);
    assert!(planner.attached[&container(3, &[]).id][0].port.is_ok());
    // It takes the addresses that Docker will give to the next container.
    planner.observe_port(PortChange::Present(BridgePort { ifindex: port(3).ifindex, ..port(1) }));
    settle(&mut planner, vec![Observation::Container(consumer())]);
    assert_eq!(planner.attached[&consumer().id][0].port, Err(NoPort::None));
    planner.observe_port(PortChange::Present(port(1)));
    planner.plan(Instant::now());
    assert_eq!(planner.attached[&consumer().id][0].port, Ok(port(1)));
}

#[test]
fn a_listing_that_says_nothing_new_touches_nothing() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let listed = |ports_known| Container { ports_known, ..consumer() };
    settle(&mut planner, vec![Observation::Containers(vec![listed(1)])]);
    planner.observe(Observation::Containers(vec![listed(2)]));
    assert!(planner.dirty_workloads.is_empty() && planner.dirty_names.is_empty());
    // What it proves is taken in all the same.
    planner.observe_port(PortChange::Gone(port(1).ifindex));
    planner.observe_port(PortChange::Present(BridgePort { ifindex: 150, ..port(1) }));
    planner.observe(Observation::Containers(vec![listed(3)]));
    planner.plan(Instant::now());
    assert_eq!(planner.attached[&consumer().id][0].port.as_ref().map(|port| port.ifindex), Ok(150));
}

#[test]
fn a_listing_that_says_nothing_new_still_proves_a_port() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![]));
    planner.observe_port(PortChange::Present(port(1)));
    let listed = |ports_known| Container { ports_known, ..consumer() };
    settle(&mut planner, vec![Observation::Containers(vec![listed(1)])]);
    assert_eq!(planner.attached[&consumer().id][0].port, Err(NoPort::Unproven));
    settle(&mut planner, vec![Observation::Containers(vec![listed(2)])]);
    assert_eq!(planner.attached[&consumer().id][0].port, Ok(port(1)));
}

#[test]
fn a_service_that_goes_by_the_proxy_and_for_which_no_listener_is_left_goes_nowhere() {
    let services = "247.0.0.0/8".parse().unwrap();
    let mut planner = Planner::new(
        NODE.into(),
        Allocator::new(services, [169, 254, 77, 54].into(), 10_000..=10_000),
        options(),
    );
    planner.observe_port(PortChange::Listed((1..5).map(port).collect()));
    let world = settle(
        &mut planner,
        vec![Observation::Containers(vec![
            container(1, &[("steppe.connect_to", "web:80,late:80,free")]),
            container(2, &[("steppe.service", "web:8080")]),
            container(3, &[("steppe.service", "late:8080")]),
            container(4, &[("steppe.service", "free:8080"), ("steppe.path", "kernel")]),
        ])],
    );
    let rules = world.0.values().filter_map(|planned| match &*planned.resource {
        Resource::ServicePort(rule) => Some((rule.service.name.to_string(), rule.listener.is_some())),
        _ => None,
    });
    let mut rules: Vec<_> = rules.collect();
    rules.sort();
    // `free` has a rule for the port in the container and one for every other.
    let free = || ("free".to_owned(), false);
    let led = rules.iter().filter(|(_, led)| *led).count();
    assert_eq!((led, rules.len()), (1, 3), "{rules:?}");
    assert_eq!(rules[..2], [free(), free()]);
}

#[test]
fn choices_that_agents_have_in_force_are_kept_and_those_nobody_needs_are_not() {
    let mut fresh = planner();
    let asks = || Observation::Containers(vec![consumer(), container(2, &[("steppe.service", "web:8080")])]);
    let usual = settle(&mut fresh, vec![asks()]);
    let port_of = |world: &World| {
        let mut ports = world.0.values().filter_map(|planned| match &*planned.resource {
            Resource::ServicePort(port) => Some(port.clone()),
            _ => None,
        });
        ports.next_back().unwrap()
    };
    let usual = port_of(&usual);
    let vip = [247, 1, 2, 3].into();
    let listener = SocketAddrV4::new([169, 254, 77, 54].into(), 12_345);
    assert_ne!((usual.vip, usual.listener), (vip, Some(listener)));

    // The proxy may have lost its listeners; the rule says where they were.
    let mut adopting = planner();
    let kept = steppe_model::ServicePort { vip, listener: Some(listener), ..usual.clone() };
    adopting.keep(&Resource::VirtualIp(steppe_model::VirtualIp { service: kept.service.clone(), vip }));
    adopting.keep(&Resource::ServicePort(kept.clone()));
    adopting
        .keep(&Resource::VirtualIp(steppe_model::VirtualIp { service: "gone".parse_key(), vip: usual.vip }));
    assert_eq!(port_of(&settle(&mut adopting, vec![asks()])), kept);
    adopting.release_unused();
    assert_eq!(adopting.allocator.vip(&"web".parse_key()).unwrap(), vip);
    adopting.allocator.release_vip(&"web".parse_key());
    assert_eq!(
        adopting.allocator.vip(&"web".parse_key()).unwrap(),
        fresh.services()[&"web".parse_key()].vip.unwrap()
    );
}

#[test]
fn grants_of_one_workload_are_bounded() {
    let mut planner = planner();
    let many: Vec<_> = (0..1000).map(|n| format!("s{n}")).collect();
    let tags = [format!("connect_to={}", many.join(","))];
    let tags: Vec<_> = tags.iter().map(String::as_str).collect();
    let mut delta = Delta::default();
    for observation in [
        Observation::Containers(vec![container(1, &[])]),
        Observation::Registrations {
            node: NODE.into(),
            instances: vec![instance(NODE, "api", "", 20_001, &tags)],
        },
    ] {
        planner.observe(observation);
        delta = planner.plan(Instant::now());
    }
    assert_eq!(planner.wanted().count(), 256);
    assert_eq!(delta.ignored.len(), 1, "one warning, not one for each");
}

/// `container(2)` had the port before control was away; since then it has taken the address of `container(1)`, whose own port
/// says nothing of addresses, as under gVisor.
#[test]
fn who_imitates_another_while_control_is_away_is_not_taken_for_it() {
    let imitator = BridgePort { mac: port(1).mac, ips: port(1).ips, ..port(2) };
    let genuine = BridgePort { ips: Vec::new(), ..port(1) };
    let in_force = Resource::Workload(steppe_model::Workload {
        id: workload_id(&id(2), &port(2)),
        ip: [172, 17, 0, 2].into(),
        mac: port(2).mac,
        bridge: port(2).bridge,
        port_ifindex: port(2).ifindex,
        name: "c2".into(),
        user: None,
        guarded: true,
    });
    for is_kept_first in [true, false] {
        let mut planner = planner();
        let list = PortChange::Listed(vec![imitator.clone(), genuine.clone()]);
        let asks = Container { id: id(1), ..container(1, &[("steppe.connect_to", "web:80")]) };
        if is_kept_first {
            planner.keep(&in_force);
        }
        planner.observe_port(list);
        let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks])]);
        planner.keep(&in_force);
        world.apply(planner.plan(Instant::now()));
        let own = workload_id(&id(1), &port(1));
        let bound = world.0.values().filter_map(|planned| match &*planned.resource {
            Resource::Workload(workload) => Some(workload.id.clone()),
            _ => None,
        });
        assert_eq!(bound.collect::<Vec<_>>(), [own], "kept first: {is_kept_first}");
    }
}

/// Told from others' by its beginning.
fn id(n: u8) -> Arc<str> {
    format!("{n}{}", "0".repeat(63)).into()
}
