//! Each order and its reverse, again and again.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use steppe_integration::orders::{Felt, PORT, Removed, Stage, Started, Wanted};
use steppe_testbed::{Container, Run, Service, Stamped};

/// control asks Consul 50 times a second at the most (a token bucket), so changes come more slowly than that.
pub const PACE: Duration = Duration::from_millis(50);

/// An order in Consul, and its reverse.
#[derive(Debug)]
pub struct Pair {
    pub order: Vec<Felt>,
    pub reverse: Vec<Felt>,
}

/// Containers start with a label, and go.
pub fn starts(stage: &Stage, repeats: usize) -> Vec<(Started, Removed)> {
    let one = |nth| {
        let started = stage.start(&format!("api-{nth}"));
        let removed = stage.remove(&started.container);
        (started, removed)
    };
    progress("containers start and go", (0..repeats).map(one))
}

/// A running container's registration comes with a tag, and goes.
pub fn registrations(stage: &Stage, repeats: usize) -> Pair {
    let api = stage.host.docker.run(Run::connect_tightly("registered", stage.web));
    let service = registration("registered", &api).tag("connect_to=web:80");
    let consul = &stage.host.consul;
    let is_there = |node: &Value| node["Services"]["registered"].is_object();
    let pair = Alternation {
        container: &api,
        answers: consul.watch("/v1/catalog/node/a"),
        make: &|| consul.register(&service),
        unmake: &|| consul.deregister("registered"),
        is_made: &is_there,
    };
    pair.run(stage, "registrations with a tag come and go", repeats)
}

/// A service appears, and goes.
pub fn services(stage: &Stage, repeats: usize) -> Pair {
    let granted = |run: Run| stage.host.docker.run(run.label("steppe.connect_to", "late:80"));
    granted(Run::idle("early"));
    let late = steppe_integration::ask::vip(stage.host, "late", PORT);
    let api = granted(Run::connect_tightly("waiting", late));
    let service = Service::new("late").at(stage.provider.address(), PORT);
    let consul = &stage.host.consul;
    let is_there = |instances: &Value| instances.as_array().is_some_and(|list| !list.is_empty());
    let pair = Alternation {
        container: &api,
        answers: consul.watch("/v1/health/service/late"),
        make: &|| consul.register(&service),
        unmake: &|| consul.deregister("late"),
        is_made: &is_there,
    };
    pair.run(stage, "a service appears and goes", repeats)
}

/// A running service gains a tag, and loses it.
pub fn tags(stage: &Stage, repeats: usize) -> Pair {
    let api = stage.host.docker.run(Run::connect_tightly("tagged", stage.web));
    let (plain, consul) = (registration("tagged", &api), &stage.host.consul);
    let tagged = plain.clone().tag("connect_to=web:80");
    consul.register(&plain);
    let has_tag =
        |node: &Value| node["Services"]["tagged"]["Tags"].as_array().is_some_and(|tags| !tags.is_empty());
    let pair = Alternation {
        container: &api,
        answers: consul.watch("/v1/catalog/node/a"),
        make: &|| consul.register(&tagged),
        unmake: &|| consul.register(&plain),
        is_made: &has_tag,
    };
    pair.run(stage, "a tag comes and goes", repeats)
}

fn registration(name: &str, container: &Container) -> Service {
    Service::new(name).at(container.address(), 1)
}

/// Something in Consul that comes and goes, and who feels it.
struct Alternation<'a> {
    container: &'a Container,
    answers: Stamped<Value>,
    make: &'a dyn Fn(),
    unmake: &'a dyn Fn(),
    is_made: &'a dyn Fn(&Value) -> bool,
}

impl Alternation<'_> {
    fn run(self, stage: &Stage, what: &str, repeats: usize) -> Pair {
        let lines = self.container.lines();
        let one = |_| {
            let next = Instant::now() + PACE;
            let order = stage.change(self.make, &self.answers, self.is_made, &lines, Wanted::Served);
            sleep(next.saturating_duration_since(Instant::now()));
            let next = Instant::now() + PACE;
            let is_unmade = |answer: &Value| !(self.is_made)(answer);
            let reverse = stage.change(self.unmake, &self.answers, is_unmade, &lines, Wanted::Refused);
            sleep(next.saturating_duration_since(Instant::now()));
            (order, reverse)
        };
        let (order, reverse) = progress(what, (0..repeats).map(one)).into_iter().unzip();
        self.container.kill();
        Pair { order, reverse }
    }
}

fn progress<T>(what: &str, run: impl Iterator<Item = T>) -> Vec<T> {
    eprintln!("{what} …");
    run.collect()
}
