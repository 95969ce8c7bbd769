//! A port of this host that Docker published for a workload.

use steppe_api::v1::{DoorName, Expose, PublishedPort};

use super::{NONE, Question, Shut, rules};
use crate::Link;

const NAME: &str = "published";

/// What is wrong with a question that names no port of this host.
pub(super) fn portless(question: &Question<'_>) -> String {
    const SHOWN: usize = 8;
    let some = question.doors.published.iter().map(|port| crate::port(port.protocol, port.port));
    let some: Vec<String> = some.take(SHOWN).collect();
    let some = if some.is_empty() { "none".to_owned() } else { some.join(", ") };
    format!("{} is this host: name a port, of which published are {some}", question.target)
}

pub(super) fn judge(question: &Question<'_>) -> Link {
    let target = &question.target;
    let own = |port: &&PublishedPort| port.port == target.port && port.protocol == i32::from(target.protocol);
    let is_at = |port: &&PublishedPort| {
        port.addresses.is_empty() || port.addresses.iter().any(|at| at.parse() == Ok(target.ip))
    };
    let at = format!("{}:{}", target.ip, target.port_text());
    if [target.port_text(), at].iter().any(|place| question.doors.closed.contains(place)) {
        return closed(question);
    }
    let published = || question.doors.published.iter().filter(own);
    match (published().find(is_at), published().next()) {
        (Some(port), _) => open_to(question, port),
        (None, Some(elsewhere)) => Link::ok(
            NONE,
            format!(
                "{} is published for {} at {} alone: it has no door at {}",
                target.port_text(),
                elsewhere.name,
                elsewhere.addresses.join(" and "),
                target.ip
            ),
        ),
        (None, None) => Link::ok(
            NONE,
            format!("{} of this host is published for no workload: it has no door", target.port_text()),
        ),
    }
}

/// The container is gone, and whoever binds its port next is not whom others still dial.
fn closed(question: &Question<'_>) -> Link {
    let port = question.target.port_text();
    if question.workload.is_none() {
        return Link::ok(
            NAME,
            format!("{port} is closed to others: its container is gone; nobody may listen there now"),
        );
    }
    question.shut(Shut {
        door: DoorName::Published,
        rule: rules::DIALLED_CLOSED,
        summary: "the container that had the port is gone",
        text: format!("{port} was published for a container that is gone, and stays closed for two minutes"),
        fix: "start the container again, or ask again in two minutes".into(),
    })
}

fn open_to(question: &Question<'_>, port: &PublishedPort) -> Link {
    let name = &port.name;
    let what = format!("{} is published for {name}", question.target.port_text());
    if matches!(port.expose(), Expose::Host | Expose::Cluster | Expose::Public) {
        let value = word(port.expose());
        return Link::ok(NAME, format!("{what}: steppe.expose={value} opens it to all of this host"));
    }
    let grant = question.connect_to().map_or_else(|| "a grant".to_owned(), |tag| format!("a grant ({tag})"));
    let (peers, local) = (question.peers_text(), question.local_text());
    if question.workload.is_none() {
        return question.shut(Shut {
            door: DoorName::Published,
            rule: rules::DIALLED_LOCALLY,
            summary: "published ports are closed to local processes",
            text: format!("{what}: of this host's own processes only those of {local} may dial it"),
            fix: format!(
                "give {name} the tag or label steppe.expose=host, or steppe-control --local-allow UID"
            ),
        });
    }
    if question.attachment().is_some_and(|own| own.ip.parse().is_ok_and(|ip| question.is_peer(ip))) {
        return Link::ok(NAME, format!("{what}: open to the peers {peers}, and this is one by its address"));
    }
    question.shut(Shut {
        door: DoorName::Published,
        rule: rules::DIALLED,
        summary: "published ports are closed to workloads",
        text: format!("{what}: only {peers} and local processes of {local} may dial it"),
        fix: format!("dial it through {grant}, or give {name} the tag or label steppe.expose=host"),
    })
}

fn word(expose: Expose) -> &'static str {
    match expose {
        Expose::Unspecified | Expose::Proxies => "proxies",
        Expose::Host => "host",
        Expose::Cluster => "cluster",
        Expose::Public => "public",
    }
}
