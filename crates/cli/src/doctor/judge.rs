//! Facts to findings. Pure; one function a subject.

mod dns;
mod firewall;
mod host;
mod network;
mod nomad;
#[cfg(test)]
mod tests;

use super::{
    facts::{Facts, Wanted},
    finding::Finding,
};

/// What there is to say, in the order in which a person mends it.
pub(crate) fn judge(wanted: &Wanted, facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![host::kernel(facts), host::forwarding(facts), host::conntrack(facts)];
    findings.extend(host::modules(facts));
    findings.extend(host::docker(facts));
    findings.extend(host::localnet(facts));
    findings.extend(firewall::judge(wanted, facts));
    findings.extend(network::judge(wanted, facts));
    findings.push(network::ports(wanted, facts));
    findings.push(network::users(wanted, facts));
    findings.extend(dns::judge(wanted, facts));
    findings.extend(nomad::judge(wanted, facts));
    findings.push(host::run_dir(wanted, facts));
    findings.push(host::boot(wanted, facts));
    findings
}

/// The first two numbers of a version, whatever is behind them.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}
