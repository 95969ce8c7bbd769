//! `steppe doctor --audit`: what doors that only watch would have refused, what to write so that it goes on, and what shut ones
//! did refuse.

use std::fmt::Write as _;

use serde::Serialize;
use steppe_api::v1::{
    DoorCount, DoorMode, DoorName, GetNetfilterStatusRequest, ListDoorsRequest, ListDoorsResponse,
};
use steppe_explain::{Answer, Paint, Style, Suite, age, clean, door_name};

use crate::table::{Cell, Table};

/// What enforcing would cut.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// Doors that only watch.
    watching: Vec<&'static str>,
    /// Doors where nothing is looked at.
    off: Vec<&'static str>,
    /// For how long has been counted, at least: the kernel counts on while the netfilter-agent is upgraded.
    watched_seconds: u64,
    /// What doors that only watch would have refused.
    cut: Vec<Cut>,
    /// What doors that are shut did refuse.
    refused: Vec<Cut>,
}

/// What one door refused, or would have, of one workload or at one port.
#[derive(Debug, Serialize)]
struct Cut {
    door: &'static str,
    packets: u64,
    user: String,
    /// The container that tried, or the one that was tried; empty when it was neither.
    name: String,
    /// Such as `24011/tcp`; empty for doors that are not about a port.
    port: String,
    fix: String,
}

/// Asks the netfilter-agent.
///
/// # Errors
/// [`Away`](steppe_explain::Away), when it does not answer or keeps no doors.
pub(crate) async fn audit(suite: &Suite) -> Answer<Audit> {
    let (doors, status) = tokio::try_join!(
        suite.doors(ListDoorsRequest {}),
        suite.netfilter_status(GetNetfilterStatusRequest {}),
    )?;
    Ok(Audit::new(&doors, status.about.map_or(0, |about| about.uptime_seconds)))
}

impl Audit {
    fn new(doors: &ListDoorsResponse, watched_seconds: u64) -> Self {
        let kept = |mode: DoorMode| {
            let states = doors.doors.iter().filter(move |state| state.mode() == mode);
            states.map(|state| state.name()).collect::<Vec<_>>()
        };
        let names = |mode| kept(mode).into_iter().map(door_name).collect();
        Self {
            watching: names(DoorMode::Audit),
            off: names(DoorMode::Off),
            watched_seconds,
            cut: counted(doors, &kept(DoorMode::Audit)),
            refused: counted(doors, &kept(DoorMode::Enforce)),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&["DOOR", "MODE", "PACKETS", "USER", "NAME", "PORT"]);
        let would = self.cut.iter().map(|cut| ("audit", Style::Bad, cut));
        let did = self.refused.iter().map(|cut| ("enforce", Style::Good, cut));
        for (mode, style, cut) in would.chain(did) {
            let dash = |text: &str| Cell::from(if text.is_empty() { "-" } else { text });
            let packets = Cell::styled(&cut.packets.to_string(), style);
            table.row(vec![
                Cell::from(cut.door),
                Cell::from(mode),
                packets,
                dash(&cut.user),
                dash(&cut.name),
                dash(&cut.port),
            ]);
        }
        table
    }

    /// 0 when enforcing would cut nothing that was seen, 1 when it would.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::from(!self.cut.is_empty())
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut text = String::new();
        if !self.off.is_empty() {
            let off = self.off.join(", ");
            let _ =
                writeln!(text, "off, so that nothing is counted: {off} (steppe-control --door NAME=audit)");
        }
        if !self.cut.is_empty() || !self.refused.is_empty() {
            text += &self.table().render(paint);
        }
        if self.watching.is_empty() {
            if self.off.is_empty() {
                text.push_str("no door only watches: what they keep out is refused already\n");
            }
            return text;
        }
        let since = age(self.watched_seconds);
        let watching = self.watching.join(", ");
        if self.cut.is_empty() {
            let _ =
                writeln!(text, "{watching}: nothing would have been refused; watched for {since}, or longer");
        } else {
            let mut fixes: Vec<&str> = self.cut.iter().map(|cut| cut.fix.as_str()).collect();
            fixes.dedup();
            for fix in fixes {
                let _ = writeln!(text, "{} {}", paint.with(Style::Advice, "fix:"), clean(fix));
            }
            let _ = writeln!(text, "this is what enforcing would cut; watched for {since}, or longer");
        }
        let flags: Vec<String> = self.watching.iter().map(|name| format!("--door {name}=enforce")).collect();
        let _ = writeln!(text, "to enforce: steppe-control {}", flags.join(" "));
        text
    }
}

/// What some doors counted.
fn counted(doors: &ListDoorsResponse, of: &[DoorName]) -> Vec<Cut> {
    let mut all: Vec<Cut> = Vec::new();
    for state in doors.doors.iter().filter(|state| of.contains(&state.name())) {
        let counts: Vec<_> = doors.counts.iter().filter(|count| count.door() == state.name()).collect();
        let known: u64 = counts.iter().map(|count| count.packets_total).sum();
        all.extend(counts.into_iter().map(Cut::from));
        // What can't be told apart.
        if let Some(packets) = state.refused_total.checked_sub(known).filter(|rest| *rest > 0) {
            let rest = DoorCount { door: state.name, packets_total: packets, ..DoorCount::default() };
            all.push(Cut::from(&rest));
        }
    }
    all.sort_by(|a, b| (a.door, b.packets, &a.name).cmp(&(b.door, a.packets, &b.name)));
    all
}

