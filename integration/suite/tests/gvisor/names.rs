//! Names from a container's first moment, under runc and under gVisor alike, without a word about DNS in its job.

use std::time::Duration;

use steppe_testbed::{Cluster, Host, Run};

use crate::common::{
    SOON,
    networks::{of_user, on, start},
};

/// The container's first process dials at once, and by name.
fn first_words(host: &Host, run: Run) -> String {
    host.docker.run(run).lines().next(SOON)
}

fn dials(name: &str, to: &str) -> Run {
    // A SYN to a name that is known before its rule is dropped, and sent again.
    let timeout = Duration::from_secs(4).as_millis().to_string();
    of_user(Run::new(name, &["probe", "dial", to, "--timeout-ms", &timeout]), "alice")
}

#[test]
fn a_containers_first_process_reaches_services_and_siblings_by_name() {
    let cluster = Cluster::hosts(1).without_consul().start();
    let a = cluster.one();
    start(a, &[]);
    let alice = |run: Run| on("alice", run);
    a.docker.run(alice(Run::serve_all("web-1", 80).label("steppe.service", "web:80")));
    a.docker.run(alice(Run::serve_all("sibling", 80)));
    for (name, under) in [("runc", (|run| run) as fn(Run) -> Run), ("gvisor", Run::runsc)] {
        let granted = dials(&format!("{name}-granted"), "tcp/web:80").label("steppe.connect_to", "web:80");
        assert_eq!(first_words(a, under(granted)), "tcp/web:80 ok web-1", "{name} on the default bridge");
        let member = alice(dials(&format!("{name}-member"), "tcp/web:80"));
        assert_eq!(first_words(a, under(member)), "tcp/web:80 ok web-1", "{name} on the user's network");
        for protocol in ["tcp", "udp"] {
            let to = format!("{protocol}/sibling:80");
            let member = alice(dials(&format!("{name}-{protocol}"), &to));
            assert_eq!(first_words(a, under(member)), format!("{to} ok sibling"), "{name}");
        }
        let long = alice(dials(&format!("{name}-long"), "tcp/web.steppe.internal:80"));
        assert_eq!(first_words(a, under(long)), "tcp/web.steppe.internal:80 ok web-1", "{name}");
    }
    cluster.assert_no_leak();
}
