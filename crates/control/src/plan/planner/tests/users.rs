//! Whose service a name means.

use super::{
    nomad::{ALLOCS, alloc, listed, of_alloc, registration},
    *,
};
use crate::observe::{AllocNetwork, Elsewhere};

fn alices(n: u8, label: (&'static str, &'static str)) -> Container {
    container(n, &[("steppe.user", "alice"), label])
}

fn asks() -> Container {
    alices(1, ("steppe.connect_to", "web:80"))
}

fn by_hand() -> Observation {
    Observation::Instances(SourceName::Consul, name("web"), vec![instance("n2", "web-1", "10.0.0.7", 1, &[])])
}

#[test]
fn nobodys_service_stands_in_for_the_users_own_and_never_takes_its_place() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(2)]));
    let mut world = settle(&mut planner, vec![Observation::Containers(vec![asks()]), by_hand()]);
    let vip = world.names_of("172.17.0.1")["web"];
    let mut tell = |observation| {
        planner.observe(observation);
        world.apply(planner.plan(Instant::now()));
        assert_eq!(world.names_of("172.17.0.1")["web"], vip, "the name leads where it led");
        world.endpoints_of("alice/web")
    };
    assert_eq!(tell(by_hand()), ["10.0.0.7:1"]);
    let own = alices(2, ("steppe.service", "web:8080"));
    assert_eq!(tell(Observation::Container(own.clone())), ["172.17.0.2:8080"]);
    assert_eq!(tell(Observation::ContainerGone(own.id.clone())), Vec::<String>::new());
    assert_eq!(tell(by_hand()), Vec::<String>::new());
    assert_eq!(tell(Observation::Container(own)), ["172.17.0.2:8080"]);
}

#[test]
fn what_is_forgotten_with_the_last_who_asks_is_whose_it_was() {
    let mut planner = planner();
    let own = alices(2, ("steppe.service", "web:8080"));
    let mut world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![asks(), own.clone()]),
            by_hand(),
            Observation::ContainerGone(own.id),
        ],
    );
    assert!(world.endpoints_of("alice/web").is_empty());
    for observation in [Observation::ContainerGone(asks().id), Observation::Container(asks()), by_hand()] {
        planner.observe(observation);
        world.apply(planner.plan(Instant::now()));
    }
    assert_eq!(world.endpoints_of("alice/web"), ["10.0.0.7:1"]);
}

#[test]
fn another_user_is_not_granted_what_stands_in() {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed(vec![port(1), port(3)]));
    let tags = ["steppe.allow=*"];
    let open = instance("n2", "web-1", "10.0.0.7", 1, &tags);
    let bobs = container(3, &[("steppe.user", "bob"), ("steppe.connect_to", "alice/web:80")]);
    let world = settle(
        &mut planner,
        vec![
            Observation::Containers(vec![asks(), bobs]),
            Observation::Instances(SourceName::Consul, name("web"), vec![open]),
        ],
    );
    assert_eq!(world.names_of("172.17.0.1").len(), 1);
    assert!(world.names_of("172.17.0.3").is_empty());
}

#[test]
fn whose_a_workload_of_nomads_is_says_what_the_operator_trusts() {
    let user = |user_from, silent: bool| {
        let services = "247.0.0.0/8".parse().unwrap();
        let allocator = Allocator::new(services, [169, 254, 77, 54].into(), 10_000..=19_999);
        let mut planner = Planner::new(NODE.into(), allocator, Options { user_from, ..options() });
        let mut of = alloc(ALLOCS[0], "ns", AllocNetwork::Task, &["web"]);
        if silent {
            (of.user_in_meta, of.user_in_labels) = (None, None);
        }
        let facts = vec![listed(of), Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])])];
        settle(&mut planner, facts);
        let namespaces: Vec<_> = planner.wanted_by_user().into_values().flatten().collect();
        assert_eq!(namespaces, ["ns".parse().unwrap()], "that is where Nomad is asked");
        planner.workloads().next().unwrap().0.user.as_ref().map(ToString::to_string)
    };
    assert_eq!(user(UserFrom::Namespace, false).as_deref(), Some("ns"));
    assert_eq!(user(UserFrom::Meta, false).as_deref(), Some("meta"));
    assert_eq!(user(UserFrom::Label, false).as_deref(), Some("label"));
    assert_eq!(user(UserFrom::Meta, true).as_deref(), Some("ns"));
}

#[test]
fn an_instance_elsewhere_is_whose_its_job_says() {
    let services = "247.0.0.0/8".parse().unwrap();
    let allocator = Allocator::new(services, [169, 254, 77, 54].into(), 10_000..=19_999);
    let mut planner =
        Planner::new(NODE.into(), allocator, Options { user_from: UserFrom::Meta, ..options() });
    let elsewhere = alloc(ALLOCS[1], "ns", AllocNetwork::Task, &[]);
    let world = settle(
        &mut planner,
        vec![
            listed(alloc(ALLOCS[0], "ns", AllocNetwork::Task, &["web:80"])),
            Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])]),
            Observation::Instances(
                SourceName::Consul,
                name("web"),
                vec![instance("n2", &registration(ALLOCS[1]), "", 24_011, &[])],
            ),
            Observation::AllocElsewhere(ALLOCS[1].into(), Elsewhere::Found(Arc::new(elsewhere))),
        ],
    );
    assert_eq!(world.endpoints_of("meta/web"), ["10.0.0.9:24011"]);
}
