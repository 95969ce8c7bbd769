//! One process of the suite, and how it is.

use serde::Serialize;
use steppe_api::v1::{About, AgentState, AgentStatus, DnsStatus};
use steppe_explain::{Answer, Away, AwayKind, age, clean};

/// An agent that takes longer than this to put a change in force is worth a look.
const LATE_MS: u64 = 1000;

/// A row of the table of components.
#[derive(Debug, Serialize)]
pub(super) struct Component {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) uptime_seconds: Option<u64>,
    /// The last version of desired state that is in force.
    pub(super) in_force_version: Option<u64>,
    pub(super) ok: bool,
    /// In words: `ok`, `behind 2 (1.3s)`, `DOWN 42s: …`.
    pub(super) state: String,
    /// Resources that it rejected, with the reasons.
    pub(super) rejected: Vec<String>,
    /// What to do about it; empty when there is nothing to do.
    #[serde(skip)]
    pub(super) next: Option<String>,
}

/// What becomes of connections while the proxy is away, or not ready, and the kernel has taken over.
const TAKEN_OVER: &str = "the kernel carries new connections";

/// What becomes of names while one of two that answer for them is away.
const OTHER_ANSWERS: &str = "the other answers for names";

/// What it means that a process is down. `is_done` is whether something else does its work meanwhile.
fn effect(name: &str, is_done: bool) -> &'static str {
    match name {
        "control" => "traffic goes on, changes wait",
        "proxy" if is_done => TAKEN_OVER,
        "proxy" => "connections to services fail",
        "netfilter-agent" => "what is in the kernel holds, changes wait",
        "dns" | "dns-a" | "dns-b" if is_done => OTHER_ANSWERS,
        "dns" | "dns-a" | "dns-b" => "names fail, traffic unaffected",
        _ => "what it did is not done",
    }
}

impl Component {
    /// control, by its own word. `unready` is why it has not planned yet.
    pub(super) fn control(answer: &Answer<Option<About>>, unready: Option<AwayKind>) -> Self {
        let mut row = Self::own_word("control", answer);
        if let Some(AwayKind::NotReady { waits_for, fix }) = unready {
            row.is_not_well(format!("waits for {}", clean(&waits_for)), Some(fix));
        }
        // control puts nothing in force itself.
        row.in_force_version = None;
        row
    }

    /// The proxy. `open` is how many connections it still has if it has been told to stop, `is_taken_over` whether new
    /// ones go past it.
    pub(super) fn proxy(
        answer: &Answer<Option<About>>,
        seen: Option<&AgentStatus>,
        open: Option<u64>,
        is_taken_over: bool,
    ) -> Self {
        let mut row = Self::of_agent("proxy", answer, seen, is_taken_over);
        match open {
            Some(open) if is_taken_over => {
                row.is_not_well(format!("draining: {TAKEN_OVER}, {open} are open here"), None);
            }
            Some(open) => {
                let state = format!("draining: it has been told to stop, {open} connections are open");
                row.is_not_well(state, None);
            }
            None if is_taken_over && row.ok => row.is_not_well(format!("ready: {TAKEN_OVER} still"), None),
            None => {}
        }
        row
    }

    /// One that answers for names. `is_done` is whether another does.
    pub(super) fn dns(
        name: &str,
        answer: &Answer<DnsStatus>,
        seen: Option<&AgentStatus>,
        is_done: bool,
    ) -> Self {
        let about = answer.as_ref().map(|status| status.about.clone()).map_err(Clone::clone);
        let mut row = Self::of_agent(name, &about, seen, is_done);
        let Ok(status) = answer else { return row };
        if status.draining {
            row.is_not_well("draining: it has been told to stop".into(), None);
        } else if status.listening.is_empty() {
            let state = format!("listens nowhere: {}", effect(name, is_done));
            row.is_not_well(
                state,
                Some(format!("see the log of steppe-{name}; steppe doctor says who has its port")),
            );
        } else if status.upstreams.is_empty() && row.ok {
            let next = "name a resolver in /etc/resolv.conf of this host".to_owned();
            row.is_not_well(
                "knows no resolver to forward to: only Steppe's names are answered".into(),
                Some(next),
            );
        }
        row
    }

