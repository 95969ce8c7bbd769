//! The three orders in which a grant can come about, and their reverses: each made to happen once, and timed.
//!
//! * *a container starts* while its service's listener already runs ([`Stage::start`], [`Stage::remove`]);
//! * *a service appears* to which a running container already connects;
//! * *a running service gains a tag* for a service whose listener already runs.
//!
//! The last two are changes in Consul, felt by a connect loop in a running container ([`Stage::change`]).

use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use steppe_testbed::{Attempt, Container, Host, Lines, Outcome, Run, Service, Stamped, now_ns};

use crate::ask::{SOON, vip};

/// The port that the one service, `web`, listens on.
pub const PORT: u16 = 80;

/// A host with a service `web`, whose listener a granted container keeps.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The host.
    pub host: &'a Host,
    /// `web`'s virtual address.
    pub web: SocketAddr,
    /// The container that provides it.
    pub provider: Container,
    /// Every change of the kernel's rules.
    rules: Stamped<String>,
    /// Every change of the host's interfaces.
    links: Stamped<String>,
    /// Docker's events.
    events: RefCell<Lines>,
}

/// A container with a label started. Times as of [`now_ns`].
#[derive(Debug)]
pub struct Started {
    /// The container: a connect loop.
    pub container: Container,
    /// Docker's event that it has an address.
    pub connected_ns: u64,
    /// Its end of the cable is up: before that nothing can be bound to the port, and nothing can be sent.
    pub up_ns: u64,
    /// The kernel has its grant.
    pub in_force_ns: u64,
    /// What the loop prints after its first attempt.
    pub lines: Lines,
    /// Its first attempt.
    pub first: Attempt,
}

/// A container was removed. Times as of [`now_ns`].
#[derive(Debug)]
pub struct Removed {
    /// Docker's event that its process has ended.
    pub died_ns: u64,
    /// The kernel has its grant no more.
    pub gone_ns: u64,
}

/// A change in Consul, and when the connect loop felt it. Times as of [`now_ns`].
#[derive(Debug)]
pub struct Felt {
    /// Just before the change was asked for.
    pub asked_ns: u64,
    /// A blocking query of our own answered with it.
    pub answered_ns: u64,
    /// What the loop printed before it felt the change; its last attempt of the old kind is the last one.
    pub before: Vec<Attempt>,
    /// Its first attempt of the new kind.
    pub first: Attempt,
}

impl Felt {
    /// From Consul's answer to the end of the first attempt that felt it; negative when the loop felt it first.
    pub fn lag_ns(&self) -> i64 {
        since(self.answered_ns, self.first.end_ns)
    }

    /// Since the attempt before the one that felt it had begun: the change came into force within that time.
    pub fn blur_ns(&self) -> Option<i64> {
        self.before.last().map(|before| since(before.start_ns, self.first.end_ns))
    }
}

/// What a connect loop shall see from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// A server answers.
    Served,
    /// A reset.
    Refused,
}

impl Wanted {
    fn fits(self, outcome: &Outcome) -> bool {
        match self {
            Self::Served => outcome.is_ok(),
            Self::Refused => *outcome == Outcome::Refused,
        }
    }
}

impl<'a> Stage<'a> {
    /// Starts the suite on a host, and `web`.
    ///
    /// # Panics
    /// When anything fails.
    #[track_caller]
    pub fn raise(host: &'a Host) -> Self {
        host.suite.start();
        let (rules, links) = (host.watch_rules(), host.watch_links());
        let events = RefCell::new(host.docker.events());
        let provider = host.docker.run(Run::serve("web", PORT));
        host.consul.register(&Service::new("web").at(provider.address(), PORT));
        let keeper = host.docker.run(Run::idle("keeper").label("steppe.connect_to", "web:80"));
        let web = vip(host, "web", PORT);
        let stage = Self { host, web, provider, rules, links, events };
        stage.rule("add", &keeper, web);
        stage
    }

    /// A container starts, with a connect loop to `web` and a label that grants it.
    ///
    /// # Panics
    /// When it isn't granted in time.
    #[track_caller]
    pub fn start(&self, name: &str) -> Started {
        let run = Run::connect_tightly(name, self.web).label("steppe.connect_to", "web:80");
        let container = self.host.docker.run(run);
        let connected_ns = self.event("network", "connect", &container);
        let in_force_ns = self.rule("add", &container, self.web);
        let up_ns = self.up(&container);
        let lines = container.lines();
        let first = lines.attempt(SOON);
        Started { container, connected_ns, up_ns, in_force_ns, lines, first }
    }

