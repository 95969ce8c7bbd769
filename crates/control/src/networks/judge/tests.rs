use super::{
    super::world::tests::{container, made_for, network},
    *,
};

const IDLE: Duration = Duration::from_secs(3600);

fn judge() -> Judge {
    Judge::new("10.208.0.0/12".parse().unwrap(), IDLE)
}

fn users(names: &[&str]) -> BTreeSet<UserName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

fn wanted(names: &[&str]) -> Wanted {
    Wanted { users: users(names), ensured: BTreeSet::new() }
}

fn world(made: &[&str], attached: &[(&str, &str)]) -> World {
    let subnets = (1..).map(|n| format!("10.208.{n}.0/24"));
    let networks = made.iter().zip(subnets).map(|(user, subnet)| network(made_for(user, &subnet))).collect();
    let containers = attached.iter().map(|(name, network)| container(name, network)).collect();
    World::new(networks, containers, Vec::new(), BTreeSet::new())
}

#[test]
fn a_wanted_network_is_made_once() {
    let now = Instant::now();
    let judgement = judge().judge(&world(&[], &[]), &wanted(&["alice", "bob"]), now);
    let usual = |user: &str| subnet::usual(&user.parse().unwrap(), "10.208.0.0/12".parse().unwrap());
    let [Step::Create { user: first, choice, kept: false }, Step::Create { user: second, .. }] =
        &judgement.steps[..]
    else {
        panic!("{judgement:?}")
    };
    assert_eq!((first.as_str(), second.as_str()), ("alice", "bob"));
    assert_eq!(*choice, Choice { subnet: usual("alice"), moved: None });
    assert_eq!(judge().judge(&world(&["alice"], &[]), &wanted(&["alice"]), now).steps, []);
}

#[test]
fn users_whose_places_are_the_same_get_neighbours() {
    let now = Instant::now();
    let mut judge = Judge::new("10.208.0.0/23".parse().unwrap(), IDLE);
    let judgement = judge.judge(&world(&[], &[]), &wanted(&["a", "b", "c"]), now);
    let moved = judgement.steps.iter().filter_map(|step| match step {
        Step::Create { choice, .. } => Some((choice.subnet, choice.moved.clone())),
        Step::Remove { .. } => None,
    });
    let subnets: BTreeSet<_> = moved.map(|(subnet, _)| subnet).collect();
    assert_eq!(subnets.len(), 2);
    assert!(judgement.problems.values().next().unwrap().contains("--user-cidr"), "{judgement:?}");
}

#[test]
fn what_is_of_no_use_goes_after_a_while_and_not_before() {
    let mut judge = judge();
    let start = Instant::now();
    let empty = world(&["alice"], &[]);
    let none = Wanted::default();
    let remove = [Step::Remove { user: "alice".parse().unwrap(), id: "id-alice".into() }];
    assert_eq!(judge.judge(&empty, &none, start).steps, []);
    assert_eq!(judge.judge(&empty, &none, start + IDLE / 2).steps, []);
    // In use, needed, or touched: the time begins anew.
    judge.judge(&world(&["alice"], &[("c", "steppe-alice")]), &none, start + IDLE * 3 / 4);
    assert_eq!(judge.judge(&empty, &none, start + IDLE).steps, []);
    judge.judge(&empty, &wanted(&["alice"]), start + IDLE * 3 / 2);
    assert_eq!(judge.judge(&empty, &none, start + IDLE * 2).steps, []);
    judge.used("id-alice");
    assert_eq!(judge.judge(&empty, &none, start + IDLE * 3).steps, []);
    assert_eq!(judge.judge(&empty, &none, start + IDLE * 4).steps, remove);
}

#[test]
fn what_is_in_use_or_not_ours_is_never_removed() {
    let mut judge = judge();
    let start = Instant::now();
    let mut foreign = made_for("bob", "10.208.9.0/24");
    foreign["Labels"] = serde_json::json!({});
    let networks = vec![network(made_for("alice", "10.208.7.0/24")), network(foreign)];
    let containers = vec![container("stopped", "steppe-alice")];
    let world = World::new(networks, containers, Vec::new(), BTreeSet::new());
    for later in 0..3 {
        let judgement = judge.judge(&world, &wanted(&["bob"]), start + IDLE * later);
        assert_eq!(judgement.steps, []);
        assert!(judgement.problems.values().next().unwrap().contains("did not make"), "{judgement:?}");
    }
}

#[test]
fn what_an_operator_asks_for_is_labelled() {
    let mut judge = judge();
    let now = Instant::now();
    let ensured = Wanted { users: BTreeSet::new(), ensured: users(&["alice"]) };
    let steps = judge.judge(&world(&[], &[]), &ensured, now).steps;
    assert!(matches!(&steps[..], [Step::Create { kept: true, .. }]), "{steps:?}");
    let steps = judge.judge(&world(&["alice"], &[]), &ensured, now).steps;
    assert!(matches!(&steps[..], [Step::Remove { .. }]), "made anew, with the label: {steps:?}");
    let used = world(&["alice"], &[("c", "steppe-alice")]);
    assert_eq!(judge.judge(&used, &ensured, now + IDLE * 9).steps, []);
    let mut kept = made_for("alice", "10.208.7.0/24");
    kept["Labels"]["steppe.keep"] = "true".into();
    let kept = World::new(vec![network(kept)], Vec::new(), Vec::new(), BTreeSet::new());
    for later in 0..3 {
        assert_eq!(judge.judge(&kept, &Wanted::default(), now + IDLE * later).steps, []);
    }
}

#[test]
fn an_interface_of_somebody_else_is_left_alone() {
    let world = World { interfaces: ["steppe-alice".to_owned()].into(), ..World::default() };
    let judgement = judge().judge(&world, &wanted(&["alice"]), Instant::now());
    assert_eq!(judgement.steps, []);
    assert!(judgement.problems.values().next().unwrap().contains("interface steppe-alice"), "{judgement:?}");
}

#[test]
fn a_network_tells_why_it_is_not_where_it_usually_is() {
    let block: Ipv4Net = "10.208.0.0/12".parse().unwrap();
    let alice: UserName = "alice".parse().unwrap();
    let fact = |subnet: Ipv4Net, moved: Option<&str>| {
        let moved = moved.map(Into::into);
        let own = Own { id: "n".into(), subnet, gateway: subnet::gateway(subnet), kept: false, moved };
        judge().fact(&alice, &own).moved.map(|why| why.to_string())
    };
    assert_eq!(fact(subnet::usual(&alice, block), Some("long gone")), None);
    let elsewhere = "10.223.255.0/24".parse().unwrap();
    assert_eq!(fact(elsewhere, Some("route of eth1")).as_deref(), Some("route of eth1"));
    assert!(fact(elsewhere, None).unwrap().contains("--user-cidr"));
}
