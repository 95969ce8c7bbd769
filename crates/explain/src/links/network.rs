//! `network`: the workload is on the network that it should be on. Shown only when it is not.

use crate::{Link, case::Case};

const NAME: &str = "network";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let workload = case.workload;
    let (user, network) = (&workload.user, &workload.network);
    if !network.is_empty() && network != user {
        let why = match workload.problem.as_str() {
            "" => "nobody there hears it".to_owned(),
            problem => problem.to_owned(),
        };
        let fix = if workload.fix.is_empty() { onto(case) } else { workload.fix.clone() };
        return Some(Link::broken(NAME, format!("it is on the network of {network}"), why, fix));
    }
    if workload.not_attached.is_empty() {
        return sibling_elsewhere(case);
    }
    let summary = format!("it is not on the network of {user}");
    let text = format!("{summary}: {}", workload.not_attached);
    // A grant of its own needs no network.
    let needs_it = case.pair.grant.is_none() && case.service.user == *user;
    let link = if needs_it { Link::broken } else { Link::watched };
    Some(link(NAME, summary, text, onto(case)))
}

/// What is asked for is no service, but a member of the user's network, where the workload is not.
fn sibling_elsewhere(case: &Case<'_>) -> Option<Link> {
    let user = &case.workload.user;
    if case.pair.grant.is_some() || case.service.user != *user || !case.instances().is_empty() {
        return None;
    }
    let firewall = case.firewall()?;
    let network = firewall.networks.as_ref()?.iter().find(|network| network.user == *user)?;
    let there = firewall.workloads.iter().filter_map(|state| state.workload.as_ref());
    let member = there.into_iter().find(|there| {
        there.bridge == network.bridge && there.name.eq_ignore_ascii_case(case.service_name())
    })?;
    let summary = format!("it is not on the network of {user}");
    let text = format!("{} is a member of the network of {user}, and no service: {summary}", member.name);
    Some(Link::broken(NAME, summary, text, onto(case)))
}

fn onto(case: &Case<'_>) -> String {
    let workload = case.workload;
    match workload.user.as_str() {
        "" => format!("recreate {} on another network: it belongs to no user", workload.name),
        user => format!(
            "recreate {} on its own user's: docker run --network steppe-{user}, in Nomad network_mode = \"steppe-{user}\"",
            workload.name
        ),
    }
}
