//! Whether control has planned yet. After its start it waits for its sources' first full listings, and for what the agents
//! have in force.

use steppe_api::v1::{AgentState, ControlStatus, SourceState};

use crate::{
    AwayKind,
    case::{deaf_fix, deaf_text},
};

/// Fine, or what control waits for. A status that says nothing of itself is taken as fine.
///
/// # Errors
/// [`AwayKind::NotReady`].
pub fn readiness(status: &ControlStatus) -> Result<(), AwayKind> {
    if status.about.as_ref().is_none_or(|about| about.synced) {
        return Ok(());
    }
    let starting: Vec<_> =
        status.sources.iter().filter(|source| source.state() != SourceState::Live).collect();
    if !starting.is_empty() {
        let waits_for = format!("its sources: {}", deaf_text(&starting));
        return Err(AwayKind::NotReady { waits_for, fix: deaf_fix(&starting) });
    }
    let down: Vec<_> = status
        .agents
        .iter()
        .filter(|agent| agent.state() == AgentState::Down)
        .map(|agent| agent.name.as_str())
        .collect();
    Err(if down.is_empty() {
        let waits_for = if status.waits_for.is_empty() { "the first plan" } else { &status.waits_for };
        AwayKind::NotReady {
            waits_for: waits_for.to_owned(),
            fix: "ask again in a second; if it stays so, see the log of steppe-control".into(),
        }
    } else {
        let down = down.join(" and steppe-");
        AwayKind::NotReady {
            waits_for: format!("what steppe-{down} has in force"),
            fix: format!("start steppe-{down}, or ask again in some seconds: it does not wait for ever"),
        }
    })
}

#[cfg(test)]
mod tests {
    use steppe_api::v1::{About, AgentStatus, SourceStatus};

    use super::*;

    fn unplanned() -> ControlStatus {
        ControlStatus { about: Some(About::default()), ..ControlStatus::default() }
    }

    #[track_caller]
    fn waits(status: &ControlStatus, what: &str, what_to_do: &str) {
        let Err(AwayKind::NotReady { waits_for, fix }) = readiness(status) else { panic!("it is ready") };
        assert!(waits_for.contains(what), "{waits_for}");
        assert!(fix.contains(what_to_do), "{fix}");
    }

    #[test]
    fn control_is_ready_once_it_has_told_the_agents() {
        let mut status = unplanned();
        status.about = Some(About { synced: true, ..About::default() });
        assert_eq!(readiness(&status), Ok(()));
    }

    #[test]
    fn what_it_waits_for_is_named() {
        let mut status = unplanned();
        waits(&status, "the first plan", "ask again");
        status.waits_for = "what Consul says of services that are in force: web".into();
        waits(&status, "in force: web", "the log of steppe-control");
        let down = AgentState::Down.into();
        status.agents = vec![AgentStatus { name: "proxy".into(), state: down, ..AgentStatus::default() }];
        waits(&status, "what steppe-proxy has in force", "start steppe-proxy");
        let starting = SourceState::Starting.into();
        status.sources =
            vec![SourceStatus { name: "consul".into(), state: starting, ..SourceStatus::default() }];
        waits(&status, "consul", "see that consul answers");
    }
}
