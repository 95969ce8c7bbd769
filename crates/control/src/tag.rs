//! How `connect_to` is written in tags, whoever reads them: a catalogue's registration or a job.

const CONNECT_TO: &str = "connect_to=";
const OURS: &str = "steppe.";

/// What a tag asks for, if it asks for something.
#[must_use]
pub fn connect_to(tag: &str) -> Option<&str> {
    // All other tags of ours begin with `steppe.`: who writes this one so as well means the same.
    let tag = tag.trim();
    tag.strip_prefix(OURS).unwrap_or(tag).strip_prefix(CONNECT_TO)
}
