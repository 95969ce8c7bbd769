//! A workload's own address, and the networks of users.

use std::net::IpAddr;

use ipnet::Ipv4Net;
use steppe_api::v1::{DoorName, Network, Workload};

use super::{NONE, Question, Shut, rules};
use crate::Link;

const NAME: &str = "networks";

/// `None` when the address is neither a workload's nor on a network.
pub(super) fn judge(question: &Question<'_>) -> Option<Link> {
    let IpAddr::V4(ip) = question.target.ip else { return None };
    let there = question.bound_at(question.target.ip).and_then(|state| state.workload.as_ref());
    let networks = question.firewall.networks.as_deref().unwrap_or_default();
    let is_in =
        |network: &&Network| network.subnet.parse::<Ipv4Net>().is_ok_and(|subnet| subnet.contains(&ip));
    let network = match there {
        Some(there) => networks.iter().find(|network| network.bridge == there.bridge),
        None => networks.iter().find(is_in),
    };
    match (there, network) {
        (None, None) => None,
        (None, Some(network)) => Some(nobody(question, network)),
        (Some(there), network) => Some(to_workload(question, there, network)),
    }
}

fn nobody(question: &Question<'_>, network: &Network) -> Link {
    Link::broken(
        NAME,
        "nobody has the address",
        format!("{} is on the network of {}, and no workload there has it", question.target.ip, network.user),
        "name one that `steppe workloads` lists; on another host it is reached through a service",
    )
}

fn to_workload(question: &Question<'_>, there: &Workload, network: Option<&Network>) -> Link {
    let whose = |network: &Network| format!("the network of {}", network.user);
    let to = format!("{} is {}", question.target.ip, there.name);
    let Some(own) = question.attachment() else { return from_host(question, &to, network) };
    if own.bridge == there.bridge && network.is_some() && question.bound().is_none() {
        return unheard(question, &to);
    }
    if own.bridge == there.bridge {
        let place = network.map_or_else(|| there.bridge.clone(), whose);
        return Link::ok(NAME, format!("{to}, and both are on {place}: direct"));
    }
    let networks = question.firewall.networks.as_deref().unwrap_or_default();
    let from = networks.iter().find(|network| network.bridge == own.bridge);
    let service = there.name.as_str();
    let grant = format!("dial a service that {service} offers, through a grant: connect_to=NAME");
    let between = match (from, network) {
        (None, None) => {
            return Link::unknown(
                NONE,
                "Docker keeps its bridges apart",
                format!(
                    "{to} on {}: no door of Steppe's is between it and {}, but Docker's own rules are",
                    there.bridge, own.bridge
                ),
                grant,
            );
        }
        (Some(from), Some(to)) => format!("between {} and {}", whose(from), whose(to)),
        (Some(one), None) | (None, Some(one)) => format!("between {} and other bridges", whose(one)),
    };
    question.shut(Shut {
        door: DoorName::Networks,
        rule: rules::CROSSING,
        summary: "networks are kept apart",
        text: format!("{to}: nothing passes {between}"),
        fix: grant,
    })
}

/// Behind a network's ports nobody is heard whom the kernel does not know there.
fn unheard(question: &Question<'_>, to: &str) -> Link {
    let (problem, fix) = question.workload.map_or(("", ""), |workload| (&workload.problem, &workload.fix));
    let why = if problem.is_empty() { "it is bound to no port there" } else { problem };
    let fix = if fix.is_empty() { "steppe workloads says why it is not bound" } else { fix };
    Link::broken(NAME, "nobody on the network hears it", format!("{to}, on the same network: {why}"), fix)
}

fn from_host(question: &Question<'_>, to: &str, network: Option<&Network>) -> Link {
    let Some(network) = network else {
        return Link::ok(NONE, format!("{to}, on no user's network: no door is there"));
    };
    question.shut(Shut {
        door: DoorName::Networks,
        rule: rules::CROSSING_LOCALLY,
        summary: "networks are closed to local processes",
        text: format!(
            "{to} on the network of {}: of this host's own processes only those of {} may dial it",
            network.user,
            question.local_text()
        ),
        fix: "steppe-control --local-allow UID".into(),
    })
}
