//! From the answers to the view, and from the view to text.

use std::fmt::Write as _;

use steppe_api::v1::SourceState;
use steppe_explain::{Answer, AwayKind, DNS, Paint, Style, age, clean, readiness};

use super::{
    Answers, Counts, Ignored, Missing, Moved, Source, Status,
    component::Component,
    doors::{doors, line, would_refuse},
};
use crate::table::{Cell, Table};

/// How many of each kind of items are written out: a screen has some forty lines, and the advice stands at the end.
const SHOWN: usize = 20;
/// Agents that are asked themselves. Those that only control knows of come after them.
const ASKED: [&str; 2] = ["proxy", "netfilter-agent"];

impl From<Answers> for Status {
    fn from(answers: Answers) -> Self {
        let seen = answers.control.as_ref().ok();
        let of = |name: &str| seen.and_then(|control| control.agents.iter().find(|agent| agent.name == name));
        let proxy = answers.proxy.as_ref().map(|proxy| proxy.about.clone()).map_err(Clone::clone);
        let netfilter = answers.netfilter.as_ref().map(|agent| agent.about.clone()).map_err(Clone::clone);
        let control: Answer<_> =
            answers.control.as_ref().map(|control| control.about.clone()).map_err(Clone::clone);
        let draining = answers.proxy.as_ref().ok().filter(|proxy| proxy.draining);
        let mut components = vec![
            Component::control(&control, seen.and_then(|control| readiness(control).err())),
            Component::proxy(
                &proxy,
                of("proxy"),
                draining.map(|proxy| proxy.active_connections),
                seen.is_some_and(|control| control.takeover_in_force),
            ),
            Component::agent("netfilter-agent", &netfilter, of("netfilter-agent")),
        ];
        for (process, answer) in &answers.dns {
            let (name, seen) = (process.name(), of(process.name()));
            // One that never ran is shown if control expects it.
            if seen.is_none() && answer.as_ref().err().is_some_and(|away| away.kind == AwayKind::NoSocket) {
                continue;
            }
            let other = answers.dns.iter().any(|(other, answer)| other != process && answer.is_ok());
            components.push(Component::dns(name, answer, seen, other));
        }
        let is_asked = |name: &str| ASKED.contains(&name) || DNS.iter().any(|process| process.name() == name);
        let others = seen.into_iter().flat_map(|control| &control.agents);
        components.extend(others.filter(|agent| !is_asked(&agent.name)).map(Component::by_hearsay));
        let mut status = Self {
            node: seen
                .map(|control| clean(&control.node))
                .filter(|node| !node.is_empty())
                .unwrap_or_else(host_name),
            ok: true,
            components,
            sources: Vec::new(),
            counts: None,
            doors: answers.doors.as_ref().map(doors).filter(|doors| !doors.is_empty()),
            moved_networks: Vec::new(),
            missing_networks: Vec::new(),
            ignored: Vec::new(),
            next: None,
        };
        if let Ok(control) = answers.control {
            status.sources = control.sources.into_iter().map(source).collect();
            status.counts = Some(Counts {
                workloads: control.workloads,
                workloads_without_address: control.workloads_without_address,
                workloads_not_attached: control.workloads_not_attached,
                services: control.services,
                services_empty: control.services_empty,
            });
            let moved = control.moved_networks.into_iter();
            status.moved_networks =
                moved.map(|n| Moved { user: n.user, subnet: n.subnet, reason: n.reason }).collect();
            let missing = control.missing_networks.into_iter();
            status.missing_networks = missing.map(|n| Missing { user: n.user, reason: n.reason }).collect();
            let ignored = control.ignored.into_iter();
            status.ignored =
                ignored.map(|i| Ignored { origin: i.origin, text: i.text, reason: i.reason }).collect();
            status.ignored.sort();
        }
        status.ok = status.components.iter().all(|row| row.ok) && status.sources.iter().all(Source::is_live);
        status.next = status.what_next();
        status
    }
}

fn source(wire: steppe_api::v1::SourceStatus) -> Source {
    let state = match wire.state() {
        SourceState::Live => "live",
        SourceState::Stale => "stale",
        SourceState::Starting | SourceState::Unspecified => "starting",
    };
    Source { name: wire.name, state, age_ms: wire.age_ms, last_error: wire.last_error }
}

impl Source {
    fn is_live(&self) -> bool {
        self.state == "live"
    }

    fn text(&self) -> &'static str {
        match self.state {
            "live" => "live",
            "stale" => "stale, kept",
            _ => "starting: nothing is pushed before it is listed",
        }
    }
}

/// The kernel's name for this host (proc(5)): control, which knows the cluster's, is away.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "this host".to_owned() } else { clean(name.trim()) }
}

