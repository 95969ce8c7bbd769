//! The life of containers, as Docker tells it.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use steppe_model::Mac;

use super::{super::convert::Address, *};

mod users;

const MAC: Mac = Mac([2, 0x42, 0xac, 0x11, 0, 2]);

fn address(last: u8) -> Address {
    Address { ip: Ipv4Addr::new(172, 17, 0, last), prefix_len: 16, mac: MAC }
}

fn network(members: &[(&str, u8)]) -> Network {
    let members = members.iter().map(|&(id, last)| (id.into(), address(last))).collect();
    Network { bridge: Some("docker0".into()), members, is_users: false }
}

fn summary(id: &str, running: bool, networks: &[(&str, u8)]) -> Listed {
    Listed {
        id: id.into(),
        name: format!("name-of-{id}").into(),
        labels: BTreeMap::from([("steppe.user".to_owned(), "alice".to_owned())]),
        networks: networks.iter().map(|&(id, last)| (id.into(), address(last))).collect(),
        published: Vec::new(),
        running,
        health: if running { Health::Passing } else { Health::Critical("Exited (0)".into()) },
    }
}

fn created(id: &str) -> Event {
    let labels = BTreeMap::from([("steppe.connect_to".to_owned(), "web".to_owned())]);
    Event::Created { id: id.into(), name: "api".into(), labels }
}

fn connected(network: &str, id: &str) -> Event {
    Event::Connected { network: network.into(), id: id.into() }
}

fn disconnected(network: &str, id: &str) -> Event {
    Event::Disconnected { network: network.into(), id: id.into() }
}

fn changed(id: &str) -> Event {
    Event::Changed { id: id.into() }
}

fn started(id: &str) -> Event {
    Event::Started { id: id.into() }
}

fn ended(id: &str) -> Event {
    Event::Ended { id: id.into() }
}

/// Takes the events in as one batch and says what was said at once, and what is asked.
fn batch<const N: usize>(ledger: &mut Ledger, events: [Event; N]) -> (Vec<Observation>, Questions) {
    let mut questions = Questions::default();
    let facts = events.into_iter().filter_map(|event| ledger.event(event, &mut questions)).collect();
    (facts, questions)
}

#[track_caller]
fn container(facts: &[Observation]) -> &Container {
    match facts {
        [Observation::Container(container)] => container,
        other => panic!("one container is expected, not {other:?}"),
    }
}

fn ips(container: &Container) -> Vec<u8> {
    container.attachments.iter().map(|a| a.ip.octets()[3]).collect()
}

/// A ledger that knows `c` running on `net`, with the last byte 2.
fn with_running() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.learn("net".into(), &network(&[]));
    ledger.listed_all(vec![summary("c", true, &[("net", 2)])], 1);
    ledger
}

#[test]
fn a_container_is_told_before_it_starts() {
    let mut ledger = Ledger::default();
    let (facts, questions) = batch(&mut ledger, [created("c"), connected("net", "c")]);
    assert_eq!(facts, []);
    assert!(questions.list.is_empty(), "listing is not what the container waits for");
    let asked_for = &questions.inspect[&*Arc::<str>::from("net")];
    let facts = ledger.inspected(&"net".into(), &network(&[("c", 2), ("x", 3)]), asked_for, 7);
    let fact = container(&facts);
    assert_eq!((&*fact.name, ips(fact), fact.ports_known), ("api", vec![2], 7));
    assert_eq!(fact.labels["steppe.connect_to"], "web");
    assert_eq!(&*fact.attachments[0].bridge, "docker0");
    assert!(matches!(&fact.health, Health::Critical(why) if &**why == "not started yet"));

    // Something else asks for the list before Docker has it there.
    let (_, questions) = batch(&mut ledger, [changed("c")]);
    let facts = ledger.listed(vec![summary("c", false, &[])], &questions, 8);
    assert_eq!(ips(container(&facts)), [2]);

    let (_, questions) = batch(&mut ledger, [started("c")]);
    let facts = ledger.listed(vec![summary("c", true, &[("net", 2)])], &questions, 9);
    let fact = container(&facts);
    assert_eq!((ips(fact), &fact.health, fact.ports_known), (vec![2], &Health::Passing, 9));
}

#[test]
fn what_was_created_before_us_is_told_once_its_labels_are_known() {
    let mut ledger = Ledger::default();
    let (_, questions) = batch(&mut ledger, [connected("net", "c")]);
    assert_eq!(questions.list, BTreeSet::from(["c".into()]));
    let asked_for = questions.inspect.values().next().unwrap();
    assert_eq!(ledger.inspected(&"net".into(), &network(&[("c", 2)]), asked_for, 1), []);
    let facts = ledger.listed(vec![summary("c", false, &[])], &questions, 1);
    let fact = container(&facts);
    assert_eq!((ips(fact), fact.labels["steppe.user"].as_str()), (vec![2], "alice"));
}

