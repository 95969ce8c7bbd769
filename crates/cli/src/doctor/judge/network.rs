//! Addresses and ports that Steppe is going to use, and who uses them already.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

use crate::doctor::{
    facts::{Facts, Wanted},
    finding::Finding,
};

const ABOUT: &str = "addresses";
/// The listener's and dns's addresses are in one block of this size.
const LOCAL_PREFIX: u8 = 24;

pub(super) fn judge(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let Wanted { services, listener, .. } = wanted;
    let mut findings = Vec::new();
    for route in facts.routes.iter().filter(|route| route.to.prefix_len() > 0) {
        let Some(device) = &route.device else { continue };
        if services.contains(&route.to) || route.to.contains(services) {
            findings.push(Finding::fail(
                ABOUT,
                format!("{} is routed to {device}: virtual IPs are chosen from {services}", route.to),
                "give control and the netfilter-agent another --service-cidr (service_cidr of system.hcl)",
            ));
        }
        if local(*listener).contains(&route.to) {
            findings.push(taken(wanted, &format!("{} is routed to {device}", route.to)));
        }
    }
    for address in &facts.addresses {
        if services.contains(address) {
            findings.push(Finding::fail(
                ABOUT,
                format!("{address} is an address of this host: virtual IPs are chosen from {services}"),
                "give control and the netfilter-agent another --service-cidr (service_cidr of system.hcl)",
            ));
        }
        if address == listener && wanted.preflight {
            findings.push(taken(wanted, &format!("{address} is an address of this host already")));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, format!("nobody else uses {services} and {}", local(*listener))));
    }
    findings
}

fn local(listener: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(listener, LOCAL_PREFIX).trunc()
}

fn taken(wanted: &Wanted, says: &str) -> Finding {
    Finding::warn(
        ABOUT,
        format!("{says}: the proxy is going to listen on {}", wanted.listener),
        "if that is not an earlier Steppe's, give control and the netfilter-agent another --listener-address",
    )
}

/// How the bridges of users' networks begin.
const BRIDGES: &str = "steppe-";

/// Whether something of this host is where users' networks get their addresses.
pub(super) fn users(wanted: &Wanted, facts: &Facts) -> Finding {
    const ABOUT: &str = "networks";
    let users = wanted.users;
    let is_others = |device: &str| !device.starts_with(BRIDGES);
    let route = facts.routes.iter().filter(|route| route.to.prefix_len() > 0).find_map(|route| {
        let device = route.device.as_ref().filter(|device| is_others(device))?;
        let meets = users.contains(&route.to) || route.to.contains(&users);
        meets.then_some((route.to, device))
    });
    match route {
        Some((to, device)) => Finding::warn(
            ABOUT,
            format!(
                "{to} is routed to {device}: networks of users, out of {users}, make way for it, and then differ from host to host"
            ),
            "give control a --user-cidr that is free on every host",
        ),
        None => Finding::ok(ABOUT, format!("nobody else uses {users}")),
    }
}

pub(super) fn ports(wanted: &Wanted, facts: &Facts) -> Finding {
    let (first, last) = (wanted.ports.start(), wanted.ports.end());
    let dynamic = match &facts.nomad {
        Some(Ok(nomad)) if nomad.client => Some(&nomad.dynamic_ports),
        _ => None,
    };
    if dynamic.is_some_and(|dynamic| overlap(dynamic, &wanted.ports)) {
        return Finding::fail(
            "ports",
            format!("Nomad hands out ports of {first}-{last}, where the proxy listens"),
            "set min_dynamic_port and max_dynamic_port of the client, or control's --listener-ports, so that they are apart",
        );
    }
    if overlap(&facts.ephemeral, &wanted.ports) {
        return Finding::warn(
            "ports",
            format!(
                "the kernel gives ports of {first}-{last}, where the proxy listens, to outgoing connections"
            ),
            "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\", or another --listener-ports for control",
        );
    }
    Finding::ok("ports", format!("{first}-{last} are the proxy's alone"))
}

fn overlap(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}
