//! Who dials, and what: every dialler tries every target at the same time, by one process each.

use std::{collections::BTreeMap, net::Ipv6Addr};

use steppe_testbed::{Container, Host, Lan, OUTSIDE, OUTSIDE6, Outcome, Output};

use super::table::{Line, Table, cell};

/// A SYN that got lost is sent again after a second, and that one still counts.
pub const TIMEOUT_MS: &str = "1500";

/// A place to dial from.
pub enum Place<'a> {
    /// Inside a container.
    Container(Container),
    /// A process of a host, under a uid.
    Host(&'a Host, u32),
    /// A machine that is no host.
    Outside(&'a Lan),
}

/// Who dials.
pub struct Dialler<'a> {
    /// A short name: a column's head.
    pub name: &'static str,
    /// From where.
    pub place: Place<'a>,
}

/// What is dialled.
#[derive(Debug, Clone)]
pub struct Target {
    /// In words.
    pub label: String,
    /// For `probe dial`.
    pub dial: String,
    /// Who should answer, or with what.
    pub server: String,
}

impl Dialler<'_> {
    /// Dials all targets at once; what came of each, by [`Target::dial`].
    fn dial(&self, targets: &[Target]) -> BTreeMap<String, Outcome> {
        let words: Vec<&str> = targets.iter().map(|target| target.dial.as_str()).collect();
        let output = match &self.place {
            Place::Container(container) => container.exec(&probe(&words, None)),
            Place::Host(host, uid) => host.probe(*uid, &probe(&words, None)[1..]),
            Place::Outside(lan) => outside(lan, &words),
        };
        outcomes(&output.ok())
    }
}

/// Reads what `probe dial` prints.
pub fn outcomes(told: &str) -> BTreeMap<String, Outcome> {
    let outcomes = told.lines().map(|line| {
        let (target, outcome) = line.split_once(' ').unwrap_or((line, ""));
        (target.to_owned(), outcome.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
    });
    outcomes.collect()
}

/// It has an address on the hosts' own network, which makes it a peer, and so says where it dials from.
fn outside(lan: &Lan, words: &[&str]) -> Output {
    let (six, four): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.contains('['));
    let mut first = lan.probe(&probe(&four, Some(&format!("{OUTSIDE}:0")))[1..]);
    let second = lan.probe(&probe(&six, Some(&format!("[{OUTSIDE6}]:0")))[1..]);
    first.stdout += &second.ok();
    first
}

fn probe<'a>(words: &[&'a str], from: Option<&'a str>) -> Vec<&'a str> {
    let mut all = vec!["probe", "dial", "--timeout-ms", TIMEOUT_MS];
    all.extend(from.into_iter().flat_map(|from| ["--from", from]));
    all.extend(words);
    all
}

/// The whole table, of targets by heading. `known` are the names of addresses that DNS may tell.
pub fn table(
    diallers: &[&Dialler<'_>],
    parts: &[(&str, Vec<Target>)],
    known: &BTreeMap<String, String>,
) -> Table {
    let targets: Vec<Target> = parts.iter().flat_map(|(_, targets)| targets.clone()).collect();
    let outcomes: Vec<BTreeMap<String, Outcome>> = std::thread::scope(|scope| {
        let dialling: Vec<_> =
            diallers.iter().map(|dialler| scope.spawn(|| dialler.dial(&targets))).collect();
        dialling.into_iter().map(|thread| thread.join().expect("it told what is wrong")).collect()
    });
    let line = |target: &Target| Line {
        target: target.label.clone(),
        cells: outcomes.iter().map(|told| one_cell(target, &told[&target.dial], known)).collect(),
    };
    Table {
        diallers: diallers.iter().map(|dialler| dialler.name.to_owned()).collect(),
        parts: parts
            .iter()
            .map(|(heading, targets)| ((*heading).to_owned(), targets.iter().map(line).collect()))
            .collect(),
    }
}

/// What came of dialling a target, in one word.
pub fn one_cell(target: &Target, outcome: &Outcome, known: &BTreeMap<String, String>) -> String {
    let named = match outcome {
        Outcome::Ok(told) => Outcome::Ok(known.get(told).unwrap_or(told).clone()),
        other => other.clone(),
    };
    cell(&named, &target.server)
}

/// The link-local address that the kernel gives a device by its hardware address (RFC 4291, appendix A).
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    let bytes = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    Ipv6Addr::from(bytes)
}
