//! A published port of another host, dialled past the grants of who dials.

use steppe_api::v1::DoorName;

use super::{NONE, Question, Shut, rules};
use crate::Link;

const NAME: &str = "leaving";

pub(super) fn judge(question: &Question<'_>) -> Link {
    let target = &question.target;
    let Some(settings) = &question.doors.settings else { return Link::ok(NAME, "no door is kept") };
    let (first, last) = (settings.first_published_port, settings.last_published_port);
    if target.port == 0 {
        let text = format!("{target} is a peer, whose ports {first} to {last} have a door");
        return Link::unknown(NAME, "a port is needed", text, format!("ask about {target}:PORT"));
    }
    if !(first..=last).contains(&target.port) {
        let text = format!(
            "{target} is a peer's, and none of its published ports ({first} to {last}): no door is there"
        );
        return Link::ok(NONE, text);
    }
    let grant = match question.connect_to() {
        Some(tag) => format!("dial the service through a grant: {tag}"),
        None => "dial the service that is registered there through a grant: connect_to=NAME".to_owned(),
    };
    if question.workload.is_none() {
        let local = question.local_text();
        return question.shut(Shut {
            door: DoorName::Leaving,
            rule: rules::LEAVING_LOCALLY,
            summary: "published ports of other hosts are closed to local processes",
            text: format!(
                "of this host's own processes only those of {local} may dial a peer's ports {first} to {last}"
            ),
            fix: "steppe-control --local-allow UID".into(),
        });
    }
    if question.bound().is_some_and(|state| state.workload.as_ref().is_some_and(|w| !w.guarded)) {
        return Link::ok(
            NAME,
            "it is no workload of concern to Steppe: the door is not kept for it (--guard workloads)",
        );
    }
    question.shut(Shut {
        door: DoorName::Leaving,
        rule: rules::LEAVING,
        summary: "published ports of other hosts are closed to workloads",
        text: format!("a workload reaches a peer's ports {first} to {last} by its grants alone: there it would pass for this host's proxy"),
        fix: grant,
    })
}