    /// A granted container goes.
    ///
    /// # Panics
    /// When its grant isn't gone in time.
    #[track_caller]
    pub fn remove(&self, container: &Container) -> Removed {
        container.clone().remove();
        let died_ns = self.event("container", "die", container);
        Removed { died_ns, gone_ns: self.rule("delete", container, self.web) }
    }

    /// A change in Consul, of which `answers` must show what `shows` looks for, and after which the loop that prints
    /// `lines` must see what is wanted.
    ///
    /// # Panics
    /// When it isn't felt in time.
    #[track_caller]
    pub fn change(
        &self,
        change: impl FnOnce(),
        answers: &Stamped<Value>,
        shows: impl Fn(&Value) -> bool,
        lines: &Lines,
        wanted: Wanted,
    ) -> Felt {
        let asked_ns = now_ns();
        change();
        let (answered_ns, ()) = answers.until(SOON, "the change", |answer| shows(answer).then_some(()));
        let what = format!("{wanted:?}");
        let (before, first) = lines.attempts_until(SOON, &what, |attempt| wanted.fits(&attempt.outcome));
        Felt { asked_ns, answered_ns, before, first }
    }

    /// The time at which the bridge port of a container whose grant is in force got its carrier.
    #[track_caller]
    fn up(&self, container: &Container) -> u64 {
        let bindings = self.host.nft(&["list", "set", "bridge", "steppe", "bindings"]);
        let port = port_of(&bindings, container.address()).expect("it is bound to a port");
        let found = |line: &String| (line.contains(&port) && line.contains("LOWER_UP")).then_some(());
        self.links.until(SOON, &format!("{port} is up"), found).0
    }

    /// The time of the next such event about a container.
    #[track_caller]
    fn event(&self, kind: &str, action: &str, container: &Container) -> u64 {
        self.events.borrow().until(SOON, &format!("the event {kind} {action}"), |line| {
            let event: Value = serde_json::from_str(line).ok()?;
            let actor = &event["Actor"];
            let about = if kind == "network" { &actor["Attributes"]["container"] } else { &actor["ID"] };
            let found = event["Type"] == kind && event["Action"] == action && *about == container.id.as_str();
            found.then(|| event["timeNano"].as_u64()).flatten()
        })
    }

    /// The time at which the kernel next adds or deletes a container's grant.
    #[track_caller]
    pub fn rule(&self, verb: &str, container: &Container, to: SocketAddr) -> u64 {
        let head = format!("{verb} element inet steppe grants ");
        let key = format!(" {} . {} . tcp . {} ", container.address(), to.ip(), to.port());
        let found = |line: &String| (line.starts_with(&head) && line.contains(&key)).then_some(());
        self.rules.until(SOON, &format!("{head}{{{key}}}"), found).0
    }
}

/// The bridge port that nft's listing of `bindings` has for an address, as ip prints it: ` NAME@`.
fn port_of(bindings: &str, address: Ipv4Addr) -> Option<String> {
    let end = format!(" . {address}");
    let mut elements = bindings.split([',', '{', '}']);
    let element = elements.find(|element| element.trim_end().ends_with(&end))?;
    Some(format!(" {}@", element.split('"').nth(1)?))
}

/// Nanoseconds from one time to another.
pub fn since(from: u64, to: u64) -> i64 {
    to.cast_signed() - from.cast_signed()
}

/// Time within which an order must be in force, in tests.
pub const WITHIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_found_by_its_whole_address() {
        let listing = "elements = { \"veth1\" . 02:42:ac:11:00:14 . 172.17.0.20,\n\t\"veth2\" . 02:42:ac:11:00:02 . 172.17.0.2 }";
        assert_eq!(port_of(listing, [172, 17, 0, 2].into()).as_deref(), Some(" veth2@"));
        assert_eq!(port_of(listing, [172, 17, 0, 20].into()).as_deref(), Some(" veth1@"));
        assert_eq!(port_of(listing, [172, 17, 0, 3].into()), None);
    }
}