#[test]
fn an_end_takes_the_facts_back_at_once_and_for_good() {
    let gone = vec![Observation::ContainerGone("c".into())];
    let mut ledger = with_running();
    assert_eq!(batch(&mut ledger, [ended("c")]).0, gone);
    assert_eq!(batch(&mut ledger, [disconnected("net", "c")]).0, []);
    // The list is late.
    let (_, questions) = batch(&mut ledger, [changed("c")]);
    assert_eq!(ledger.listed(vec![summary("c", true, &[("net", 2)])], &questions, 2), []);
    let all = ledger.listed_all(vec![summary("c", true, &[("net", 2)])], 2);
    assert_eq!(all, [Observation::Containers(vec![])]);
    let (facts, questions) = batch(&mut ledger, [started("c"), Event::Destroyed { id: "c".into() }]);
    assert_eq!((facts, questions.list.len()), (vec![], 0), "it was taken back already");
}

#[test]
fn a_restart_is_told_from_its_network_again() {
    let mut ledger = with_running();
    let (facts, questions) =
        batch(&mut ledger, [ended("c"), disconnected("net", "c"), connected("net", "c")]);
    assert_eq!(facts, [Observation::ContainerGone("c".into())]);
    let asked_for = questions.inspect.values().next().unwrap();
    let facts = ledger.inspected(&"net".into(), &network(&[("c", 3)]), asked_for, 2);
    let fact = container(&facts);
    assert_eq!(ips(fact), [3]);
    assert!(matches!(fact.health, Health::Critical(_)));
    let (_, questions) = batch(&mut ledger, [started("c")]);
    let facts = ledger.listed(vec![summary("c", true, &[("net", 3)])], &questions, 2);
    assert_eq!(container(&facts).health, Health::Passing);
}

#[test]
fn a_failed_start_is_taken_back() {
    let mut ledger = Ledger::default();
    let (_, questions) = batch(&mut ledger, [created("c"), connected("net", "c")]);
    let asked_for = questions.inspect.values().next().unwrap();
    ledger.inspected(&"net".into(), &network(&[("c", 2)]), asked_for, 1);
    let (facts, _) = batch(&mut ledger, [disconnected("net", "c")]);
    assert_eq!(facts, [Observation::ContainerGone("c".into())]);
}

#[test]
fn a_container_that_is_listed_no_more_is_gone() {
    let mut ledger = with_running();
    let (_, questions) = batch(&mut ledger, [changed("c")]);
    assert_eq!(ledger.listed(vec![], &questions, 1), [Observation::ContainerGone("c".into())]);
    assert_eq!(ledger.listed_all(vec![], 1), [Observation::Containers(vec![])]);
}

#[test]
fn an_event_outweighs_a_list_that_is_late() {
    let mut ledger = with_running();
    ledger.learn("two".into(), &network(&[]));
    // Connected to a second network and cut off the first, and the list has neither yet.
    let (facts, questions) =
        batch(&mut ledger, [connected("two", "c"), disconnected("net", "c"), changed("c")]);
    assert!(container(&facts).attachments.is_empty());
    let asked_for = &questions.inspect[&*Arc::<str>::from("two")];
    let facts = ledger.inspected(&"two".into(), &network(&[("c", 9)]), asked_for, 2);
    assert_eq!(ips(container(&facts)), [9]);
    let facts = ledger.listed(vec![summary("c", true, &[("net", 2)])], &questions, 2);
    assert_eq!(ips(container(&facts)), [9]);
}

#[test]
fn the_oldest_question_counts() {
    let mut ledger = with_running();
    let (_, questions) = batch(&mut ledger, [connected("two", "c")]);
    let asked_for = questions.inspect.values().next().unwrap();
    let facts = ledger.inspected(&"two".into(), &network(&[("c", 9)]), asked_for, 5);
    assert_eq!(container(&facts).ports_known, 1, "the other address is as old as that");
    let mut questions = Questions::default();
    ledger.reread(&"c".into(), &mut questions);
    let facts = ledger.listed(vec![summary("c", true, &[("net", 2), ("two", 9)])], &questions, 6);
    assert_eq!(container(&facts).ports_known, 6);
}

#[test]
fn networks_without_a_bridge_give_no_address() {
    let mut ledger = Ledger::default();
    let list = vec![summary("c", true, &[("overlay", 2)])];
    assert_eq!(ledger.unknown_networks(&list), BTreeSet::from(["overlay".into()]));
    ledger.learn("overlay".into(), &Network { bridge: None, members: BTreeMap::new(), is_users: false });
    assert_eq!(ledger.unknown_networks(&list), BTreeSet::new());
    let [Observation::Containers(all)] = &ledger.listed_all(list, 1)[..] else { panic!() };
    assert_eq!((all.len(), all[0].attachments.len()), (1, 0), "people ask about it all the same");
}

