//! What the author of a job may not have by what the job registers or labels.

use super::{
    nomad::{ALLOCS, alloc, listed, of_alloc, registration},
    *,
};
use crate::observe::{Alloc, AllocNetwork, AllocPort, Elsewhere, Life};

fn consumer() -> Container {
    container(1, &[("steppe.connect_to", "web:80")])
}

fn registered(address: &str, port: u16) -> Observation {
    let instance = instance(NODE, &registration(ALLOCS[1]), address, port, &[]);
    Observation::Instances(SourceName::Consul, name("web"), vec![instance])
}

fn problems(planner: &Planner) -> Vec<Option<&'static str>> {
    let providers = planner.services().values().flat_map(|service| &service.providers);
    providers.map(|provider| provider.address.err()).collect()
}

#[test]
fn a_job_leads_the_proxy_to_its_own_ports_alone() {
    let consumer = alloc(ALLOCS[0], "alice", AllocNetwork::Task, &["web:80"]);
    let provider = |ports| Alloc { ports, ..alloc(ALLOCS[1], "alice", AllocNetwork::Host, &[]) };
    let own = |ip: [u8; 4]| AllocPort { label: "http".into(), host_ip: ip.into(), host_port: 8500, to: 8500 };
    for (address, ports, is_dialled) in [
        ("127.0.0.1", vec![], false),
        ("169.254.169.254", vec![], false),
        // The node's own, where another user may have published it.
        ("10.0.0.9", vec![], false),
        ("10.0.0.7", vec![own([10, 0, 0, 9])], false),
        ("10.0.0.9", vec![own([10, 0, 0, 9])], true),
        ("", vec![own([0, 0, 0, 0])], true),
        ("127.0.0.1", vec![own([10, 0, 0, 9])], false),
        ("127.0.0.1", vec![own([127, 0, 0, 1])], true),
    ] {
        let mut planner = planner();
        let allocs = vec![Arc::new(consumer.clone()), Arc::new(provider(ports))];
        let containers = vec![of_alloc(1, ALLOCS[0], &[])];
        settle(
            &mut planner,
            vec![Observation::Allocs(allocs), Observation::Containers(containers), registered(address, 8500)],
        );
        let problems = problems(&planner);
        assert_eq!(problems.len(), 1, "{address}");
        assert_eq!(problems[0].is_none(), is_dialled, "{address}: {problems:?}");
    }
}

#[test]
fn on_another_node_as_well() {
    for (address, port, is_dialled) in [
        ("", 24_011, true),
        ("10.0.0.9", 24_011, true),
        ("10.0.0.9", 24_012, false),
        ("10.0.0.1", 443, false),
        ("10.0.0.1", 24_011, false),
        // By its port in the container: it is dialled where that is published.
        ("192.168.7.7", 8080, true),
    ] {
        let mut planner = planner();
        let elsewhere = alloc(ALLOCS[1], "alice", AllocNetwork::Task, &[]);
        let instance = instance("n2", &registration(ALLOCS[1]), address, port, &[]);
        settle(
            &mut planner,
            vec![
                listed(alloc(ALLOCS[0], "alice", AllocNetwork::Task, &["web:80"])),
                Observation::Containers(vec![of_alloc(1, ALLOCS[0], &[])]),
                Observation::Instances(SourceName::Consul, name("web"), vec![instance]),
                Observation::AllocElsewhere(ALLOCS[1].into(), Elsewhere::Found(Arc::new(elsewhere))),
            ],
        );
        let problems = problems(&planner);
        assert_eq!(problems.len(), 1, "{address}:{port}");
        assert_eq!(problems[0].is_none(), is_dialled, "{address}:{port}: {problems:?}");
    }
}

#[test]
fn an_address_that_users_networks_have_on_every_host_is_dialled_on_no_other() {
    for (address, is_dialled) in [("10.208.7.2", false), ("10.224.0.2", true)] {
        let mut planner = planner();
        let by_hand = instance("n2", "web-1", address, 80, &[]);
        settle(
            &mut planner,
            vec![
                Observation::Containers(vec![consumer()]),
                Observation::Instances(SourceName::Consul, name("web"), vec![by_hand]),
            ],
        );
        assert_eq!(problems(&planner)[0].is_none(), is_dialled, "{address}");
    }
}

#[test]
fn what_belongs_to_a_namespace_that_is_no_user_is_not_open_to_everybody() {
    let mut planner = planner();
    let long = "n".repeat(64);
    let containers = vec![consumer(), of_alloc(2, ALLOCS[1], &[("steppe.service", "web:8080")])];
    settle(
        &mut planner,
        vec![
            listed(alloc(ALLOCS[1], &long, AllocNetwork::Task, &[])),
            Observation::Containers(containers),
            registered("172.17.0.2", 8080),
        ],
    );
    let problems = problems(&planner);
    assert!(problems.len() == 2 && problems.iter().all(Option::is_some), "{problems:?}");
}

#[test]
fn a_label_offers_nothing_for_an_allocation_that_is_not_told_or_stops() {
    let offers = || of_alloc(2, ALLOCS[1], &[("steppe.service", "web:8080")]);
    let told = |life| listed(Alloc { life, ..alloc(ALLOCS[1], "alice", AllocNetwork::Task, &[]) });
    let grantee = container(1, &[("steppe.user", "alice"), ("steppe.connect_to", "web:80")]);
    let mut planner = planner();
    settle(&mut planner, vec![Observation::Containers(vec![grantee, offers()])]);
    for (allocs, is_dialled) in [
        (Observation::Allocs(Vec::new()), false),
        (told(Life::Placed), true),
        (told(Life::Stopping), false),
        (told(Life::Placed), true),
        (Observation::Allocs(Vec::new()), false),
    ] {
        settle(&mut planner, vec![allocs]);
        let ports = planner.services().values().flat_map(|service| service.ports.values());
        let dialled = ports.flat_map(|port| &port.routing.endpoints).count();
        assert_eq!(dialled == 1, is_dialled);
    }
}
