//! Whose service a name means.

use super::*;

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
