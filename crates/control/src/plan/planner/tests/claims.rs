//! What the author of a job may not have by what the job registers or labels.

use super::{
    nomad::{ALLOCS, alloc, listed, of_alloc, registration},
    *,
};
use crate::observe::{Alloc, AllocNetwork, AllocPort, Life};

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
fn a_job_does_not_lead_the_proxy_to_what_the_host_keeps_for_itself() {
    let consumer = alloc(ALLOCS[0], "alice", AllocNetwork::Task, &["web:80"]);
    let provider = |ports| Alloc { ports, ..alloc(ALLOCS[1], "alice", AllocNetwork::Host, &[]) };
    let own = AllocPort { label: "http".into(), host_ip: [127, 0, 0, 1].into(), host_port: 8500, to: 8500 };
    for (address, ports, is_dialled) in [
        ("127.0.0.1", vec![], false),
        ("169.254.169.254", vec![], false),
        ("10.0.0.9", vec![], true),
        ("127.0.0.1", vec![own], true),
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
