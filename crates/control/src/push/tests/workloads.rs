//! Workloads and their grants.

use super::{super::*, *};

#[test]
fn a_new_workload_is_sent_with_its_grants_and_before_them() {
    let mut bench = Bench::new();
    bench.settle();
    let [listener, client, _, grant] = service(0, 1).try_into().unwrap();
    let grant_id = grant.0.id().to_string();
    bench.desire(workload(), vec![]);
    for (resource, requires) in [listener, client, grant] {
        bench.desire(resource, requires);
    }
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty(), "the proxy has no client yet");
    let version = bench.push.outgoing(Proxy, bench.now).last().unwrap().version;
    bench.push.acknowledged(Proxy, version);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), ["w".to_owned(), grant_id]);
}

#[test]
fn a_workload_does_not_wait_for_what_never_comes() {
    let mut bench = Bench::new();
    bench.settle();
    bench.desire(workload(), vec![]);
    bench.desire_all(service(0, 1));
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty());
    let later = bench.now + hold::LONGEST;
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, later)), ["w"]);
}

#[test]
fn a_workload_that_is_known_does_not_wait() {
    let mut bench = Bench::new();
    bench.desire(workload(), vec![]);
    bench.settle();
    bench.desire_all(service(0, 1));
    bench.cut_off(NetfilterAgent);
    bench.connect(NetfilterAgent);
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, bench.now)), ["w"]);
}

#[test]
fn a_published_port_comes_after_the_workload_that_it_leads_to() {
    let mut bench = Bench::new();
    bench.settle();
    bench.desire(workload(), vec![]);
    bench.desire_all(service(0, 1));
    let published = steppe_model::PublishedPort {
        protocol: steppe_model::Protocol::Tcp,
        port: 20_001,
        addresses: Default::default(),
        workload: Some(WorkloadId::new("w")),
        expose: steppe_model::Expose::Proxies,
        name: "w".into(),
        user: None,
    };
    let id = published.id().to_string();
    bench.desire(Resource::PublishedPort(published), vec![]);
    assert!(bench.push.outgoing(NetfilterAgent, bench.now).is_empty(), "the workload waits for its grant");
    let later = bench.now + hold::LONGEST;
    assert_eq!(kinds(&bench.push.outgoing(NetfilterAgent, later)), ["w".to_owned(), id]);
}
