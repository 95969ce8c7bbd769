//! A fleet that moves host by host: one with Steppe that nobody uses behaves as before, and one without it goes on being reached.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use steppe_testbed::{Attempt, Cluster, Container, Host, Outcome, Run, eventually};

use crate::common::{SOON, consume, provide, vip};

/// Nobody answers within it who would be reached.
const SILENT: Duration = Duration::from_millis(300);

/// Containers and hosts that try each other.
struct Fleet<'a> {
    hosts: [&'a Host; 2],
    containers: Vec<Container>,
    targets: Vec<SocketAddr>,
}

impl<'a> Fleet<'a> {
    fn raise(cluster: &'a Cluster) -> Self {
        let hosts: [&Host; 2] = cluster.all();
        let mut containers = Vec::new();
        let mut targets = Vec::new();
        for (n, host) in hosts.iter().enumerate() {
            host.docker.create_network("mine", &format!("172.30.{n}.0/24"));
            for (name, network) in [("one", None), ("two", None), ("three", Some("mine"))] {
                let run = Run::serve(name, 80).publish(80);
                let run = network.into_iter().fold(run, Run::network);
                let container = host.docker.run(run);
                targets.push((container.address(), 80).into());
                targets.push((host.address, container.published(80)).into());
                containers.push(container);
            }
        }
        // Somebody else's address, and one that nobody has.
        targets.push((Ipv4Addr::new(10, 77, 0, 99), 80).into());
        Self { hosts, containers, targets }
    }

    /// Who reaches what, and how it fails where it does not.
    fn reachability(&self) -> Vec<String> {
        let from_host = |host: &Host| -> Vec<String> {
            let tried = self.targets.iter().map(|to| (to, host.connect(*to, SILENT).outcome));
            tried.map(|(to, outcome)| format!("{} {to} {outcome}", host.name)).collect()
        };
        let from_container = |container: &Container| -> Vec<String> {
            let try_it = |to: &SocketAddr| container.enter(|| Attempt::make(*to, SILENT)).outcome;
            let tried = self.targets.iter().map(|to| (to, try_it(to)));
            tried.map(|(to, outcome)| format!("{} {to} {outcome}", container.id)).collect()
        };
        std::thread::scope(|scope| {
            let hosts = self.hosts.map(|host| scope.spawn(move || from_host(host)));
            let containers = self.containers.iter().map(|c| scope.spawn(move || from_container(c)));
            let all: Vec<_> = hosts.into_iter().chain(containers).collect();
            all.into_iter().flat_map(|one| one.join().expect("it does not panic")).collect()
        })
    }
}

impl Fleet<'_> {
    /// Everybody reaches what they did before. A busy machine may take longer than [`SILENT`] once, not again and again.
    #[track_caller]
    fn assert_reaches(&self, before: &[String]) {
        eventually(SOON, "everybody reaches what they did before", || {
            let now = self.reachability();
            let differs = before.iter().zip(&now).find(|(before, now)| before != now);
            differs.map_or(Ok(()), |(before, now)| Err(format!("{now}, and not {before}")))
        });
    }
}

/// Every rule of a host that is not Steppe's, and its routes and addresses without those that `nft` and `ip` count.
fn foreign_rules(host: &Host) -> String {
    let listed = host.nft(&["--stateless", "list", "ruleset"]);
    let mut kept = String::new();
    let mut ours = false;
    for line in listed.lines() {
        if line.starts_with("table ") {
            ours = line.contains(" steppe ");
        }
        if !ours {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    // nft can't print all of iptables' own words, which are counted.
    let kept: String =
        kept.split("counter packets").map(|part| part.trim_start_matches(|c: char| c != '\n')).collect();
    kept + &host.sh("iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'; sysctl -a 2>/dev/null | grep -E 'forward|rp_filter|bridge-nf' | sort").ok()
}

#[test]
fn a_host_whose_steppe_nobody_uses_behaves_as_before() {
    let cluster = Cluster::hosts(2).start();
    let fleet = Fleet::raise(&cluster);
    let a = fleet.hosts[0];
    let (rules, reached) = (foreign_rules(a), fleet.reachability());
    assert!(reached.iter().any(|line| line.contains(" ok ")) && rules.contains("DOCKER"), "{rules}");
    a.suite.start();
    eventually(SOON, "control has told the netfilter-agent of every container", || {
        let bound = a.nft(&["list", "set", "bridge", "steppe", "bindings"]);
        let count = bound.matches(" . ").count();
        if count >= 3 { Ok(()) } else { Err(bound) }
    });
    fleet.assert_reaches(&reached);
    assert_eq!(foreign_rules(a), rules);
    for part in [&a.suite.control, &a.suite.netfilter_agent, &a.suite.proxy] {
        part.terminate(SOON);
    }
    fleet.assert_reaches(&reached);
    assert_eq!(foreign_rules(a), rules);
    cluster.assert_no_leak();
}

#[test]
fn a_host_with_steppe_uses_instances_of_one_without() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.start();
    provide(b, "web", "web-1");
    let api = consume(a, "api", "web:80");
    let web = vip(a, "web", 80);
    eventually(SOON, "it is served", || match api.connect(web).outcome {
        Outcome::Ok(name) => Ok(name),
        other => Err(other),
    });
    cluster.assert_no_leak();
}
