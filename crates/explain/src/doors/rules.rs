//! Where each door's rules are, in nft's words: family, table and chain. ARCHITECTURE.md lists them all.

/// What comes in by any interface, to a published port, and to one of a container that is gone.
pub(super) const DIALLED: &str = "inet steppe dialled";
pub(super) const DIALLED_CLOSED: &str = "inet steppe dialled_closed";
/// What a local process sends to a published port of this host.
pub(super) const DIALLED_LOCALLY: &str = "inet steppe dialled_locally";
/// What a container sends to a peer's published port, and what a local process does.
pub(super) const LEAVING: &str = "inet steppe leaving_in";
pub(super) const LEAVING_LOCALLY: &str = "inet steppe leaving_out";
/// What is forwarded from one bridge to another, and what a local process sends to a network's member.
pub(super) const CROSSING: &str = "inet steppe crossing";
pub(super) const CROSSING_LOCALLY: &str = "inet steppe local";
/// What a workload sends by an address that is not its own, IPv6 included.
pub(super) const SPOOFING: &str = "bridge steppe spoofing";
/// What is for the listeners: by containers, and by local processes.
pub(super) const LISTENER: &str = "inet steppe arriving";
pub(super) const LISTENER_LOCALLY: &str = "inet steppe output";
/// What is for dns: by who is no workload, and by local processes.
pub(super) const ASKING: &str = "bridge steppe asking";
pub(super) const ASKING_LOCALLY: &str = "inet steppe asking_locally";

#[cfg(test)]
mod tests {
    use super::*;

    /// The listing is held equal to the kernel's own by a test of the netfilter-agent.
    #[test]
    fn the_rules_that_are_named_are_there() {
        let listing = include_str!("../../../../ARCHITECTURE.md");
        let all = [
            DIALLED,
            DIALLED_CLOSED,
            DIALLED_LOCALLY,
            LEAVING,
            LEAVING_LOCALLY,
            CROSSING,
            CROSSING_LOCALLY,
            SPOOFING,
            LISTENER,
            LISTENER_LOCALLY,
            ASKING,
            ASKING_LOCALLY,
        ];
        for rule in all {
            let (table, chain) = rule.rsplit_once(' ').unwrap();
            let listed = listing.split(&format!("\ntable {table} {{")).nth(1);
            let listed = listed.and_then(|rest| rest.split("\n}").next()).unwrap_or_default();
            assert!(listed.contains(&format!("\tchain {chain} {{")), "ARCHITECTURE.md lists no {rule}");
        }
    }
}
