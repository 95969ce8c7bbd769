//! The table, and the words that say what was counted.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
    time::Duration,
};

use steppe_integration::{
    orders::{Felt, Removed, Started, since},
    quantiles::Quantiles,
};
use steppe_testbed::{Attempt, Outcome};

use super::runs::{PACE, Pair};

/// The goal for the 99th percentile of each order.
const GOAL: Duration = Duration::from_millis(50);
/// A SYN that is dropped is sent again after a second (RFC 6298, 2.1): an attempt that took less has lost none.
const LOST_NONE: Duration = Duration::from_millis(900);

/// Everything that was measured.
#[derive(Debug)]
pub struct Report {
    pub starts: Vec<(Started, Removed)>,
    pub registrations: Pair,
    pub services: Pair,
    pub tags: Pair,
}

impl Report {
    /// What to print.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes everything");
        text
    }

    /// Whether each order's 99th percentile is within the goal, and no first attempt was refused.
    pub fn goal_is_met(&self) -> bool {
        let met = |lags: Quantiles| lags.percentile(99).is_some_and(|p99| p99 <= nanoseconds(GOAL));
        let pairs = [&self.registrations, &self.services, &self.tags];
        met(self.granted())
            && pairs.iter().all(|pair| met(lags(&pair.order)))
            && self.first_served() == self.starts.len()
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        let goal = format!("goal: p99 within {} ms", GOAL.as_millis());
        writeln!(out, "\nThe orders, in milliseconds ({goal})\n")?;
        head(out)?;
        row(out, "a container starts, with a Docker label (1)", &self.granted(), true)?;
        row(out, "a container runs, its registration follows (2)", &lags(&self.registrations.order), true)?;
        row(out, "a service appears (2)", &lags(&self.services.order), true)?;
        row(out, "a running service gains a tag (2)", &lags(&self.tags.order), true)?;
        writeln!(out, "\nTheir reverses\n")?;
        head(out)?;
        let gone = self.starts.iter().map(|(_, removed)| since(removed.died_ns, removed.gone_ns));
        row(out, "a container goes (3)", &Quantiles::of(gone), false)?;
        row(out, "a registration goes (4)", &lags(&self.registrations.reverse), false)?;
        row(out, "a service goes (4)", &lags(&self.services.reverse), false)?;
        row(out, "a tag goes (4)", &lags(&self.tags.reverse), false)?;
        self.write_odd(out)?;
        self.write_first_attempts(out)?;
        self.write_notes(out)
    }

    fn write_first_attempts(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nWhat a container with a label sees when it starts\n")?;
        head(out)?;
        let starts = || self.starts.iter().map(|(started, _)| started);
        let mut row = |what: &str, time: &dyn Fn(&Started) -> i64| {
            row(out, what, &Quantiles::of(starts().map(time)), false)
        };
        row("Docker's event, until its interface is up", &|s| since(s.connected_ns, s.up_ns))?;
        row("Docker's event, until its grant is in force", &|s| since(s.connected_ns, s.in_force_ns))?;
        row("its grant in force, until it first connects", &|s| since(s.in_force_ns, s.first.start_ns))?;
        row("its first connect, until it is served", &|s| since(s.first.start_ns, s.first.end_ns))?;
        let without_loss = starts().filter(|s| s.first.outcome.is_ok() && s.first.took() < LOST_NONE).count();
        writeln!(
            out,
            "\n{} of {} first connects succeeded, {without_loss} of them without a retransmission",
            self.first_served(),
            self.starts.len()
        )?;
        let ready = starts().filter(|s| s.in_force_ns <= s.first.start_ns).count();
        writeln!(
            out,
            "{ready} of {} had their grant in force before their first connect",
            self.starts.len()
        )?;
        for started in starts().filter(|s| !s.first.outcome.is_ok()) {
            writeln!(out, "not served: {}: {}", started.container.name, started.first.outcome)?;
        }
        Ok(())
    }

    fn write_notes(&self, out: &mut String) -> fmt::Result {
        let pairs = [&self.registrations, &self.services, &self.tags];
        let felt = pairs.iter().flat_map(|pair| pair.order.iter().chain(&pair.reverse));
        let blur = Quantiles::of(felt.filter_map(Felt::blur_ns));
        let consul = pairs.iter().flat_map(|pair| &pair.order);
        let consul = Quantiles::of(consul.map(|felt| since(felt.asked_ns, felt.answered_ns)));
        write!(
            out,
            "
(1) from the kernel's notification that the container's interface is up (`ip monitor`) to the one that its grant is
    there (`nft monitor`). Docker 20.10 tells of the connection earlier, before there is an interface that a grant
    could be bound to: see below for both
(2) from the arrival of Consul's answer to a blocking query of the benchmark's own, the same as control's, to the
    end of the first connect that is served in a loop inside the container; below zero when control's query
    was answered first
(3) from the time in Docker's event that the container's process has died, to the kernel's notification that its
    grant is gone; below zero when the kernel took the container's port away before Docker told of it
(4) as (2), to the end of the first connect that is refused
The loop inside the container pauses 1 ms between connects. From the start of its last connect of the old kind to
the end of its first one of the new kind it took {} ms (p50), {} ms (p99): the times may be too long by that.
Consul itself took {} ms (p50), {} ms (p99) from the request of a change to that answer; this is not counted.
Changes in Consul come {} ms after one another at the earliest: control asks Consul 50 times a second at the most.
",
            milliseconds(blur.percentile(50)),
            milliseconds(blur.percentile(99)),
            milliseconds(consul.percentile(50)),
            milliseconds(consul.percentile(99)),
            PACE.as_millis(),
        )
    }

    /// Connects in flight during a change that were neither served nor refused.
    fn write_odd(&self, out: &mut String) -> fmt::Result {
        let pairs = [&self.registrations, &self.services, &self.tags];
        let orders = pairs.iter().flat_map(|pair| &pair.order);
        let reverses = pairs.iter().flat_map(|pair| &pair.reverse);
        let odd = |felt: &Felt| {
            let is_odd = |attempt: &&Attempt| !attempt.outcome.is_ok() && attempt.outcome != Outcome::Refused;
            felt.before.iter().filter(is_odd).map(|attempt| attempt.outcome.to_string()).collect::<Vec<_>>()
        };
        let count = |odd: Vec<String>| {
            let mut counts = BTreeMap::new();
            odd.into_iter().for_each(|outcome| *counts.entry(outcome).or_insert(0) += 1);
            if counts.is_empty() { "none".to_owned() } else { format!("{counts:?}") }
        };
        writeln!(
            out,
            "\nConnects in between that were neither served nor refused: in orders {}, in reverses {}",
            count(orders.flat_map(odd).collect()),
            count(reverses.flat_map(odd).collect()),
        )
    }

    fn granted(&self) -> Quantiles {
        Quantiles::of(self.starts.iter().map(|(started, _)| since(started.up_ns, started.in_force_ns)))
    }

    fn first_served(&self) -> usize {
        self.starts.iter().filter(|(started, _)| started.first.outcome.is_ok()).count()
    }
}

fn lags(felt: &[Felt]) -> Quantiles {
    Quantiles::of(felt.iter().map(Felt::lag_ns))
}

fn head(out: &mut String) -> fmt::Result {
    writeln!(out, "{:48}{:>6}{:>9}{:>9}{:>9}", "", "n", "p50", "p99", "max")
}

fn row(out: &mut String, what: &str, times: &Quantiles, judged: bool) -> fmt::Result {
    let verdict = match times.percentile(99) {
        Some(p99) if judged && p99 > nanoseconds(GOAL) => "  MISSED",
        Some(_) if judged => "  ok",
        _ => "",
    };
    let [p50, p99, max] = [times.percentile(50), times.percentile(99), times.max()].map(milliseconds);
    writeln!(out, "{what:48}{:>6}{p50:>9}{p99:>9}{max:>9}{verdict}", times.count())
}

fn milliseconds(nanoseconds: Option<i64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two decimals of a millisecond are printed")]
    nanoseconds.map_or_else(|| "-".to_owned(), |n| format!("{:.2}", n as f64 / 1e6))
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
