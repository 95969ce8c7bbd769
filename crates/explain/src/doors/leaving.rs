//! A published port of another host, dialled past the grants of who dials.

use steppe_api::v1::DoorName;

use super::{NONE, Question, Shut, rules};
use crate::Link;

const NAME: &str = "leaving";

/// What is wrong with a question that names no port of a peer.
pub(super) fn portless(question: &Question<'_>) -> String {
    format!("{} is a peer: name a port", question.target)
}

pub(super) fn judge(question: &Question<'_>) -> Link {
    let target = &question.target;
    let Some(settings) = &question.doors.settings else { return Link::ok(NAME, "no door is kept") };
    let (first, last) = (settings.first_published_port, settings.last_published_port);
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
    if !question.is_guarded() {
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
