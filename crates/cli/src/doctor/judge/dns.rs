//! Where names are answered, and how containers get there.

use std::net::Ipv4Addr;

use crate::doctor::{
    facts::{Facts, Wanted},
    finding::Finding,
};

const ABOUT: &str = "dns";

pub(super) fn judge(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    [address(wanted, facts), port(wanted, facts), containers(facts)].into_iter().flatten().collect()
}

fn address(wanted: &Wanted, facts: &Facts) -> Option<Finding> {
    let dns = wanted.dns;
    match (facts.addresses.contains(&dns), wanted.preflight) {
        (true, true) => Some(Finding::warn(
            ABOUT,
            format!("{dns} is an address of this host already"),
            "if that is not an earlier Steppe's, give control, dns and the netfilter-agent another --dns-address",
        )),
        (false, false) => Some(Finding::fail(
            ABOUT,
            format!("{dns} is no address of this host: names can't be asked for there"),
            "start steppe-netfilter-agent, which puts it on lo",
        )),
        _ => None,
    }
}

fn port(wanted: &Wanted, facts: &Facts) -> Option<Finding> {
    let dns = wanted.dns;
    if facts.resolvers.contains(&dns) {
        return (!wanted.preflight).then(|| Finding::ok(ABOUT, format!("it answers at {dns}")));
    }
    if facts.resolvers.contains(&Ipv4Addr::UNSPECIFIED) {
        return Some(Finding::fail(
            ABOUT,
            format!("somebody listens at port 53 of every address, so that dns can't have {dns}"),
            "let it listen at the addresses that it is for (dnsmasq: bind-interfaces; CoreDNS: bind; named: listen-on)",
        ));
    }
    Some(if wanted.preflight {
        Finding::ok(ABOUT, format!("port 53 of {dns} is free"))
    } else {
        Finding::fail(ABOUT, format!("nobody answers at {dns}"), "start steppe-dns")
    })
}

/// control writes the address of dns into each container's resolv.conf.
fn containers(facts: &Facts) -> Option<Finding> {
    let docker = facts.docker.as_ref().ok()?;
    let why = docker.containers_unread.as_ref()?;
    Some(Finding::unknown(
        ABOUT,
        format!(
            "{} can't be read ({why}): control writes each container's resolv.conf there",
            docker.containers
        ),
        "run this as root; see that control has the directory too (a mount of its container, or --containers-dir)",
    ))
}
