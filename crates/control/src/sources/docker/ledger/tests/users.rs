//! What is told for users' networks: containers that ask to be attached, and names.

use super::*;

fn asks(id: &str) -> Event {
    let labels = BTreeMap::from([("steppe.attach".to_owned(), "true".to_owned())]);
    Event::Created { id: id.into(), name: "api".into(), labels }
}

fn asking(id: &str, running: bool) -> Listed {
    let mut listed = summary(id, running, &[("net", 2)]);
    listed.labels.insert("steppe.attach".to_owned(), "true".to_owned());
    listed
}

#[track_caller]
fn assert_created(facts: &[Observation]) {
    assert!(matches!(facts, [Observation::Created(container)] if &*container.id == "c"), "{facts:?}");
}

#[test]
fn who_asks_to_be_attached_is_told_when_made_and_when_found_stopped() {
    let mut ledger = Ledger::default();
    ledger.learn("net".into(), &network(&[]));
    assert_eq!(batch(&mut ledger, [created("other")]).0, []);
    assert_created(&batch(&mut ledger, [asks("c")]).0);
    let facts = ledger.listed_all(vec![asking("c", false), summary("other", false, &[])], 1);
    assert_eq!(facts[0], Observation::Containers(vec![]));
    assert_created(&facts[1..]);
    let (_, questions) = batch(&mut ledger, [started("c")]);
    container(&ledger.listed(vec![asking("c", true)], &questions, 1));
    let (facts, questions) = batch(&mut ledger, [ended("c")]);
    assert_eq!(facts, [Observation::ContainerGone("c".into())]);
    assert_created(&ledger.listed(vec![asking("c", true)], &questions, 1));
    let gone = batch(&mut ledger, [Event::Destroyed { id: "c".into() }]).0;
    assert_eq!(gone, [Observation::ContainerGone("c".into())], "also of one that never ran");
}

#[test]
fn names_are_asked_for_on_users_networks_and_once() {
    let mut ledger = with_running();
    let users = |is_users| Network { is_users, ..network(&[]) };
    ledger.learn("steppe".into(), &users(true));
    let on = |networks: &[(&str, u8)]| vec![summary("c", true, networks)];
    assert_eq!(ledger.unknown_aliases(&on(&[("net", 2)])), Vec::<ContainerId>::new());
    let list = on(&[("net", 2), ("steppe", 3)]);
    assert_eq!(ledger.unknown_aliases(&list), ["c".into()]);
    ledger.learn_aliases(&list[0], vec!["db".into()]);
    assert_eq!(ledger.unknown_aliases(&list), Vec::<ContainerId>::new());
    let (_, questions) = batch(&mut ledger, [changed("c")]);
    assert_eq!(container(&ledger.listed(list.clone(), &questions, 2)).aliases, ["db".into()]);
    batch(&mut ledger, [ended("c")]);
    assert_eq!(ledger.unknown_aliases(&list), ["c".into()], "it may have others when it starts again");
}
