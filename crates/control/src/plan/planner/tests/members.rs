//! What members of a user's network may reach without asking.

use super::*;

fn member(n: u8, labels: &[(&str, &str)]) -> Container {
    on_network("alice", container(n, &[&[("steppe.user", "alice")], labels].concat()))
}

/// A planner that knows alice's network and its ports 1 to 5.
fn with_network() -> Planner {
    let mut planner = planner();
    planner.observe_port(PortChange::Listed((1..=5).map(|n| port_on("alice", n)).collect()));
    planner.observe(Observation::Networks(vec![network("alice")]));
    planner
}

fn services_of(user: &str, names: &[&str]) -> Observation {
    Observation::ServicesOf(user.parse().unwrap(), names.iter().map(|text| name(text)).collect())
}

fn reached(world: &World, ip: &str) -> Vec<String> {
    world.names_of(ip).into_keys().collect()
}

#[test]
fn a_member_reaches_what_its_user_provides_here_and_elsewhere() {
    let mut planner = with_network();
    let mut world = World::default();
    let mut tell = |planner: &mut Planner, observation| {
        planner.observe(observation);
        let delta = planner.plan(Instant::now());
        let wished = (delta.services_of.clone(), delta.wanted_changed);
        world.apply(delta);
        (wished, reached(&world, "10.208.1.1"))
    };
    let alice = BTreeSet::from(["alice".parse().unwrap()]);
    let (wished, names) = tell(&mut planner, Observation::Containers(vec![member(1, &[])]));
    assert_eq!((wished.0, names), (Some(alice), vec![]));
    // Of a workload that is not on the network as well.
    let offers = container(2, &[("steppe.user", "alice"), ("steppe.service", "web:1")]);
    let (wished, names) = tell(&mut planner, Observation::Container(offers.clone()));
    assert_eq!((wished, names), ((None, true), vec!["web".to_owned()]));
    let (_, names) = tell(&mut planner, services_of("alice", &["redis", "web"]));
    assert_eq!(names, ["redis", "web"]);
    let (_, names) = tell(&mut planner, services_of("bob", &["pg"]));
    assert_eq!(names, ["redis", "web"]);
    let (_, names) = tell(&mut planner, Observation::ContainerGone(offers.id));
    assert_eq!(names, ["redis", "web"], "Nomad says so still");
    let (wished, names) = tell(&mut planner, services_of("alice", &["redis"]));
    assert_eq!((wished, names), ((None, true), vec!["redis".to_owned()]));
    let asked = planner.workload(&member(1, &[]).id).unwrap().0.grants().next().unwrap().into_owned();
    assert_eq!((&*asked.text, &*asked.origin), ("alice/redis", "member of the network of alice"));
}

#[test]
fn with_the_last_member_its_grants_go() {
    let mut planner = with_network();
    settle(
        &mut planner,
        vec![Observation::Containers(vec![member(1, &[])]), services_of("alice", &["redis"])],
    );
    assert_eq!(planner.wanted().count(), 1);
    planner.observe(Observation::ContainerGone(member(1, &[]).id));
    let delta = planner.plan(Instant::now());
    assert_eq!((delta.services_of, delta.wanted_changed), (Some(BTreeSet::new()), true));
    assert!(planner.services().is_empty() && planner.wanted().count() == 0);
    let world = settle(&mut planner, vec![Observation::Container(member(1, &[]))]);
    assert!(reached(&world, "10.208.1.1").is_empty(), "what was known must be told anew");
}

#[test]
fn members_of_other_users_and_who_is_on_no_network_reach_nothing_so() {
    let mut planner = with_network();
    planner.observe_port(PortChange::Present(port(5)));
    let world = settle(
        &mut planner,
        vec![Observation::Containers(vec![
            member(1, &[("steppe.service", "web:1")]),
            on_network("alice", container(2, &[("steppe.user", "bob")])),
            container(5, &[("steppe.user", "alice")]),
        ])],
    );
    assert!(reached(&world, "172.17.0.5").is_empty() && !world.has("asker 10.208.1.2"));
}

#[test]
fn who_asks_for_it_asks_in_its_own_words() {
    let mut planner = with_network();
    let asks = member(1, &[("steppe.connect_to", "web:80,redis#a:1")]);
    settle(
        &mut planner,
        vec![Observation::Containers(vec![asks.clone()]), services_of("alice", &["redis", "web"])],
    );
    let (workload, _) = planner.workload(&asks.id).unwrap();
    let texts: Vec<_> = workload.grants().map(|asked| asked.text.clone()).collect();
    assert_eq!(texts, ["web:80", "redis#a:1", "alice/redis"]);
}

#[test]
fn what_is_asked_for_has_room_first_and_what_has_none_is_said_once() {
    let mut planner = with_network();
    let many: Vec<_> = (0..300).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    planner.observe(Observation::Containers(vec![member(1, &[("steppe.connect_to", "web:80,db")])]));
    planner.plan(Instant::now());
    planner.observe(services_of("alice", &many));
    let delta = planner.plan(Instant::now());
    assert_eq!(planner.wanted().count(), 256);
    assert!(planner.wanted().any(|wanted| *wanted == name("web")));
    assert_eq!(delta.ignored.len(), 1);
    assert!(delta.ignored[0].reason.contains("46 services"), "{:?}", delta.ignored);
    assert_eq!(planner.ignored().count(), 1);
    planner.observe(services_of("alice", &many[1..]));
    assert!(planner.plan(Instant::now()).ignored.is_empty());
}

#[test]
fn a_new_service_of_its_user_costs_a_member_nothing_of_what_it_has() {
    let mut planner = with_network();
    let many: Vec<_> = (0..100).map(|n| format!("s{n}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    settle(
        &mut planner,
        vec![Observation::Containers(vec![member(1, &[])]), services_of("alice", &many[1..])],
    );
    planner.observe(services_of("alice", &many));
    let delta = planner.plan(Instant::now());
    let ids: Vec<_> = delta.resources.iter().map(|(_, id, _)| id.as_str()).collect();
    assert!(ids.len() == 4 && ids.iter().any(|id| id.starts_with("asker")), "{ids:?}");
}

/// Docker lists everything again, and the one member has another's place: nobody tells the user's services a second time.
#[test]
fn services_outlive_a_change_of_members() {
    let mut planner = with_network();
    let mut world = World::default();
    for observation in [
        Observation::Containers(vec![member(1, &[])]),
        services_of("alice", &["web"]),
        Observation::Containers(vec![member(2, &[])]),
    ] {
        planner.observe(observation);
        world.apply(planner.plan(Instant::now()));
    }
    assert_eq!(reached(&world, "10.208.1.2"), ["web"]);
}
