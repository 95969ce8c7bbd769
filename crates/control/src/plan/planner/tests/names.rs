//! What dns is told.

use super::{
    nomad::{ALLOCS, alloc, bridged, listed, of_alloc},
    *,
};
use crate::observe::AllocNetwork;

fn names(connect_to: &str) -> BTreeMap<String, Ipv4Addr> {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed((1..=5).map(port).collect()));
    let of = |n, user, service| {
        container(n, &[("steppe.user", user), ("steppe.service", service), ("steppe.allow", "*")])
    };
    let asker = container(1, &[("steppe.user", "alice"), ("steppe.connect_to", connect_to)]);
    let others = [of(2, "bob", "pg:1"), of(3, "carol", "pg:1"), of(4, "alice", "web.bob:1")];
    let all = others.into_iter().chain([asker]).collect();
    let world = settle(&mut planner, vec![Observation::Containers(all)]);
    let names = world.names_of("172.17.0.1");
    for (key, planned) in planner.services() {
        assert!(names.values().any(|vip| Some(*vip) == planned.vip), "{key} has no name");
    }
    names
}

fn called(connect_to: &str) -> Vec<String> {
    names(connect_to).into_keys().collect()
}

#[test]
fn a_service_is_called_by_all_that_its_name_says_and_by_less_where_that_means_it_alone() {
    assert_eq!(called("web:80,web:81"), ["web"]);
    assert_eq!(called("redis#primary"), ["primary.redis", "redis"]);
    assert_eq!(called("bob/pg"), ["pg", "pg.bob"]);
    assert_eq!(called("alice/web"), ["web"]);
    assert_eq!(called("bob/pg,carol/pg"), ["pg.bob", "pg.carol"], "whose `pg` nobody can tell");
    assert_eq!(called("redis#a,redis#b"), ["a.redis", "b.redis"]);
    assert_eq!(called("bob/pg,pg"), ["pg", "pg.bob"]);
    assert_ne!(names("bob/pg,pg")["pg"], names("bob/pg")["pg"], "its own user's");
    let own = names("web.bob");
    assert_eq!(names("web.bob,bob/pg")["web.bob"], own["web.bob"]);
}

#[test]
fn what_is_no_name_is_left_out() {
    assert_eq!(called("redis#a..b"), ["redis"]);
}

#[test]
fn a_refused_service_has_no_name() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let world = settle(
        &mut planner,
        vec![Observation::Containers(vec![
            container(1, &[("steppe.user", "alice"), ("steppe.connect_to", "bob/pg")]),
            container(2, &[("steppe.user", "bob"), ("steppe.service", "pg:1")]),
        ])],
    );
    assert!(world.names_of("172.17.0.1").is_empty());
}

#[test]
fn an_asker_stands_on_its_workload_its_grants_and_their_virtual_ips() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let asks = container(1, &[("steppe.connect_to", "web:80,web")]);
    let mut world = settle(
        &mut planner,
        vec![Observation::Containers(vec![asks, container(2, &[("steppe.service", "web:8080")])])],
    );
    let (asker, requires) = world.asker("172.17.0.1");
    for required in &requires {
        assert!(world.has(required.as_str()), "{required} is not planned");
    }
    assert_eq!(requires.len(), 4);
    let ports: Vec<_> = asker.names[0].ports.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["80/tcp", "8080/tcp"], "and the port in the container");
    planner.observe_port(PortChange::Gone(101));
    world.apply(planner.plan(Instant::now()));
    assert!(!world.has("asker 172.17.0.1"));
}

#[test]
fn a_change_of_endpoints_is_no_concern_of_names() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1)]));
    let at = |port| {
        Observation::Instances(
            SourceName::Consul,
            name("web"),
            vec![instance("n2", "w", "10.0.0.7", port, &[])],
        )
    };
    settle(
        &mut planner,
        vec![Observation::Containers(vec![container(1, &[("steppe.connect_to", "web:80")])]), at(1)],
    );
    planner.observe(at(2));
    let told = planner.plan(Instant::now()).resources;
    assert!(!told.is_empty() && told.iter().all(|(agent, ..)| *agent != AgentName::Dns), "{told:?}");
}

#[test]
fn a_member_is_called_by_its_container_its_task_its_group_and_its_aliases() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port_on("alice", 1)]));
    let own = of_alloc(1, ALLOCS[0], &[]);
    let id: Arc<str> = own.id[..12].into();
    let member = Container {
        name: format!("Web-{}", ALLOCS[0]).into(),
        aliases: vec![id, "Front".into(), "no name".into()],
        ..on_network("alice", own)
    };
    let world = settle(
        &mut planner,
        vec![
            Observation::Networks(vec![network("alice")]),
            listed(alloc(ALLOCS[0], "alice", AllocNetwork::Task, &[])),
            Observation::Containers(vec![member]),
        ],
    );
    let planned = &world.0[&(AgentName::Dns, ResourceId::new("member alice 10.208.1.1"))];
    assert_eq!(planned.requires, [ResourceId::new("000000000000@steppe-alice:101")]);
    let Resource::Member(member) = &*planned.resource else { panic!("{planned:?}") };
    let names: Vec<_> = member.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["front", "g", "web", &format!("web-{}", ALLOCS[0])]);
    assert_eq!(world.asker("10.208.1.1").0.network, Some("alice".parse().unwrap()));
}

#[test]
fn an_allocation_in_bridge_mode_asks_from_its_own_address() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![BridgePort { bridge: "nomad".into(), ..port(4) }]));
    let world = settle(&mut planner, vec![listed(alloc(ALLOCS[0], "alice", bridged(4), &["web:80"]))]);
    assert_eq!(world.names_of("172.17.0.4").into_keys().collect::<Vec<_>>(), ["web"]);
}

#[test]
fn of_an_address_that_two_have_nobody_can_tell_who_asks() {
    let mut planner = planner();
    let other = BridgePort { ifindex: 150, bridge: "br-0".into(), mac: port(2).mac, ..port(1) };
    planner.observe_port(PortChange::Listed(vec![port(1), other]));
    let asks = |n: u8| container(n, &[("steppe.connect_to", "web:80")]);
    let mut second = asks(2);
    second.attachments[0].bridge = "br-0".into();
    second.attachments[0].ip = asks(1).attachments[0].ip;
    let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks(1), second.clone()])]);
    assert!(!world.has("asker 172.17.0.1"));
    planner.observe(Observation::ContainerGone(second.id));
    world.apply(planner.plan(Instant::now()));
    assert_eq!(world.asker("172.17.0.1").0.workload, "c1".into());
}
