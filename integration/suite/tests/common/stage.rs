//! The scene of most tests about faults: one host, a service with two instances, a container that is granted it and one that is
//! not, both of which try all the time, and a connection that is held.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    time::Duration,
};

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
        granted.wait_granted();
        let refused = Trier::of(&refused);
        Self { host: a, api, stranger, web, world, granted, refused }
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
    container: Container,
    lines: RefCell<Lines>,
    /// When the newest attempt began that was looked at.
    seen: Cell<u64>,
}

impl Trier {
    /// Reads what it prints.
    pub fn of(container: &Container) -> Self {
        let lines = RefCell::new(container.lines());
        Self { container: container.clone(), lines, seen: Cell::new(0) }
    }

    /// After a restart of Docker's daemon: what it has printed meanwhile comes with the next look.
    pub fn read_again(&self) {
        self.lines.replace(self.container.lines());
    }

    /// Waits for a first success.
    #[track_caller]
    fn wait_granted(&self) {
        self.wait_first("it is granted", |outcome| outcome.is_ok());
    }

    /// Waits until it is known, and refused: before that its packets are dropped.
    #[track_caller]
    pub fn wait_refused(&self) {
        self.wait_first("it is refused", |outcome| *outcome == Outcome::Refused);
    }

    #[track_caller]
    fn wait_first(&self, what: &str, is_it: impl Fn(&Outcome) -> bool) {
        let (_, first) = self.lines.borrow().attempts_until(SOON, what, |attempt| is_it(&attempt.outcome));
        self.seen.set(first.start_ns);
    }

    /// What came of it since the last look, up to an attempt that began after this call: so each that began before
    /// is among them.
    #[track_caller]
    pub fn tried(&self) -> Vec<Attempt> {
        let (now, seen) = (steppe_testbed::now_ns(), self.seen.get());
        let lines = self.lines.borrow();
        let (mut attempts, last) = lines.attempts_until(SOON, "it tries again", |a| a.start_ns > now);
        attempts.push(last);
        attempts.retain(|attempt| attempt.start_ns > seen);
        self.seen.set(attempts.iter().map(|attempt| attempt.start_ns).max().unwrap_or(seen));
        attempts
    }
}

/// Registers a container's port 80 as an instance of a service, without a check.
pub fn register(host: &Host, service: &str, instance: &Container) {
    host.consul.register(&Service::new(service).id(&instance.name).at(instance.address(), 80));
}
