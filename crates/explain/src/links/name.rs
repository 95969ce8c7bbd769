//! `name`: the service has a virtual IP on this host, and dns tells the workload so. Whoever asked by the address needs no name.

use std::net::Ipv4Addr;

use steppe_api::v1::{QueryResponse, ResolverState, WorkloadNames};

use crate::{AwayKind, Link, Told, case::Case, names};

const NAME: &str = "name";
const AGENT: &str = "dns";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let name = case.service_name();
    if case.vip().is_empty() {
        return Some(Link::broken(
            NAME,
            "it has no virtual IP",
            format!("{name} has no virtual IP on this host yet"),
            "ask again in a second; if it stays so, see the log of steppe-control: its --service-cidr may be used up",
        ));
    }
    Some(match &case.facts.dns {
        None => unasked(case),
        Some(told) => asked(case, told),
    })
}

/// Nothing can be said of names.
fn unasked(case: &Case<'_>) -> Link {
    let to = format!("{} -> {}", case.service_name(), case.vip());
    if names::is_address(&case.facts.query.service) || names::of(case.service, &case.workload.user).is_some()
    {
        return Link::ok(NAME, to);
    }
    Link::ok(NAME, format!("{to}; {} can be in no name: dial the address", case.key_text()))
}

fn asked(case: &Case<'_>, Told { name, answer }: &Told) -> Link {
    let vip = case.vip();
    let to = format!("{name} -> {vip}");
    let answer = match answer {
        Ok(answer) => answer,
        Err(away) if away.kind == AwayKind::NoSocket => {
            let text = format!("{to}, but {}: only the address can be dialled", away.reason());
            return Link::watched(NAME, "dns does not run here", text, away.fix());
        }
        Err(away) if away.is_down() => {
            return Link::broken(NAME, "dns is down", format!("{to} is not told: {away}"), away.fix());
        }
        Err(away) => return Link::unknown(NAME, away.short(), format!("{to}; {away}"), away.fix()),
    };
    if !says(answer, vip) {
        return untold(case, name, answer);
    }
    match &case.workload.names {
        Some(names) if names.resolver() == ResolverState::Elsewhere => elsewhere(case, names, &to),
        _ => Link::ok(NAME, to),
    }
}

/// Whether one of the records is this address.
fn says(answer: &QueryResponse, vip: &str) -> bool {
    answer.records.iter().any(|record| record.split_whitespace().next_back() == Some(vip))
}

fn untold(case: &Case<'_>, name: &str, answer: &QueryResponse) -> Link {
    let said = match answer.records.as_slice() {
        [] => format!("dns says {} of {name}: {}", answer.rcode, answer.reason),
        records => format!("dns says of {name}: {}", records.join(", ")),
    };
    // Names are told once the netfilter-agent has what they lead to.
    if !case.is_bound() || !case.workload.problem.is_empty() {
        let what = "the workload's address";
        return Link::unknown(
            NAME,
            "dns does not know the name for it",
            format!("{said}; it waits for {what}"),
            format!("mend {what} first"),
        );
    }
    if !case.is_known_to_control(AGENT) {
        let text = format!(
            "{said}; steppe-control is of an earlier release, which tells it nothing: only the address can be dialled"
        );
        return Link::watched(NAME, "control does not know dns", text, "upgrade steppe-control");
    }
    let text = match case.held_up(AGENT) {
        Some(problem) => format!("{said}; {problem}"),
        None => said,
    };
    let fix = match &case.facts.control {
        Err(away) => away.fix(),
        Ok(_) => "ask again in a second; if it stays so, restart steppe-dns: control then sends it everything again"
            .into(),
    };
    Link::broken(NAME, "dns does not know the name for it", text, fix)
}

/// dns would tell it, and is not asked.
fn elsewhere(case: &Case<'_>, names: &WorkloadNames, to: &str) -> Link {
    let why = &names.resolver_problem;
    let text = format!("{to}, but {} asks another resolver: {why}", case.workload.name);
    let fix = asking(&case.workload.name, why, case.facts.addresses.dns);
    Link::broken(NAME, "its resolver is not dns", text, fix)
}

/// What makes it ask dns.
fn asking(name: &str, why: &str, dns: Ipv4Addr) -> String {
    // control itself can't write there.
    if why.contains("--containers-dir") {
        return "mount Docker's directory of containers into control's container, or give control its --containers-dir".into();
    }
    format!(
        "leave DNS servers and /etc/resolv.conf of {name} to Docker (no --dns, no dns_servers, no mount) and start it again, or name {dns} \
         first among its servers"
    )
}
