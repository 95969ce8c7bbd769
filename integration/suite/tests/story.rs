//! The main story: a tag lets a container reach a service on two hosts, and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use steppe_testbed::{Cluster, Outcome, Run, eventually};

use crate::common::{SOON, consume, provide, vip};

#[test]
fn a_tag_lets_a_container_reach_all_instances_on_both_hosts_and_nobody_else() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.start();
    b.suite.start();
    let _web: Vec<_> = [(a, "web-1"), (b, "web-2"), (b, "web-3")]
        .into_iter()
        .map(|(host, instance)| provide(host, "web", instance))
        .collect();
    a.consul.wait_passing("web", 3, SOON);
    let api = consume(a, "api", "web:80");
    let stranger = a.docker.run(Run::idle("stranger"));

    let web = vip(a, "web", 80);
    eventually(SOON, "all three instances are served", || {
        let names: BTreeSet<_> =
            (0..3).map(|_| api.connect(web).outcome).map(|outcome| format!("{outcome:?}")).collect();
        if names.len() == 3 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    let mut served: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..30 {
        let Outcome::Ok(name) = api.connect(web).outcome else { panic!("a granted connection failed") };
        *served.entry(name).or_default() += 1;
    }
    let even = [("web-1", 10), ("web-2", 10), ("web-3", 10)].map(|(name, count)| (name.to_owned(), count));
    assert_eq!(served, BTreeMap::from(even));

    let refused = stranger.connect(web);
    assert_eq!(refused.outcome, Outcome::Refused);
    assert!(refused.took().as_millis() < 100, "a reset within milliseconds, not {:?}", refused.took());
    assert_eq!(api.connect((web.ip(), 81)).outcome, Outcome::Refused, "a port that was not granted");
    assert_eq!(api.connect(([247, 1, 2, 3], 80)).outcome, Outcome::Refused, "a service that was not granted");
    cluster.assert_no_leak();
}
