//! Changes in Consul at a steady pace, and when each was answered and in force.

use std::{
    collections::HashMap,
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use steppe_integration::orders::since;
use steppe_testbed::{Host, Stamped, now_ns};

use super::catalogue::{Catalogue, name};

/// Services that change, in turn: each is followed by a blocking query of our own, like control's.
const CHANGING: usize = 20;
/// Ports that no endpoint has before: each change has its own.
const FIRST_PORT: u16 = 20_000;
const PATIENCE: Duration = Duration::from_secs(10);

/// What to change.
pub struct Changes<'a> {
    pub host: &'a Host,
    /// What the kernel tells of its rules.
    pub rules: &'a Stamped<String>,
    pub catalogue: &'a Catalogue<'a>,
    /// So many a second.
    pub rate: u32,
    pub seconds: u32,
}

/// One of them, in nanoseconds as of [`now_ns`].
#[derive(Debug)]
pub struct Change {
    asked: u64,
    answered: u64,
    in_force: u64,
}

impl Change {
    /// From the request to Consul's answer.
    pub fn answered(&self) -> i64 {
        since(self.asked, self.answered)
    }

    /// From Consul's answer to the kernel's notice; below zero when control had its answer first.
    pub fn in_force(&self) -> i64 {
        since(self.answered, self.in_force)
    }
}

impl Changes<'_> {
    /// Makes them all.
    pub fn run(&self) -> Vec<Change> {
        let answers: Vec<Stamped<Value>> = (0..CHANGING)
            .map(|nth| self.host.consul.watch(&format!("/v1/health/service/{}", name(nth))))
            .collect();
        let pace = Duration::from_secs(1) / self.rate;
        let begun = Instant::now();
        let mut asked = Vec::new();
        for (nth, port) in (0..self.rate * self.seconds).zip(FIRST_PORT..) {
            sleep((begun + pace * nth).saturating_duration_since(Instant::now()));
            asked.push((nth as usize % CHANGING, port, now_ns()));
            self.catalogue.change(nth as usize % CHANGING, port);
        }
        let last = asked.last().map_or(FIRST_PORT, |(_, port, _)| *port);
        let answered = asked_in(&answers, &asked);
        let in_force = ports_in(self.rules, last);
        let felt = asked.iter().filter_map(|(_, port, asked)| {
            let (answered, in_force) = (*answered.get(port)?, *in_force.get(port)?);
            Some(Change { asked: *asked, answered, in_force })
        });
        felt.collect()
    }
}

/// When each port was in an answer first.
fn asked_in(answers: &[Stamped<Value>], asked: &[(usize, u16, u64)]) -> HashMap<u16, u64> {
    let mut seen = HashMap::new();
    for (nth, answers) in answers.iter().enumerate() {
        let Some((_, last, _)) = asked.iter().rfind(|(service, ..)| *service == nth) else { continue };
        loop {
            let (at, port) = answers.until(PATIENCE, "a service's change", first_port);
            seen.entry(port).or_insert(at);
            if port == *last {
                break;
            }
        }
    }
    seen
}

/// The port of a service's first endpoint.
fn first_port(answer: &Value) -> Option<u16> {
    let entries = answer.as_array()?.iter();
    let mut ports = entries.filter_map(|entry| u16::try_from(entry["Service"]["Port"].as_u64()?).ok());
    ports.find(|port| *port >= FIRST_PORT)
}

/// When the kernel told of each endpoint's port, up to this one.
fn ports_in(rules: &Stamped<String>, last: u16) -> HashMap<u16, u64> {
    let mut seen = HashMap::new();
    let find = |line: &String| {
        let rest = line.strip_prefix("add element inet steppe endpoints ")?;
        let port = rest.rsplit(" . ").next()?.trim_end_matches([' ', '}']).parse().ok();
        port.filter(|port| *port >= FIRST_PORT)
    };
    loop {
        let (at, port): (u64, u16) = rules.until(PATIENCE, "an endpoint in the kernel", find);
        seen.entry(port).or_insert(at);
        if port == last {
            return seen;
        }
    }
}
