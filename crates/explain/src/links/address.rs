//! `address`: the workload has an address, and the kernel knows the bridge port that it sends from.

use crate::{Link, case::Case};

const NAME: &str = "address";
const UNBOUND: &str = "no grant can be bound to it";

pub(crate) fn judge(case: &Case<'_>) -> Option<Link> {
    let workload = case.workload;
    if !workload.problem.is_empty() {
        return Some(Link::broken(NAME, UNBOUND, &workload.problem, fix(case)));
    }
    let Some(attachment) = case.attachment() else {
        return Some(Link::broken(NAME, "it has no address", "it is on no bridge network", fix(case)));
    };
    let place = format!("{} on {}", attachment.ip, attachment.bridge);
    let Some(_) = case.firewall() else { return Some(Link::ok(NAME, place)) };
    if let Some(bound) = case.bound(attachment) {
        return Some(Link::ok(NAME, format!("{place}, port {}", bound.port_name)));
    }
    let why = match case.held_up("netfilter-agent") {
        Some(problem) => problem,
        None if attachment.port_name.is_empty() => {
            "no bridge port of this host is known to be its own".into()
        }
        None => format!("it is not bound to its bridge port {} yet", attachment.port_name),
    };
    Some(Link::broken(NAME, UNBOUND, format!("{place}: {why}"), restart(case)))
}

fn fix(case: &Case<'_>) -> String {
    if !case.workload.fix.is_empty() {
        return case.workload.fix.clone();
    }
    // Bridge ports are learnt from the agent.
    if let Err(away) = &case.facts.netfilter {
        return away.fix();
    }
    let sources = case.deaf_sources();
    if !sources.is_empty() {
        return crate::case::deaf_fix(&sources);
    }
    if case.workload.attachments.is_empty() {
        return format!(
            "give {} a bridge network of its own (docker run --network bridge; in Nomad network {{ mode = \"bridge\" }} \
             in the group, or network_mode = \"bridge\" in the docker task), and see that it runs",
            case.workload.name
        );
    }
    restart(case)
}

fn restart(case: &Case<'_>) -> String {
    format!(
        "ask again in a second; if it stays so, restart steppe-netfilter-agent, which reads the bridge ports anew, and then \
         container {}; `steppe workloads` shows whether another has its address",
        case.workload.name
    )
}
