//! Who is bound on a user's network.

use super::*;

fn networks() -> Observation {
    Observation::Networks(vec![network("alice"), network("bob")])
}

fn asks(n: u8, user: &str) -> Container {
    on_network("alice", container(n, &[("steppe.user", user), ("steppe.connect_to", "web")]))
}

#[test]
fn a_network_is_told_before_who_is_on_it() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1)]));
    planner.observe(Observation::Containers(vec![asks(1, "alice")]));
    planner.observe(networks());
    let resources = planner.plan(Instant::now()).resources;
    let ids: Vec<_> = resources.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(ids[..2], ["network alice", "network bob"]);
    assert!(ids.contains(&"000000000000@steppe-alice:101"), "{ids:?}");
}

#[test]
fn a_workload_of_another_user_gets_nothing_there_and_it_is_said() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1), port_on("alice", 2)]));
    // Nomad alone says whose a container of its is.
    let nomads = ("com.hashicorp.nomad.alloc_id", "0a0a0a0a-0000-0000-0000-000000000002");
    let world = settle(
        &mut planner,
        vec![
            networks(),
            Observation::Containers(vec![asks(1, "bob"), on_network("alice", container(2, &[nomads]))]),
        ],
    );
    let bound: Vec<_> =
        world.ids().into_iter().filter(|id| id.contains("10.208") || id.contains('@')).collect();
    assert!(bound.is_empty(), "{bound:?}");
    for (workload, attached) in planner.workloads() {
        assert_eq!(attached[0].port, Err(NoPort::Foreign));
        assert!(workload.guarded && !workload.is_member);
    }
}

#[test]
fn who_runs_a_container_on_a_users_network_need_not_say_whose_it_is() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1)]));
    let containers = vec![on_network("alice", container(1, &[]))];
    let mut world = settle(&mut planner, vec![Observation::Containers(containers), networks()]);
    let user = |planner: &Planner| {
        let (workload, _) = planner.workloads().next().unwrap();
        (workload.is_member, workload.user.as_ref().map(ToString::to_string))
    };
    assert_eq!(user(&planner), (true, Some("alice".into())));
    assert!(world.has("member alice 10.208.1.1"));
    planner.observe(Observation::Networks(vec![network("bob")]));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(user(&planner), (false, None), "a bridge like any other");
    assert!(!world.has("member alice 10.208.1.1"));
}

#[test]
fn it_is_bound_when_the_network_turns_out_to_be_its_own_and_unbound_when_not() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1)]));
    let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks(1, "bob")])]);
    assert!(world.has("asker 10.208.1.1"), "a bridge like any other");
    let mut tell = |networks| {
        planner.observe(Observation::Networks(networks));
        world.apply(planner.plan(Instant::now()));
        (world.has("asker 10.208.1.1"), world.has("000000000000@steppe-alice:101"))
    };
    assert_eq!(tell(vec![network("alice")]), (false, false));
    assert_eq!(tell(vec![Network { user: "bob".parse().unwrap(), ..network("alice") }]), (true, true));
    assert_eq!(tell(vec![]), (true, true));
}

#[test]
fn a_network_in_force_counts_until_docker_says_what_there_is() {
    let mut planner = planner();
    let alices = network("alice");
    planner.keep(&Resource::Network(steppe_model::Network {
        user: alices.user,
        bridge: alices.bridge,
        subnet: alices.subnet,
        gateway: alices.gateway,
    }));
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1), port_on("alice", 2)]));
    let all = Observation::Containers(vec![asks(1, "alice"), asks(2, "bob")]);
    let mut world = settle(&mut planner, vec![all]);
    assert!(world.has("network alice") && world.has("asker 10.208.1.1") && !world.has("asker 10.208.1.2"));
    planner.observe(Observation::Networks(Vec::new()));
    world.apply(planner.plan(Instant::now()));
    assert!(!world.has("network alice") && world.has("asker 10.208.1.2"));
}

#[test]
fn what_has_to_do_with_steppe_is_guarded() {
    let is_guarded = |options: Options, container: Container| {
        let services = "247.0.0.0/8".parse().unwrap();
        let allocator = Allocator::new(services, [169, 254, 77, 54].into(), 10_000..=19_999);
        let mut planner = Planner::new(NODE.into(), allocator, options);
        let registered = instance(NODE, "by-hand", "", 20_009, &[]);
        let facts = vec![
            Observation::Registrations { node: NODE.into(), instances: vec![registered] },
            Observation::Networks(vec![network("alice")]),
            Observation::Containers(vec![container]),
        ];
        settle(&mut planner, facts);
        planner.workloads().next().is_some_and(|(workload, _)| workload.guarded)
    };
    assert!(!is_guarded(options(), container(1, &[])));
    assert!(is_guarded(Options { guard_all: true, ..options() }, container(1, &[])));
    assert!(is_guarded(options(), on_network("alice", container(1, &[]))));
    assert!(is_guarded(options(), container(9, &[])), "something is registered for it");
    let label = [
        ("steppe.user", "alice"),
        ("steppe.connect_to", "web"),
        ("steppe.service", "web:1"),
        ("steppe.attach", "true"),
    ];
    for label in label {
        assert!(is_guarded(options(), container(1, &[label])), "{label:?}");
    }
}