    /// Another agent: by its own word, and by control's where control is up.
    pub(super) fn agent(name: &str, answer: &Answer<Option<About>>, seen: Option<&AgentStatus>) -> Self {
        Self::of_agent(name, answer, seen, false)
    }

    fn of_agent(
        name: &str,
        answer: &Answer<Option<About>>,
        seen: Option<&AgentStatus>,
        is_done: bool,
    ) -> Self {
        let mut row = Self::own_word(name, answer);
        match (answer, seen) {
            (Ok(about), None) => {
                if about.as_ref().is_some_and(|about| about.synced) {
                    return row;
                }
                row.state = "ok, without control".into();
            }
            (Ok(_), Some(seen)) => row.judge(seen, is_done),
            (Err(away), seen) => {
                let since = seen.filter(|seen| seen.state() == AgentState::Down).map(|seen| seen.for_ms);
                row.state = down(effect(name, is_done), away, since);
            }
        }
        row
    }

    /// An agent that only control knows of.
    pub(super) fn by_hearsay(seen: &AgentStatus) -> Self {
        let mut row = Self {
            name: clean(&seen.name),
            version: None,
            uptime_seconds: None,
            in_force_version: Some(seen.acked_version).filter(|version| *version > 0),
            ok: true,
            state: "ok".into(),
            rejected: Vec::new(),
            next: None,
        };
        row.judge(seen, false);
        row
    }

    fn own_word(name: &str, answer: &Answer<Option<About>>) -> Self {
        let about = answer.as_ref().ok().and_then(Option::as_ref);
        Self {
            name: name.to_owned(),
            version: about.map(|about| about.version.clone()),
            uptime_seconds: about.map(|about| about.uptime_seconds),
            in_force_version: about.map(|about| about.in_force_version).filter(|version| *version > 0),
            ok: answer.is_ok(),
            state: answer
                .as_ref()
                .err()
                .map_or_else(|| "ok".into(), |away| down(effect(name, false), away, None)),
            rejected: Vec::new(),
            next: answer.as_ref().err().map(Away::fix),
        }
    }

    fn judge(&mut self, seen: &AgentStatus, is_done: bool) {
        let name = &seen.name;
        self.rejected =
            seen.rejected.iter().map(|reject| clean(&format!("{}: {}", reject.id, reject.reason))).collect();
        let behind = seen.sent_version.saturating_sub(seen.acked_version);
        let late = format!("behind {behind} ({:.1}s)", seen.behind_ms as f64 / 1000.0);
        match seen.state() {
            AgentState::Down | AgentState::Unspecified => {
                let effect = effect(name, is_done);
                let why = match &*seen.error {
                    "" => effect.to_owned(),
                    error if is_done => format!("{effect} ({error})"),
                    error => error.to_owned(),
                };
                let state = format!("not connected to control for {}: {why}", age(seen.for_ms / 1000));
                let next = format!("see the logs of steppe-control and steppe-{name}");
                self.is_not_well(clean(&state), Some(next));
            }
            AgentState::Syncing if is_done => {
                self.is_not_well(format!("syncing: {}", effect(name, true)), None);
            }
            AgentState::Syncing => self.is_not_well("syncing".into(), None),
            AgentState::Live if behind > 0 && seen.behind_ms >= LATE_MS => {
                self.is_not_well(late, Some(format!("see the log of steppe-{name}")));
            }
            AgentState::Live if !self.rejected.is_empty() => {
                let next = "remove the reasons of the rejections above".to_owned();
                self.is_not_well(format!("rejects {}", self.rejected.len()), Some(next));
            }
            AgentState::Live if behind > 0 => self.state = late,
            AgentState::Live => {}
        }
    }

    fn is_not_well(&mut self, state: String, next: Option<String>) {
        (self.ok, self.state, self.next) = (false, state, next);
    }
}

/// `DOWN 42s: names fail, traffic unaffected (there is no /run/steppe/dns.sock)`
fn down(effect: &str, away: &Away, since_ms: Option<u64>) -> String {
    if !away.is_down() {
        return format!("NO ANSWER: {}", clean(&away.reason()));
    }
    let since = since_ms.map(|ms| format!(" {}", age(ms / 1000))).unwrap_or_default();
    format!("DOWN{since}: {effect} ({})", clean(&away.reason()))
}