impl Status {
    /// The one thing that is worth doing first.
    fn what_next(&self) -> Option<String> {
        if let Some(next) = self.components.iter().filter(|row| !row.ok).find_map(|row| row.next.clone()) {
            return Some(next);
        }
        if let Some(source) = self.sources.iter().find(|source| !source.is_live()) {
            return Some(format!("see that {} answers steppe-control", clean(&source.name)));
        }
        let counts = self.counts.as_ref()?;
        match () {
            () if !self.missing_networks.is_empty() => Some("steppe network ls".into()),
            () if !self.ignored.is_empty() => Some("correct what is ignored, as its reason says".into()),
            () if counts.services_empty > 0 => Some("steppe services".into()),
            () if counts.workloads_without_address > 0 || counts.workloads_not_attached > 0 => {
                Some("steppe workloads".into())
            }
            () if self.doors.as_deref().is_some_and(|doors| would_refuse(doors) > 0) => {
                Some("steppe doctor --audit".into())
            }
            () => None,
        }
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let word = if self.ok { paint.with(Style::Good, "OK") } else { paint.with(Style::Bad, "DEGRADED") };
        let mut text = format!("{}  {word}\n", self.node);
        text += &self.component_table().render(paint);
        for component in &self.components {
            for rejected in &component.rejected {
                let _ = writeln!(text, "rejected by {}: {rejected}", component.name);
            }
        }
        if !self.sources.is_empty() {
            text += &self.source_table().render(paint);
        }
        let counts = self.counts.as_ref().map(|counts| self.count_line(counts));
        let lines: Vec<String> = counts.into_iter().chain(self.doors.as_deref().map(line)).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "{}", lines.join("  "));
        }
        for Moved { user, subnet, reason } in &self.moved_networks {
            let _ =
                writeln!(text, "moved: {}", clean(&format!("network of {user} is {subnet} here: {reason}")));
        }
        for Missing { user, reason } in self.missing_networks.iter().take(SHOWN) {
            let _ = writeln!(text, "no network: {}", clean(&format!("{user} gets none: {reason}")));
        }
        if self.missing_networks.len() > SHOWN {
            let more = self.missing_networks.len() - SHOWN;
            let _ = writeln!(text, "no network: {more} more users, see steppe network ls");
        }
        for ignored in self.ignored.iter().take(SHOWN) {
            let Ignored { origin, text: written, reason } = ignored;
            let _ = writeln!(text, "ignored: {}", clean(&format!("`{written}` ({origin}): {reason}")));
        }
        if self.ignored.len() > SHOWN {
            let _ = writeln!(text, "ignored: {} more, see steppe status --json", self.ignored.len() - SHOWN);
        }
        if let Some(next) = &self.next {
            let _ = writeln!(text, "{} {next}", paint.with(Style::Advice, "next:"));
        }
        text
    }

    fn component_table(&self) -> Table {
        let mut table = Table::new(&["COMPONENT", "VERSION", "UP", "IN FORCE", "STATE"]);
        for row in &self.components {
            let style = if row.ok { Style::Good } else { Style::Bad };
            table.row(vec![
                Cell::from(&row.name),
                Cell::from(row.version.as_deref().unwrap_or("-")),
                Cell::from(row.uptime_seconds.map_or_else(|| "-".to_owned(), age)),
                Cell::from(
                    row.in_force_version.map_or_else(|| "-".to_owned(), |version| format!("r{version}")),
                ),
                Cell::styled(&row.state, style),
            ]);
        }
        table
    }

    fn source_table(&self) -> Table {
        let mut table = Table::new(&["SOURCE", "STATE", "AGE", "LAST ERROR"]);
        for source in &self.sources {
            let style = if source.is_live() { Style::Good } else { Style::Bad };
            table.row(vec![
                Cell::from(&source.name),
                Cell::styled(source.text(), style),
                Cell::from(age(source.age_ms / 1000)),
                Cell::from(if source.last_error.is_empty() { "-" } else { &source.last_error }),
            ]);
        }
        table
    }

    /// `workloads 41 (3 without an address)  services 2 (1 empty)  ignored tags 1`
    fn count_line(&self, counts: &Counts) -> String {
        let but = |parts: &[(u64, &str)]| {
            let parts = parts.iter().filter(|(number, _)| *number > 0);
            let parts: Vec<String> = parts.map(|(number, what)| format!("{number} {what}")).collect();
            if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) }
        };
        format!(
            "workloads {}{}  services {}{}  ignored tags {}",
            counts.workloads,
            but(&[
                (counts.workloads_without_address, "without an address"),
                (counts.workloads_not_attached, "not on their user's network"),
            ]),
            counts.services,
            but(&[(counts.services_empty, "empty")]),
            self.ignored.len()
        )
    }
}

#[cfg(test)]
mod tests;
