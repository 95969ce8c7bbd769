//! Other people's rules: a container's packet for a service goes to the listener's address on this host, and a firewall that
//! knows nothing of that drops it.

use crate::doctor::{
    facts::{Chain, Facts, Wanted},
    finding::Finding,
};

const ABOUT: &str = "firewall";
/// Docker's invitation to other people's rules.
const DOCKER_USER: &str = "DOCKER-USER";

pub(super) fn judge(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let listener = wanted.listener;
    let mut findings = Vec::new();
    let chains = match &facts.chains {
        Ok(chains) => chains.as_slice(),
        Err(why) => {
            findings.push(Finding::unknown(ABOUT, why, "run this as root, on a kernel with nf_tables"));
            &[]
        }
    };
    if facts.ufw {
        findings.push(Finding::warn(
            ABOUT,
            "ufw is on: it drops what is not allowed, also from containers to this host",
            format!("ufw allow to {listener}"),
        ));
    }
    if chains.iter().any(|chain| chain.table == "firewalld") {
        findings.push(Finding::warn(
            ABOUT,
            "firewalld is on: it refuses what no zone allows, also from containers to this host",
            format!(
                "firewall-cmd --permanent --zone=docker --add-rich-rule='rule family=ipv4 destination address={listener} accept' \
                 && firewall-cmd --reload"
            ),
        ));
    }
    let ufws = |chain: &Chain| facts.ufw && chain.table == "filter" && chain.hook == Some("input");
    for chain in chains.iter().filter(|chain| drops(chain, "input") && !ufws(chain)) {
        let Chain { family, table, name, .. } = chain;
        findings.push(Finding::warn(
            ABOUT,
            format!("chain {family} {table} {name} drops what comes in and is not allowed"),
            format!("nft insert rule {family} {table} {name} ip daddr {listener} accept, also in what sets it up at boot"),
        ));
    }
    let docker = |chain: &Chain| {
        chains.iter().any(|other| {
            other.name == DOCKER_USER && (other.family, &other.table) == (chain.family, &chain.table)
        })
    };
    for chain in chains.iter().filter(|chain| drops(chain, "forward") && !docker(chain)) {
        let Chain { family, table, name, .. } = chain;
        findings.push(Finding::warn(
            ABOUT,
            format!("chain {family} {table} {name} drops what is forwarded and not allowed: containers may not reach other hosts"),
            format!(
                "let pass there what Steppe has led to an endpoint: nft insert rule {family} {table} {name} ct original ip daddr {} accept",
                wanted.services
            ),
        ));
    }
    // Docker that makes no rules is a finding of its own.
    let makes_rules = facts.docker.as_ref().is_ok_and(|docker| docker.iptables);
    if makes_rules && facts.chains.is_ok() && !chains.iter().any(|chain| chain.name == DOCKER_USER) {
        findings.push(no_docker_user(facts));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(ABOUT, "no other firewall drops what comes from containers"));
    }
    findings
}

/// IPv4 only: nothing of Steppe's is IPv6.
fn drops(chain: &Chain, hook: &str) -> bool {
    chain.drops
        && chain.hook == Some(hook)
        && matches!(chain.family, "ip" | "inet")
        && chain.table != "steppe"
}

/// The kernel path between two bridges of this host needs Docker's leave (DOCKER-USER).
fn no_docker_user(facts: &Facts) -> Finding {
    let nftables = facts.docker.as_ref().is_ok_and(|docker| docker.firewall.as_deref() == Some("nftables"));
    let (says, fix) = if nftables {
        (
            "Docker makes its rules with nftables itself",
            "set \"firewall-backend\": \"iptables\" in /etc/docker/daemon.json",
        )
    } else if facts.legacy_iptables {
        (
            "Docker makes its rules with legacy iptables",
            "update-alternatives --set iptables /usr/sbin/iptables-nft, then restart Docker",
        )
    } else {
        (
            "Docker has no chain DOCKER-USER",
            "let Docker make its rules (\"iptables\": true in /etc/docker/daemon.json)",
        )
    };
    Finding::warn(
        ABOUT,
        format!("{says}: past the proxy, a container can't reach an instance on another bridge of this host"),
        fix,
    )
}
