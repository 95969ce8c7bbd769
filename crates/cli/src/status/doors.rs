//! How the doors are kept, in a few words.

use serde::Serialize;
use steppe_api::v1::{DoorMode, ListDoorsResponse};
use steppe_explain::door_name;

/// A door.
#[derive(Debug, Serialize)]
pub(super) struct Door {
    name: &'static str,
    /// `enforce`, `audit` or `off`.
    mode: &'static str,
    /// Packets that it refused, or would have refused, since the kernel has it.
    refused_total: u64,
}

pub(super) fn doors(answer: &ListDoorsResponse) -> Vec<Door> {
    let door = |state: &steppe_api::v1::DoorState| Door {
        name: door_name(state.name()),
        mode: match state.mode() {
            DoorMode::Enforce => "enforce",
            DoorMode::Audit => "audit",
            DoorMode::Off | DoorMode::Unspecified => "off",
        },
        refused_total: state.refused_total,
    };
    answer.doors.iter().map(door).collect()
}

/// What the doors that only watch would have refused.
pub(super) fn would_refuse(doors: &[Door]) -> u64 {
    doors.iter().filter(|door| door.mode == "audit").map(|door| door.refused_total).sum()
}

/// `doors: published, leaving audit, would have refused 412 packets; spoofing off`
pub(super) fn line(doors: &[Door]) -> String {
    let kept = |mode: &str| {
        let names: Vec<&str> = doors.iter().filter(|door| door.mode == mode).map(|door| door.name).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut parts = Vec::new();
    if let Some(names) = kept("audit") {
        parts.push(match would_refuse(doors) {
            0 => format!("{names} audit"),
            1 => format!("{names} audit, would have refused 1 packet"),
            packets => format!("{names} audit, would have refused {packets} packets"),
        });
    }
    if let Some(names) = kept("off") {
        parts.push(if kept("enforce").is_none() && parts.is_empty() {
            "off".into()
        } else {
            format!("{names} off")
        });
    }
    if parts.is_empty() { "doors: shut".to_owned() } else { format!("doors: {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_that_are_not_shut_are_named() {
        let door = |name, mode, refused_total| Door { name, mode, refused_total };
        let shut = || door("dns", "enforce", 7);
        assert_eq!(line(&[shut()]), "doors: shut");
        assert_eq!(line(&[shut(), door("published", "audit", 0)]), "doors: published audit");
        let several = [
            shut(),
            door("published", "audit", 400),
            door("leaving", "audit", 12),
            door("spoofing", "off", 0),
        ];
        assert_eq!(
            line(&several),
            "doors: published, leaving audit, would have refused 412 packets; spoofing off"
        );
        assert_eq!(line(&[door("dns", "off", 0), door("published", "off", 0)]), "doors: off");
    }
}
