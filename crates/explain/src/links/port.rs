//! `port`: the port that was asked for leads to one registered port. Shown only when it does not.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Link, case::Case, text::port};

const NAME: &str = "port";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let planned = case.planned_port()?;
    if planned.problem.is_empty() {
        return None;
    }
    let asked = port(case.protocol, case.port);
    Some(Link::broken(
        NAME,
        format!("port {asked} leads nowhere"),
        &planned.problem,
        fix(case, &planned.problem),
    ))
}

fn fix(case: &Case<'_>, problem: &str) -> String {
    const RANGE: &str = "--listener-ports";
    if problem.contains(RANGE) {
        return format!("restart steppe-control with a larger range as {RANGE}");
    }
    telling_tags(case)
}

/// Names the tags that each pick one port of every instance that has them.
fn telling_tags(case: &Case<'_>) -> String {
    let mut ports_of: BTreeMap<(&str, &str), BTreeSet<u32>> = BTreeMap::new();
    let instances = case.instances();
    for instance in &instances {
        for tag in &instance.tags {
            let own = (
                tag.as_str(),
                if instance.workload.is_empty() { &*instance.id } else { &*instance.workload },
            );
            let number = instance.address.as_ref().map_or(0, |address| address.port);
            ports_of.entry(own).or_default().insert(number);
        }
    }
    let several: BTreeSet<&str> =
        ports_of.iter().filter(|(_, ports)| ports.len() > 1).map(|((tag, _), _)| *tag).collect();
    let telling: BTreeSet<String> = ports_of
        .keys()
        .filter(|(tag, _)| !several.contains(tag))
        .filter(|(tag, _)| tag.parse::<steppe_model::Tag>().is_ok())
        .map(|(tag, _)| with_tag(case, tag))
        .collect();
    if telling.is_empty() {
        let name = case.service_name();
        return format!(
            "give each registered port of {name} a tag of its own, and name it: connect_to={name}#TAG"
        );
    }
    format!("write {} in the place of connect_to={}", join_or(telling), case.connect_to())
}

fn with_tag(case: &Case<'_>, tag: &str) -> String {
    let asked = case.connect_to();
    let (service, port) =
        asked.split_once(':').map_or((asked.as_str(), ""), |(service, port)| (service, port));
    let service = service.split('#').next().unwrap_or(service);
    if port.is_empty() {
        format!("connect_to={service}#{tag}")
    } else {
        format!("connect_to={service}#{tag}:{port}")
    }
}

fn join_or(texts: BTreeSet<String>) -> String {
    texts.into_iter().collect::<Vec<_>>().join(" or ")
}
