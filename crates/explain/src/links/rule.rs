//! `rule`: the kernel lets the workload's packets through, to the listener or to an endpoint.

use crate::{
    Link,
    case::Case,
    text::{count, port, socket_address},
};

const NAME: &str = "rule";
const AGENT: &str = "netfilter-agent";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    if let Err(away) = &case.facts.netfilter {
        let missing = away.is_down() && case.is_waiting_for(AGENT);
        return Some(if missing {
            let text = format!("not in the kernel: {away}");
            Link::broken(NAME, away.short(), text, away.fix())
        } else {
            let text = format!("{away}; what it put in the kernel still holds, and can't be seen");
            Link::unknown(NAME, away.short(), text, away.fix())
        });
    }
    let target = format!("{}:{}", case.vip(), port(case.protocol, case.port));
    match (case.kernel_grant(), case.service_port()) {
        (Some(grant), _) if case.is_past_the_proxy() => {
            let hits = count(grant.packets_total, "hit");
            Some(Link::ok(NAME, format!("{} -> an endpoint, past the proxy, {hits}", grant.ip)))
        }
        (Some(grant), Some(service_port)) => {
            let listener = service_port.listener.as_ref().map_or_else(|| target.clone(), socket_address);
            let hits = count(grant.packets_total, "hit");
            Some(Link::ok(NAME, format!("{} -> {listener}, {hits}", grant.ip)))
        }
        // With nowhere to go the refusal is the rule.
        _ if case.is_empty() => {
            Some(Link::ok(NAME, format!("{target} is refused for as long as it leads nowhere")))
        }
        _ => Some(missing(case, &target)),
    }
}

fn missing(case: &Case<'_>, target: &str) -> Link {
    let bound = case.is_bound();
    let is_listener_needed = !case.takes_kernel_path() && !case.is_taken_over();
    let listens = case.listener().is_some_and(|listener| case.is_client(listener));
    if !bound || (is_listener_needed && !listens) {
        let what = if bound { "the proxy's listener" } else { "the workload's address" };
        let text = format!("no rule for {target} yet: it waits for {what}");
        return Link::unknown(NAME, "the rule is not in force", text, format!("mend {what} first"));
    }
    let why = case.held_up(AGENT).unwrap_or_else(|| "control has not heard why".into());
    let text = format!("no rule for {target} in the kernel: {why}");
    let fix = match &case.facts.control {
        Err(away) => away.fix(),
        Ok(_) => "restart steppe-netfilter-agent: control then sends it everything again; its log says why the rule is \
                  missing"
            .into(),
    };
    Link::broken(NAME, "the rule is not in force", text, fix)
}
