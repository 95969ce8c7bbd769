//! One process killed at any moment, also in the middle of changes, and started again: what was changed is in force afterwards,
//! no person helps, and at no time does anybody connect who may not.
//!
//! The seed is printed; `STEPPE_SEED=N` in the environment repeats it.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use steppe_testbed::{Cluster, Container, Host, Outcome, Run, Service, now_ns};

use crate::common::{
    held::hold,
    stage::{Stage, register},
    world::World,
};

const ROUNDS: usize = 5;
const CHANGES: usize = 4;
/// Longer than most changes take to be in force, so that some kills hit before, some within and some after.
const MOMENT_MS: u64 = 250;
const CONVERGED: Duration = Duration::from_secs(20);

/// SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or_default()
    }
}

/// What there is beside the stage: instances that come and go, and clients whose rights and lives change.
struct Cast<'a> {
    host: &'a Host,
    services: [&'a str; 2],
    /// By name: the service, the container, and whether it is registered.
    instances: BTreeMap<String, (&'a str, Container, bool)>,
    clients: BTreeMap<String, (Container, BTreeSet<&'a str>)>,
    born: usize,
}

impl<'a> Cast<'a> {
    fn new(host: &'a Host) -> Self {
        let services = ["db", "mail"];
        let mut cast = Self { host, services, instances: BTreeMap::new(), clients: BTreeMap::new(), born: 0 };
        for service in services {
            for n in 1..=2 {
                let container = host.docker.run(Run::serve(&format!("{service}-{n}"), 80));
                cast.instances.insert(container.name.clone(), (service, container, false));
            }
        }
        cast.bear();
        cast.bear();
        cast
    }

    fn bear(&mut self) {
        self.born += 1;
        let container = self.host.docker.run(Run::idle(&format!("client-{}", self.born)));
        self.clients.insert(container.name.clone(), (container, BTreeSet::new()));
    }

    /// Changes something, and says what.
    fn change(&mut self, random: &mut Random) -> String {
        let client = self.clients.keys().nth(random.below(self.clients.len())).cloned();
        match random.below(8) {
            0..=2 => {
                let at = random.below(self.instances.len());
                let (service, container, registered) =
                    self.instances.values_mut().nth(at).expect("there are some");
                *registered = !*registered;
                if *registered {
                    register(self.host, service, container);
                } else {
                    self.host.consul.deregister(&container.name);
                }
                format!("{} registered: {registered}", container.name)
            }
            3..=5 if client.is_some() => {
                let name = client.expect("just seen");
                let (container, granted) = self.clients.get_mut(&name).expect("just seen");
                let service = self.services[random.below(self.services.len())];
                if !granted.remove(service) {
                    granted.insert(service);
                }
                let mut registration = Service::new(&name).at(container.address(), 1);
                for service in granted.iter() {
                    registration = registration.tag(&format!("connect_to={service}:80"));
                }
                self.host.consul.register(&registration);
                format!("{name} granted: {granted:?}")
            }
            6 if client.is_some() => {
                let name = client.expect("just seen");
                let (container, granted) = self.clients.remove(&name).expect("just seen");
                if !granted.is_empty() {
                    self.host.consul.deregister(&name);
                }
                container.remove();
                format!("{name} gone")
            }
            _ => {
                self.bear();
                format!("client-{} born", self.born)
            }
        }
    }

    fn demand(&self, world: &mut World) {
        for (service, container, registered) in self.instances.values() {
            world.workload(container);
            if *registered {
                world.endpoint(service, (container.address(), 80).into());
            }
        }
        for (container, granted) in self.clients.values() {
            world.workload(container);
            for service in granted {
                world.grant(container, service);
            }
        }
    }
}

#[test]
fn a_process_killed_at_any_moment_comes_back_to_what_the_world_demands() {
    let seed = std::env::var("STEPPE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(now_ns);
    println!("STEPPE_SEED={seed}");
    let mut random = Random(seed);
    let cluster = Cluster::hosts(1).start();
    let stage = Stage::set(&cluster);
    let a = stage.host;
    let mut cast = Cast::new(a);
    for round in 1..=ROUNDS {
        let mut held = hold(&stage.api, stage.web);
        let victims = [&a.suite.control, &a.suite.netfilter_agent, &a.suite.proxy];
        let victim = victims[random.below(victims.len())];
        let kills: Vec<_> = (0..=random.below(2))
            .map(|_| [0, 0].map(|_| Duration::from_millis(random.next() % MOMENT_MS)))
            .collect();
        let mut changed = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                for [alive, dead] in &kills {
                    thread::park_timeout(*alive);
                    victim.kill();
                    thread::park_timeout(*dead);
                    victim.start();
                }
            });
            changed = (0..CHANGES).map(|_| cast.change(&mut random)).collect();
        });
        println!("round {round}: {} killed at {kills:?}; {changed:?}", victim.name());

        let mut world = stage.world.clone();
        cast.demand(&mut world);
        world.wait(a, CONVERGED);
        if victim.name() == a.suite.proxy.name() {
            let end = held.wait_cut(CONVERGED);
            assert!([Outcome::Reset, Outcome::Eof].contains(&end), "{end:?}");
            // Each kill can cut what is under way.
            let tried = stage.granted.tried();
            let failed: Vec<_> = tried.iter().filter(|attempt| !attempt.outcome.is_ok()).collect();
            assert!(failed.len() <= kills.len(), "{failed:?}");
            stage.assert_refusing();
        } else {
            held.assert_open();
            stage.assert_undisturbed();
        }
        for (container, granted) in cast.clients.values() {
            assert!(container.connect(stage.web).outcome == Outcome::Refused, "{granted:?}");
        }
    }
    cluster.assert_no_leak();
}
