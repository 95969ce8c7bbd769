//! `grant`: the workload asked for the service.

use steppe_api::v1::GrantInfo;

use super::allow;
use crate::{
    Link,
    case::{Case, deaf_fix, deaf_text},
};

const NAME: &str = "grant";
/// How control begins the place where a grant was written.
const TAG_OF: &str = "tag of ";
const LABEL_OF: &str = "label of ";
/// How it begins the reason for one that nobody wrote.
const MEMBER_OF: &str = "member of ";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let Some(grant) = &case.pair.grant else { return Some(missing(case)) };
    if case.is_recovered() {
        let text = format!("{} is in force; where it is written is known when control is up", grant.text);
        return Some(Link::ok(NAME, text));
    }
    if grant.problem.is_empty() || allow::decides(case) {
        return Some(Link::ok(NAME, written(grant)));
    }
    let text = format!("{}: {}", written(grant), grant.problem);
    let fix = if grant.fix.is_empty() { add(case) } else { grant.fix.clone() };
    Some(Link::refused(NAME, "its grant does not hold", text, fix))
}

/// `tag connect_to=web:80 (Consul service api-1)`, or `member of the network of alice`
fn written(grant: &GrantInfo) -> String {
    let GrantInfo { text, origin, .. } = grant;
    match (origin.strip_prefix(TAG_OF), origin.strip_prefix(LABEL_OF)) {
        (Some(place), _) => format!("tag connect_to={text} ({place})"),
        (_, Some(place)) => format!("label steppe.connect_to={text} ({place})"),
        _ if origin.starts_with(MEMBER_OF) => origin.clone(),
        _ if origin.is_empty() => format!("connect_to={text}"),
        _ => format!("connect_to={text} ({origin})"),
    }
}

fn missing(case: &Case<'_>) -> Link {
    if let Err(away) = &case.facts.control {
        let text = format!("none is in force, and {}", away.short());
        return Link::unknown(NAME, format!("{}, and no grant is in force", away.short()), text, away.fix());
    }
    let malformed = case.workload.grants.iter().find(|grant| grant.service.is_none() && means(case, grant));
    if let Some(grant) = malformed {
        let text = format!("{} is ignored: {}", written(grant), grant.problem);
        let fix = format!("write connect_to={} in its place ({})", case.connect_to(), grant.origin);
        return Link::refused(NAME, "its grant is malformed", text, fix);
    }
    let sources = case.deaf_sources();
    if sources.is_empty() {
        return Link::refused(NAME, "no grant", list(case), add(case));
    }
    let text = format!("{}; but {}", list(case), deaf_text(&sources));
    Link::unknown(NAME, "no grant is known, and a source is not heard", text, deaf_fix(&sources))
}

/// Whether a malformed grant looks as if it was to name the service.
fn means(case: &Case<'_>, grant: &GrantInfo) -> bool {
    grant.text.to_ascii_lowercase().contains(case.service_name())
}

/// `this workload's grants: redis:6379`
fn list(case: &Case<'_>) -> String {
    let one = |grant: &GrantInfo| match grant.problem.as_str() {
        "" => grant.text.clone(),
        problem => format!("{} ({problem})", grant.text),
    };
    match case.workload.grants.as_slice() {
        [] => "this workload has none".into(),
        grants => {
            format!("this workload's grants: {}", grants.iter().map(one).collect::<Vec<_>>().join(", "))
        }
    }
}

/// What to write, at the place where the workload's other grants come from.
fn add(case: &Case<'_>) -> String {
    let wanted = case.connect_to();
    let workload = case.workload;
    if !workload.job.is_empty() {
        return format!("add tag connect_to={wanted} to job {}, group {}", workload.job, workload.group);
    }
    let place = workload.grants.iter().find_map(|grant| grant.origin.strip_prefix(TAG_OF));
    if let Some(place) = place {
        return format!("add tag connect_to={wanted} to {place}");
    }
    // A container has each label once: the new value holds the old grants too.
    let mut value: Vec<String> = workload
        .grants
        .iter()
        .filter(|grant| grant.origin.starts_with(LABEL_OF) && grant.service.is_some())
        .map(|grant| grant.text.clone())
        .collect();
    value.push(wanted.clone());
    let label =
        format!("recreate container {} with the label steppe.connect_to={}", workload.name, value.join(","));
    let consul = case.facts.control.iter().any(|plan| plan.status.sources.iter().any(|s| s.name == "consul"));
    if consul { format!("{label}, or add tag connect_to={wanted} to its Consul service") } else { label }
}

/// What a process of the host itself is told, which is no workload.
pub(crate) fn of_the_host(asked: &str) -> Link {
    Link::refused(
        NAME,
        "the host's own processes get no grant",
        "a grant is bound to a container's address and bridge port, and they have neither",
        format!(
            "run it in a container on a bridge network, with the label steppe.connect_to={asked}, or dial an instance's \
             own address"
        ),
    )
}
