//! How keys, ports and ages are written.

use steppe_api::v1::{Attachment, Protocol, ServiceKey, SocketAddress, WorkloadInfo};

/// `[USER/]NAME[#TAG]`
#[must_use]
pub fn key(key: &ServiceKey) -> String {
    let mut text = String::new();
    if !key.user.is_empty() {
        text.push_str(&key.user);
        text.push('/');
    }
    text.push_str(&key.name);
    if !key.tag.is_empty() {
        text.push('#');
        text.push_str(&key.tag);
    }
    text
}

/// `80`, `53/udp`, or `*` for every port. `protocol` is the wire's number.
#[must_use]
pub fn port(protocol: i32, number: u32) -> String {
    let number = if number == 0 { "*".to_owned() } else { number.to_string() };
    if protocol == i32::from(Protocol::Udp) { format!("{number}/udp") } else { number }
}

/// `[USER/]NAME[#TAG][:PORT[/udp]]`
pub(crate) fn key_and_port(service: &ServiceKey, protocol: i32, number: u32) -> String {
    match number {
        0 => key(service),
        _ => format!("{}:{}", key(service), port(protocol, number)),
    }
}

/// `10.0.0.5:80`
#[must_use]
pub fn socket_address(address: &SocketAddress) -> String {
    format!("{}:{}", address.ip, address.port)
}

/// An age in its two largest units: `0s`, `42s`, `4m12s`, `3d4h`.
#[must_use]
pub fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if minutes == 0 => format!("{seconds}s"),
        () if hours == 0 => format!("{minutes}m{}s", seconds % 60),
        () if days == 0 => format!("{hours}h{}m", minutes % 60),
        () => format!("{days}d{}h", hours % 24),
    }
}

/// Text that somebody else wrote, made safe for a terminal and a table: no control characters, and not endless.
#[must_use]
pub fn clean(text: &str) -> String {
    const KEPT: usize = 300;
    let mut kept: String = text.chars().take(KEPT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(KEPT).is_some() {
        kept.push('…');
    }
    kept
}

/// `1 hit`, `2 hits`
pub(crate) fn count(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `api 3f2a19c0 (172.26.64.9, alice)`
pub(crate) fn workload(workload: &WorkloadInfo, attachment: Option<&Attachment>) -> String {
    // Nomad's container names are made of the task's and the alloc's, which come here already.
    let (name, id) = match (workload.alloc.is_empty(), workload.task.is_empty()) {
        (false, false) => (&workload.task, &workload.alloc),
        (false, true) => (&workload.name, &workload.alloc),
        (true, _) => (&workload.name, &workload.id),
    };
    let mut within = vec![attachment.map_or("no address", |attachment| &attachment.ip)];
    if !workload.user.is_empty() {
        within.push(&workload.user);
    }
    format!("{name} {} ({})", short_id(id), within.join(", "))
}

/// The beginning of an id that people use.
fn short_id(id: &str) -> String {
    const SHOWN: usize = 8;
    id.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_two_units() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (252, "4m12s"), (3660, "1h1m"), (273_600, "3d4h")] {
            assert_eq!(age(seconds), text);
        }
    }

    #[test]
    fn foreign_text_cannot_drive_a_terminal() {
        assert_eq!(clean("a\x1b[31mb\nc"), "a [31mb c");
        assert_eq!(clean(&"ä".repeat(301)).chars().count(), 301);
    }
}