impl From<&DoorCount> for Cut {
    fn from(count: &DoorCount) -> Self {
        let name = if count.name.is_empty() { count.workload.as_str() } else { &count.name };
        Self {
            door: door_name(count.door()),
            packets: count.packets_total,
            user: count.user.clone(),
            name: name.to_owned(),
            port: count.port.clone(),
            fix: fix(count.door(), name, &count.port),
        }
    }
}

/// What to write so that it goes on when the door is shut.
fn fix(door: DoorName, name: &str, port: &str) -> String {
    let name = if name.is_empty() { "the container" } else { name };
    let port = if port.is_empty() { String::new() } else { format!(" {port}") };
    match door {
        DoorName::Published => format!(
            "published{port}: give {name} the tag or label steppe.expose=host (this host), cluster or public; or steppe-control \
             --local-allow UID; or dial it by connect_to"
        ),
        DoorName::Leaving => format!(
            "leaving: give {name} connect_to=SERVICE for what it dials on other hosts, or steppe-control --local-allow UID"
        ),
        DoorName::Networks => format!(
            "networks: give {name} connect_to=SERVICE for what it dials on others' networks, or steppe-control --local-allow UID"
        ),
        DoorName::Spoofing => format!("spoofing: see what in {name} sends by addresses that are not its own"),
        DoorName::Dns => {
            "dns: let who asks there ask another resolver; only workloads are answered".to_owned()
        }
        DoorName::Unspecified => "see `steppe explain`".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use steppe_api::v1::DoorState;

    use super::*;

    fn state(name: DoorName, mode: DoorMode, refused_total: u64) -> DoorState {
        DoorState { name: name.into(), mode: mode.into(), refused_total }
    }

    fn count(door: DoorName, name: &str, port: &str, packets_total: u64) -> DoorCount {
        DoorCount {
            door: door.into(),
            name: name.into(),
            user: "alice".into(),
            port: port.into(),
            packets_total,
            ..DoorCount::default()
        }
    }

    #[test]
    fn what_enforcing_would_cut_is_told_by_door_user_and_port() {
        let doors = ListDoorsResponse {
            doors: vec![
                state(DoorName::Spoofing, DoorMode::Enforce, 3),
                state(DoorName::Published, DoorMode::Audit, 415),
                state(DoorName::Leaving, DoorMode::Audit, 12),
                state(DoorName::Networks, DoorMode::Off, 0),
            ],
            counts: vec![
                count(DoorName::Spoofing, "evil", "", 3),
                count(DoorName::Published, "pg", "24012/tcp", 2),
                count(DoorName::Published, "web", "24011/tcp", 410),
                count(DoorName::Leaving, "api", "", 12),
            ],
            ..ListDoorsResponse::default()
        };
        let audit = Audit::new(&doors, 11_040);
        assert_eq!(audit.exit_code(), 1);
        assert_eq!(
            audit.render(Paint::Plain),
            "\
off, so that nothing is counted: networks (steppe-control --door NAME=audit)
DOOR       MODE     PACKETS  USER   NAME  PORT
leaving    audit    12       alice  api   -
published  audit    410      alice  web   24011/tcp
published  audit    3        -      -     -
published  audit    2        alice  pg    24012/tcp
spoofing   enforce  3        alice  evil  -
fix: leaving: give api connect_to=SERVICE for what it dials on other hosts, or steppe-control --local-allow UID
fix: published 24011/tcp: give web the tag or label steppe.expose=host (this host), cluster or public; or steppe-control \
--local-allow UID; or dial it by connect_to
fix: published: give the container the tag or label steppe.expose=host (this host), cluster or public; or steppe-control \
--local-allow UID; or dial it by connect_to
fix: published 24012/tcp: give pg the tag or label steppe.expose=host (this host), cluster or public; or steppe-control \
--local-allow UID; or dial it by connect_to
this is what enforcing would cut; watched for 3h4m, or longer
to enforce: steppe-control --door published=enforce --door leaving=enforce
"
        );
    }

    #[test]
    fn nothing_to_cut_says_since_when() {
        let doors = ListDoorsResponse {
            doors: vec![state(DoorName::Published, DoorMode::Audit, 0)],
            ..ListDoorsResponse::default()
        };
        let audit = Audit::new(&doors, 42);
        assert_eq!(audit.exit_code(), 0);
        assert_eq!(
            audit.render(Paint::Plain),
            "published: nothing would have been refused; watched for 42s, or longer\n\
             to enforce: steppe-control --door published=enforce\n"
        );
        let shut = ListDoorsResponse { doors: vec![state(DoorName::Dns, DoorMode::Enforce, 1)], ..doors };
        assert_eq!(
            Audit::new(&shut, 1).render(Paint::Plain),
            "DOOR  MODE     PACKETS  USER  NAME  PORT\n\
             dns   enforce  1        -     -     -\n\
             no door only watches: what they keep out is refused already\n"
        );
        let off = ListDoorsResponse { doors: vec![state(DoorName::Dns, DoorMode::Off, 0)], ..shut };
        assert_eq!(
            Audit::new(&off, 1).render(Paint::Plain),
            "off, so that nothing is counted: dns (steppe-control --door NAME=audit)\n"
        );
    }
}
