//! What others are asked to do for containers.

use super::{
    nomad::{ALLOCS, alloc, listed, of_alloc},
    *,
};
use crate::observe::AllocNetwork;

const WANTS: (&str, &str) = ("steppe.attach", "true");
const ALICES: (&str, &str) = ("steppe.user", "alice");

fn tell(planner: &mut Planner, observation: Observation) -> Delta {
    planner.observe(observation);
    planner.plan(Instant::now())
}

fn users(names: &[&str]) -> BTreeSet<UserName> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn a_network_is_wished_for_every_user_that_is_known() {
    let mut planner = planner();
    let delta = tell(&mut planner, Observation::Containers(vec![container(1, &[ALICES]), container(2, &[])]));
    assert_eq!(delta.users, Some(users(&["alice"])));
    assert_eq!(tell(&mut planner, Observation::Users(users(&["bob"]))).users, Some(users(&["alice", "bob"])));
    assert_eq!(tell(&mut planner, Observation::Container(container(3, &[ALICES]))).users, None);
    tell(&mut planner, Observation::ContainerGone(container(1, &[]).id));
    let delta = tell(&mut planner, Observation::ContainerGone(container(3, &[]).id));
    assert_eq!(delta.users, Some(users(&["bob"])));
}

#[test]
fn nomads_default_namespace_needs_no_network_unless_a_workload_asks_for_it() {
    let mut planner = planner();
    tell(&mut planner, listed(alloc(ALLOCS[0], "default", AllocNetwork::Task, &[])));
    assert_eq!(tell(&mut planner, Observation::Container(of_alloc(1, ALLOCS[0], &[]))).users, None);
    let delta = tell(&mut planner, Observation::Container(of_alloc(1, ALLOCS[0], &[WANTS])));
    assert_eq!(delta.users, Some(users(&["default"])));
}

#[test]
fn a_container_is_attached_once_as_soon_as_it_is_known_whose_it_is() {
    let mut planner = planner();
    let made = || Container { attachments: Vec::new(), ..of_alloc(1, ALLOCS[0], &[WANTS]) };
    assert!(tell(&mut planner, Observation::Created(made())).attach.is_empty());
    let delta = tell(&mut planner, listed(alloc(ALLOCS[0], "alice", AllocNetwork::Task, &[])));
    let attach = Attach { container: made().id, user: "alice".parse().unwrap(), key: ALLOCS[0].into() };
    assert_eq!((delta.attach, delta.users), (vec![attach.clone()], Some(users(&["alice"]))));
    let started = || Observation::Container(of_alloc(1, ALLOCS[0], &[WANTS]));
    assert!(tell(&mut planner, started()).attach.is_empty());
    // Its next life is told of anew.
    tell(&mut planner, Observation::ContainerGone(made().id));
    assert_eq!(tell(&mut planner, Observation::Created(made())).attach, [attach]);
    assert!(tell(&mut planner, started()).attach.is_empty());
}

#[test]
fn who_is_there_or_does_not_ask_is_not_attached() {
    let mut planner = planner();
    tell(&mut planner, Observation::Networks(vec![network("alice")]));
    let on = on_network("alice", container(1, &[ALICES, WANTS]));
    let delta = tell(
        &mut planner,
        Observation::Containers(vec![on, container(2, &[ALICES]), container(3, &[WANTS])]),
    );
    assert!(delta.attach.is_empty());
    let nobodys = planner.workload(&container(3, &[]).id).unwrap().0;
    assert!(planner.not_attached(nobodys).unwrap().contains("steppe.user"));
}

#[test]
fn a_container_that_could_not_be_attached_says_why_until_it_is() {
    let mut planner = planner();
    let own = || container(1, &[ALICES, WANTS]);
    let why = |planner: &Planner| {
        planner.not_attached(planner.workload(&own().id).unwrap().0).map(|why| why.into_owned())
    };
    tell(&mut planner, Observation::Networks(vec![network("alice")]));
    tell(&mut planner, Observation::Container(own()));
    assert_eq!(why(&planner), None);
    tell(&mut planner, Observation::NotAttached(own().id, "it runs under gVisor".into()));
    assert_eq!(why(&planner).as_deref(), Some("it runs under gVisor"));
    tell(&mut planner, Observation::Container(on_network("alice", own())));
    assert_eq!(why(&planner), None);
}

#[test]
fn whoever_waited_for_a_network_in_vain_is_attached_when_there_is_one() {
    let mut planner = planner();
    let own = || container(1, &[ALICES, WANTS]);
    let why = |planner: &Planner| {
        planner.not_attached(planner.workload(&own().id).unwrap().0).map(|why| why.into_owned())
    };
    assert_eq!(tell(&mut planner, Observation::Container(own())).attach.len(), 1);
    let no_room = BTreeMap::from([("alice".parse().unwrap(), "all is taken".into())]);
    tell(&mut planner, Observation::NoNetwork(no_room));
    assert_eq!(why(&planner).as_deref(), Some("alice gets no network: all is taken"));
    tell(&mut planner, Observation::NotAttached(own().id, "it is not there".into()));
    let others = Observation::Networks(vec![network("bob")]);
    assert!(tell(&mut planner, others).attach.is_empty());
    tell(&mut planner, Observation::NoNetwork(BTreeMap::new()));
    assert_eq!(why(&planner).as_deref(), Some("it is not there"));
    let both = || Observation::Networks(vec![network("alice"), network("bob")]);
    assert_eq!(tell(&mut planner, both()).attach.len(), 1);
    assert_eq!(why(&planner), None);
    assert!(tell(&mut planner, both()).attach.is_empty());
}

#[test]
fn resolv_conf_leads_to_dns_for_whom_dns_answers() {
    let mut planner = planner();
    let host = Container { attachments: Vec::new(), ..container(3, &[ALICES]) };
    let all = vec![container(1, &[ALICES]), container(2, &[]), host];
    let delta = tell(&mut planner, Observation::Containers(all));
    assert_eq!(delta.resolve, [(container(1, &[]).id, true)]);
    assert!(tell(&mut planner, Observation::Container(container(1, &[ALICES]))).resolve.is_empty());
    let id = container(1, &[]).id;
    tell(&mut planner, Observation::Resolver(id.clone(), Err("its job chose 10.0.0.53".into())));
    assert_eq!(planner.resolver(&id), Some(Err("its job chose 10.0.0.53")));
    let delta = tell(&mut planner, Observation::Container(container(1, &[])));
    assert_eq!((delta.resolve, planner.resolver(&id)), (vec![(id, false)], None));
}

#[test]
fn how_doors_are_kept_is_told_and_what_is_in_force_counts_until_then() {
    let mut planner = planner();
    let doors = |uid| steppe_model::Doors {
        modes: BTreeMap::new(),
        peers: Vec::new(),
        local_uids: vec![uid],
        published_ports: 20_000..=32_000,
    };
    planner.keep(&Resource::Doors(doors(1)));
    let told = |delta: Delta| {
        let told = delta.resources.into_iter().map(|(_, _, planned)| (*planned.unwrap().resource).clone());
        told.collect::<Vec<_>>()
    };
    assert_eq!(told(planner.plan(Instant::now())), [Resource::Doors(doors(1))]);
    assert_eq!(told(tell(&mut planner, Observation::Doors(doors(2)))), [Resource::Doors(doors(2))]);
    planner.keep(&Resource::Doors(doors(1)));
    assert!(told(planner.plan(Instant::now())).is_empty());
}