#[test]
fn a_starting_container_is_read_again_by_its_network() {
    let mut ledger = Ledger::default();
    let (_, questions) = batch(&mut ledger, [created("c"), connected("net", "c")]);
    let asked_for = questions.inspect.values().next().unwrap();
    ledger.inspected(&"net".into(), &network(&[("c", 2)]), asked_for, 1);
    let mut again = Questions::default();
    ledger.reread(&"c".into(), &mut again);
    assert_eq!(&again.inspect, &questions.inspect);
    let facts = ledger.listed_all(vec![summary("c", false, &[])], 2);
    let [Observation::Containers(all)] = &facts[..] else { panic!() };
    assert_eq!(ips(&all[0]), [2], "a full listing does not forget it");
    let mut all = Questions::default();
    ledger.reread_all_starting(&mut all);
    assert_eq!(&all.inspect, &questions.inspect);
}

/// Docker itself, as far as the ledger sees it: which of three containers run and where they are attached, and which
/// have ended but are still in its list as if they ran.
#[derive(Debug, Default)]
struct Docker(BTreeMap<u8, BTreeSet<u8>>, BTreeMap<u8, BTreeSet<u8>>);

impl Docker {
    /// Does something, and says which events tell of it.
    fn act(&mut self, container: u8, net: u8, action: u8) -> Vec<Event> {
        let (id, network) = (format!("c{container}"), format!("n{net}"));
        match (action, self.0.get_mut(&container)) {
            (0, None) => {
                self.0.insert(container, BTreeSet::from([net]));
                self.1.remove(&container);
                vec![created(&id), connected(&network, &id), started(&id)]
            }
            (1, Some(on)) => {
                on.insert(net);
                vec![connected(&network, &id)]
            }
            (2, Some(on)) => {
                on.remove(&net);
                vec![disconnected(&network, &id)]
            }
            (3, Some(_)) => {
                self.0.remove(&container);
                vec![ended(&id), Event::Destroyed { id: id.as_str().into() }]
            }
            (4, Some(_)) => {
                let on = self.0.remove(&container).unwrap_or_default();
                let mut events = vec![ended(&id)];
                events.extend(on.iter().map(|n| disconnected(&format!("n{n}"), &id)));
                self.1.insert(container, on);
                events
            }
            _ => vec![changed(&id)],
        }
    }

    fn answer(&self, ledger: &mut Ledger, questions: &Questions) -> Vec<Observation> {
        let mut facts = Vec::new();
        for (id, asked_for) in &questions.inspect {
            let on = |on: &BTreeSet<u8>| on.iter().any(|n| **id == *format!("n{n}"));
            let members = self.0.iter().filter(|(_, networks)| on(networks));
            let members = members.map(|(c, _)| (format!("c{c}").into(), address(*c))).collect();
            let network = Network { bridge: Some("docker0".into()), members, is_users: false };
            facts.extend(ledger.inspected(id, &network, asked_for, 1));
        }
        let mut list = Vec::new();
        for (c, on) in self.0.iter().chain(&self.1) {
            let on: Vec<_> = on.iter().map(|n| format!("n{n}")).collect();
            let on: Vec<_> = on.iter().map(|n| (n.as_str(), *c)).collect();
            list.push(summary(&format!("c{c}"), true, &on));
        }
        list.retain(|listed| questions.list.contains(&listed.id));
        for id in ledger.unknown_networks(&list) {
            ledger.learn(id, &network(&[]));
        }
        facts.extend(ledger.listed(list, questions, 1));
        facts
    }

    fn world(&self) -> BTreeMap<String, BTreeSet<String>> {
        let on = |on: &BTreeSet<u8>| on.iter().map(|n| format!("n{n}")).collect();
        self.0.iter().map(|(c, networks)| (format!("c{c}"), on(networks))).collect()
    }
}

proptest! {
    /// However events are batched: once all are taken in, the facts say what Docker says.
    #[test]
    fn the_facts_end_where_docker_is(
        steps in prop::collection::vec((0u8..3, 0u8..3, 0u8..5, any::<bool>()), 0..40),
    ) {
        let mut docker = Docker::default();
        let mut ledger = Ledger::default();
        let mut questions = Questions::default();
        let mut facts = Vec::new();
        for (container, net, action, cut) in steps {
            for event in docker.act(container, net, action) {
                facts.extend(ledger.event(event, &mut questions));
            }
            if cut {
                facts.extend(docker.answer(&mut ledger, &std::mem::take(&mut questions)));
            }
        }
        facts.extend(docker.answer(&mut ledger, &questions));
        let mut world = BTreeMap::new();
        for fact in facts {
            match fact {
                Observation::Container(c) => {
                    let on: BTreeSet<_> = c.attachments.iter().map(|a| a.network.to_string()).collect();
                    world.insert(c.id.to_string(), on);
                }
                Observation::ContainerGone(id) => {
                    world.remove(&*id);
                }
                other => panic!("{other:?}"),
            }
        }
        prop_assert_eq!(world, docker.world());
    }
}
