//! The scene of most tests about faults: one host, a service with two instances, a container that is granted it and one that is
//! not, both of which try all the time, and a connection that is held.

use std::{net::SocketAddr, time::Duration};

use steppe_testbed::{Attempt, Cluster, Container, Host, Lines, Outcome, Run, Service};

use super::{
    SOON, consume,
    held::{Held, hold},
    vip,
    world::World,
};

const INTERVAL: Duration = Duration::from_millis(10);

/// See the module's head.
pub struct Stage<'a> {
    /// The host.
    pub host: &'a Host,
    /// `web-1` and `web-2`.
    pub instances: [Container; 2],
    /// The container `api`, which is granted `web:80`.
    pub api: Container,
    /// The container `stranger`, which is granted nothing.
    pub stranger: Container,
    /// Where `web` is dialled.
    pub web: SocketAddr,
    /// What must be in force.
    pub world: World,
    /// The container `loop`, which is granted `web:80` as well and never stops trying.
    pub granted: Trier,
    /// The container `stranger-loop`, which is granted nothing and never stops trying.
    pub refused: Trier,
}

impl<'a> Stage<'a> {
    /// Starts Steppe and sets the scene.
    pub fn set(cluster: &'a Cluster) -> Self {
        let a = cluster.one();
        a.suite.start();
        let instances = ["web-1", "web-2"].map(|name| a.docker.run(Run::serve(name, 80)));
        let mut world = World::default();
        for web in &instances {
            register(a, "web", web);
            world.workload(web).endpoint("web", (web.address(), 80).into());
        }
        let api = consume(a, "api", "web:80");
        let web = vip(a, "web", 80);
        let stranger = a.docker.run(Run::idle("stranger"));
        let trier = a.docker.run(Run::connect("loop", web, INTERVAL));
        a.consul.register(&Service::new("loop").at(trier.address(), 1).tag("connect_to=web:80"));
        let refused = a.docker.run(Run::connect("stranger-loop", web, INTERVAL));
        world.grant(&api, "web").grant(&trier, "web").workload(&stranger).workload(&refused);
        world.wait(a, SOON);
        let granted = Trier::of(&trier);
        granted.lines.attempts_until(SOON, "it is granted", |attempt| attempt.outcome.is_ok());
        let refused = Trier::of(&refused);
        Self { host: a, instances, api, stranger, web, world, granted, refused }
    }

    /// A new connection that is held.
    pub fn hold(&self) -> Held {
        hold(&self.api, self.web)
    }

    /// Nobody who may got less than a connection since the last look, and nobody who may not got one.
    #[track_caller]
    pub fn assert_undisturbed(&self) {
        for attempt in self.granted.tried() {
            assert!(attempt.outcome.is_ok(), "a granted connection failed: {attempt}");
        }
        self.assert_refusing();
    }

    /// Nobody who may not ever got a connection.
    #[track_caller]
    pub fn assert_refusing(&self) {
        for attempt in self.refused.tried() {
            assert!(!attempt.outcome.is_ok(), "a stranger connected: {attempt}");
        }
    }

    /// The stranger is refused now, at once.
    #[track_caller]
    pub fn assert_refuses_now(&self) {
        let attempt = self.stranger.connect(self.web);
        assert_eq!(attempt.outcome, Outcome::Refused, "{attempt}");
    }
}

/// A container that tries to connect all the time.
pub struct Trier {
    /// What it prints.
    pub lines: Lines,
}

impl Trier {
    /// Reads what it prints.
    pub fn of(container: &Container) -> Self {
        Self { lines: container.lines() }
    }

    /// What came of it since the last look, up to an attempt that began after this call: so each that began before
    /// is among them.
    #[track_caller]
    pub fn tried(&self) -> Vec<Attempt> {
        let now = steppe_testbed::now_ns();
        let (mut attempts, last) =
            self.lines.attempts_until(SOON, "it tries again", |attempt| attempt.start_ns > now);
        attempts.push(last);
        attempts
    }
}

/// Registers a container's port 80 as an instance of a service, without a check.
pub fn register(host: &Host, service: &str, instance: &Container) {
    host.consul.register(&Service::new(service).id(&instance.name).at(instance.address(), 80));
}
