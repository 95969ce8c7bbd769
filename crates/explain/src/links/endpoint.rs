//! `endpoint`: there is an instance to connect to.

use steppe_api::v1::{EndpointState, Instance};

use crate::{
    Link,
    case::{Case, deaf_fix, deaf_text},
    text::socket_address,
};

const NAME: &str = "endpoint";
/// How many instances are written out: a line is for people.
const SHOWN: usize = 12;

/// How an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Health {
    Usable,
    /// The proxy's connects to it fail.
    Failing,
    /// Its check fails.
    Critical,
    /// This host has no address to dial it at.
    Undialable,
}

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let instances = case.instances();
    if instances.is_empty() {
        return Some(none(case));
    }
    let mut seen: Vec<(Health, &Instance)> =
        instances.into_iter().map(|instance| (health(case, instance), instance)).collect();
    // Usable ones first: the others are what a long list may leave off.
    seen.sort_by_key(|(health, instance)| (*health, instance.address.as_ref().map(socket_address)));
    let text = list(case, &seen);
    let Some((best, instance)) = seen.first() else { return Some(none(case)) };
    let name = case.service_name();
    Some(match best {
        Health::Usable => Link::ok(NAME, text),
        Health::Failing => {
            let why = case.endpoint(instance).map_or("", |endpoint| &endpoint.last_error);
            let at = instance.address.as_ref().map(socket_address).unwrap_or_default();
            let fix = format!("see that {name} listens on {at}: connects fail there with \"{why}\"");
            Link::broken(NAME, "no instance takes connections", text, fix)
        }
        Health::Critical => {
            let why = quoted(&instance.problem);
            let fix = format!("make an instance of {name} pass its check:{why}");
            Link::broken(NAME, "no instance passes its check", text, fix)
        }
        Health::Undialable => {
            let fix = reachable(name, &instance.problem);
            Link::broken(NAME, "no instance can be dialled from this host", text, fix)
        }
    })
}

/// What makes an instance dialable.
fn reachable(name: &str, problem: &str) -> String {
    // Control knows best when publishing is what helps.
    if problem.contains("publish") {
        format!(
            "publish the port of an instance of {name} on its host (docker run -p, or a Nomad port with `to`), and register \
             the published port"
        )
    } else {
        format!(
            "register an instance of {name} with an IPv4 address and a port that this host can dial: {problem}"
        )
    }
}

fn none(case: &Case<'_>) -> Link {
    let sources = case.deaf_sources();
    if !sources.is_empty() {
        let text = format!("no instance is known, and {}", deaf_text(&sources));
        return Link::unknown(
            NAME,
            "no instance is known, and a source is not heard",
            text,
            deaf_fix(&sources),
        );
    }
    if let Err(away) = &case.facts.control {
        let text = format!("none is in force, and {}", away.short());
        return Link::unknown(
            NAME,
            format!("{}, and no endpoint is in force", away.short()),
            text,
            away.fix(),
        );
    }
    let name = case.service_name();
    let (what, label) = match case.service.tag.as_str() {
        "" => (name.to_owned(), name.to_owned()),
        tag => (format!("{name} with the tag {tag}"), name.to_owned()),
    };
    let port = if case.port == 0 { "PORT".to_owned() } else { case.port.to_string() };
    let mut fix = format!("register an instance of {what} in Consul");
    if case.service.tag.is_empty() {
        fix.push_str(&format!(", or run a container with the label steppe.service={label}:{port}"));
    }
    if !case.service.user.is_empty() {
        fix.push_str(&format!(", of user {}", case.service.user));
    }
    Link::broken(NAME, "no instance is registered", format!("no instance of {what} is registered"), fix)
}

fn health(case: &Case<'_>, instance: &Instance) -> Health {
    match (instance.healthy, &instance.address) {
        (true, Some(_)) if case.endpoint(instance).is_some_and(is_failing) => Health::Failing,
        (true, Some(_)) => Health::Usable,
        (false, Some(_)) => Health::Critical,
        (_, None) => Health::Undialable,
    }
}

/// Ejected, or never yet reached though it was tried.
fn is_failing(endpoint: &EndpointState) -> bool {
    endpoint.ejected_for_ms > 0 || (endpoint.failed_total > 0 && endpoint.connected_total == 0)
}

fn list(case: &Case<'_>, seen: &[(Health, &Instance)]) -> String {
    let mut texts: Vec<String> = seen.iter().take(SHOWN).map(|(health, i)| one(case, *health, i)).collect();
    if seen.len() > SHOWN {
        texts.push(format!("{} more", seen.len() - SHOWN));
    }
    texts.join(" | ")
}

fn one(case: &Case<'_>, health: Health, instance: &Instance) -> String {
    let at = match &instance.address {
        Some(address) => socket_address(address),
        None if instance.node.is_empty() => instance.id.clone(),
        None => format!("{} on {}", instance.id, instance.node),
    };
    let endpoint = case.endpoint(instance);
    match health {
        // Control learns of checks, the proxy does not: without control an endpoint is merely there.
        Health::Usable if case.is_recovered() => format!("{at} in use"),
        Health::Usable => format!("{at} passing"),
        Health::Critical => format!("{at} CRITICAL{}", quoted(&instance.problem)),
        Health::Undialable => format!("{at} not dialable: {}", instance.problem),
        Health::Failing => match endpoint {
            Some(endpoint) if endpoint.ejected_for_ms > 0 => format!(
                "{at} ejected for {} s because {}",
                endpoint.ejected_for_ms.div_ceil(1000),
                endpoint.last_error
            ),
            Some(endpoint) => format!("{at} takes no connection: {}", endpoint.last_error),
            None => at,
        },
    }
}

/// ` "HTTP 503"`, or nothing.
fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" \"{}\"", text.trim()) }
}
