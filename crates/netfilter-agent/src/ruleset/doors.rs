//! The doors `published`, `leaving` and `networks`, in the inet table.
//!
//! Each begins with its set `NAME_door`, which is empty while the door is off, and ends by counting and with its set
//! `NAME_shut`, which has elements while it is enforced. But for who is heard from a network, and for UDP from local processes,
//! only new connections are looked at: what a container dialled itself from a port that happens to be published goes on, and
//! a change of a door's mode cuts nothing.

use super::{
    Chain, ChainKind, Hook, Rule, SetName, Verdict,
    chains::{REJECT, hook, inet, priority},
    phrases::{
        Part, accept, by_loopback, by_root, by_udp, count, drop_it, from_where_it_lives, goto,
        is_first_direction, is_in, is_ipv4_in, is_known, is_new, is_not_in, is_not_invalid, is_translated,
        jump, not_to_this_host, phrase, sentence, to_this_host, unsaid, verdict,
    },
    steps::{ipv4, ipv6},
};

/// What each door refused, or would have refused: the names of counters.
pub(crate) mod counter {
    pub(crate) const NETWORKS: &str = "networks";
    pub(crate) const PUBLISHED: &str = "published";
    pub(crate) const LEAVING: &str = "leaving";
}

pub(super) const CROSSING: &str = "crossing";
pub(super) const UNTRANSLATED: &str = "untranslated";
const COUNT_CROSSED: &str = "count_crossed";
const CROSSED: &str = "crossed";
const CROSSED_LOCALLY: &str = "crossed_locally";
const FROM_NETWORK: &str = "from_network";
const REFUSE_PUBLISHED: &str = "refuse_published";
const DIALLED: &str = "dialled";
const DIALLED_CLOSED: &str = "dialled_closed";
const DIALLED_LOCALLY: &str = "dialled_locally";
const PUBLISHED_IN: &str = "published_in";
const PUBLISHED_OUT: &str = "published_out";
const REFUSE_LEAVING: &str = "refuse_leaving";
const LEAVING_IN: &str = "leaving_in";
const LEAVING_OUT: &str = "leaving_out";
const KNOCKING: &str = "knocking";
const LOCAL: &str = "local";

const PORT: &[Part] = &[Part::Transport, Part::DestinationPort];
const PORT_AT: &[Part] = &[Part::DestinationIp, Part::Transport, Part::DestinationPort];
const SENDER: &[Part] = &[Part::InputName, Part::SourceIp];

/// Those chains that others go to first.
pub(super) fn chains() -> Vec<Chain> {
    [networks(), published(), leaving(), entries()].concat()
}

fn chain(name: &'static str, rules: Vec<Rule>) -> Chain {
    inet(name, None, rules)
}

/// `KEY @NAME_door`
fn open_or_shut(part: Part, door: SetName) -> super::phrases::Phrase {
    is_in(&[part], door)
}

fn networks() -> Vec<Chain> {
    let network = |part| is_in(&[part], SetName::Networks);
    let shut = || is_in(&[Part::Network], SetName::NetworksShut);
    vec![
        chain(
            COUNT_CROSSED,
            vec![
                sentence([count(counter::NETWORKS)]),
                // For the elements' counters alone.
                sentence([is_in(&[Part::OutputName], SetName::Crossed)]),
                sentence([is_in(&[Part::InputName], SetName::Crossed)]),
            ],
        ),
        chain(
            CROSSED,
            vec![
                // What is left of a connection that was allowed is not an attempt.
                sentence([is_not_invalid(), jump(COUNT_CROSSED)]),
                sentence([shut(), drop_it()]),
            ],
        ),
        chain(CROSSED_LOCALLY, vec![sentence([jump(COUNT_CROSSED)]), sentence([shut(), goto(REJECT)])]),
        // What is forwarded.
        chain(
            CROSSING,
            vec![
                sentence([is_known(), accept()]),
                // By a grant, on the kernel path, or to a published port, which is another door's business.
                sentence([is_translated(), accept()]),
                // From one port of a bridge to another, with br_netfilter.
                sentence([is_in(&[Part::InputName, Part::OutputName], SetName::Siblings), accept()]),
                sentence([network(Part::OutputName), goto(CROSSED)]),
                // To the rest of the world it may, also by a bridge: others' containers are told by their addresses.
                sentence([
                    network(Part::InputName),
                    is_ipv4_in(&[Part::OutputName, Part::DestinationIp], SetName::Workloads),
                    goto(CROSSED),
                ]),
            ],
        ),
        // Who is no known workload is not heard behind a network's ports, not even by this host.
        chain(
            FROM_NETWORK,
            vec![
                sentence([
                    network(Part::InputName),
                    unsaid(ipv4()),
                    is_not_in(SENDER, SetName::Workloads),
                    goto(CROSSED),
                ]),
                // Not counted: every stack that has IPv6 says something by itself.
                sentence([network(Part::InputName), phrase("meta nfproto ipv6", ipv6()), shut(), drop_it()]),
            ],
        ),
    ]
}

fn published() -> Vec<Chain> {
    vec![
        chain(
            REFUSE_PUBLISHED,
            vec![
                sentence([count(counter::PUBLISHED)]),
                // For the element's counter alone.
                sentence([is_in(PORT, SetName::Tried)]),
                sentence([is_in(&[Part::Transport], SetName::PublishedShut), goto(REJECT)]),
            ],
        ),
        chain(
            DIALLED,
            vec![
                // Another host's port of the same number.
                sentence([not_to_this_host(), verdict(Verdict::Return)]),
                sentence([is_in(PORT, SetName::Public), accept()]),
                sentence([is_ipv4_in(SENDER, SetName::Workloads), is_in(PORT, SetName::Exposed), accept()]),
                // A container can give its packets a peer's address, but not the way that they come by.
                sentence([is_ipv4_in(&[Part::SourceIp], SetName::Peers), from_where_it_lives(), accept()]),
                sentence([
                    unsaid(ipv6()),
                    is_in(&[Part::SourceIp6], SetName::Peers6),
                    from_where_it_lives(),
                    accept(),
                ]),
                sentence([goto(REFUSE_PUBLISHED)]),
            ],
        ),
        // Of a container that is gone: whoever has it now is not whom others still dial.
        chain(
            DIALLED_CLOSED,
            vec![
                sentence([not_to_this_host(), verdict(Verdict::Return)]),
                sentence([goto(REFUSE_PUBLISHED)]),
            ],
        ),
        chain(
            PUBLISHED_IN,
            vec![
                // Local processes were looked at when they sent it.
                sentence([by_loopback(), accept()]),
                sentence([is_in(PORT, SetName::Published), goto(DIALLED)]),
                sentence([is_ipv4_in(PORT_AT, SetName::PublishedAt), goto(DIALLED)]),
                sentence([is_in(PORT, SetName::Closed), goto(DIALLED_CLOSED)]),
                sentence([is_ipv4_in(PORT_AT, SetName::ClosedAt), goto(DIALLED_CLOSED)]),
            ],
        ),
        chain(
            DIALLED_LOCALLY,
            vec![
                sentence([not_to_this_host(), verdict(Verdict::Return)]),
                sentence([is_in(PORT, SetName::Exposed), accept()]),
                sentence([goto(REFUSE_PUBLISHED)]),
            ],
        ),
        chain(
            PUBLISHED_OUT,
            vec![
                sentence([is_in(PORT, SetName::Published), goto(DIALLED_LOCALLY)]),
                sentence([is_ipv4_in(PORT_AT, SetName::PublishedAt), goto(DIALLED_LOCALLY)]),
            ],
        ),
        // Allowed in from outside, but not translated by Docker: a local process would answer for the container. By IPv6 it may
        // be docker-proxy, so there whom the door lets in passes.
        chain(
            UNTRANSLATED,
            vec![
                sentence([by_loopback(), accept()]),
                sentence([is_translated(), accept()]),
                // From the container's own bridge Docker translates nothing.
                sentence([is_ipv4_in(SENDER, SetName::Workloads), accept()]),
                sentence([is_ipv4_in(&[Part::SourceIp], SetName::Peers), goto(REFUSE_PUBLISHED)]),
                sentence([
                    phrase("meta nfproto ipv4", ipv4()),
                    is_in(PORT, SetName::Public),
                    goto(REFUSE_PUBLISHED),
                ]),
            ],
        ),
    ]
}

fn leaving() -> Vec<Chain> {
    let to_peer = || is_ipv4_in(&[Part::DestinationIp], SetName::Peers);
    let here = || sentence([to_this_host(), verdict(Verdict::Return)]);
    vec![
        chain(
            REFUSE_LEAVING,
            vec![
                sentence([count(counter::LEAVING)]),
                sentence([is_in(&[Part::Transport], SetName::LeavingShut), goto(REJECT)]),
            ],
        ),
        chain(
            LEAVING_IN,
            vec![here(), sentence([to_peer(), is_in(SENDER, SetName::Leaving), goto(REFUSE_LEAVING)])],
        ),
        chain(
            LEAVING_OUT,
            vec![
                here(),
                sentence([to_peer(), goto(REFUSE_LEAVING)]),
                sentence([
                    unsaid(ipv6()),
                    is_in(&[Part::DestinationIp6], SetName::Peers6),
                    goto(REFUSE_LEAVING),
                ]),
            ],
        ),
    ]
}

/// Where packets come in. Before any destination translation: the address is the one that was dialled, and what Steppe will
/// translate is for a virtual IP still.
fn entries() -> Vec<Chain> {
    let published = |to| sentence([open_or_shut(Part::Transport, SetName::PublishedDoor), jump(to)]);
    let leaving = |to| {
        sentence([
            open_or_shut(Part::Transport, SetName::LeavingDoor),
            is_in(&[Part::DestinationPort], SetName::PeerPorts),
            jump(to),
        ])
    };
    let networks = || open_or_shut(Part::Network, SetName::NetworksDoor);
    let base = |name, at, rules| inet(name, hook(ChainKind::Filter, at, priority::DOORS), rules);
    vec![
        chain(KNOCKING, vec![published(PUBLISHED_IN), leaving(LEAVING_IN)]),
        base(
            "doors",
            Hook::Prerouting,
            vec![
                // Not only new connections: nobody shall put in a word where others talk.
                sentence([networks(), jump(FROM_NETWORK)]),
                sentence([is_new(), goto(KNOCKING)]),
            ],
        ),
        chain(
            LOCAL,
            vec![
                sentence([by_root(), accept()]),
                sentence([is_in(&[Part::Uid], SetName::LocalUids), accept()]),
                published(PUBLISHED_OUT),
                leaving(LEAVING_OUT),
                sentence([networks(), is_in(&[Part::OutputName], SetName::Networks), goto(CROSSED_LOCALLY)]),
            ],
        ),
        base(
            "local_doors",
            Hook::Output,
            vec![
                sentence([is_new(), goto(LOCAL)]),
                // A flow outlives its socket: whoever has the port next would be taken for whom it was.
                sentence([by_udp(), is_first_direction(), goto(LOCAL)]),
            ],
        ),
    ]
}

/// In `forward`: `meta nfproto @networks_door goto crossing`
pub(super) fn what_is_forwarded() -> Rule {
    sentence([open_or_shut(Part::Network, SetName::NetworksDoor), goto(CROSSING)])
}

/// In `input`: `ct state new meta l4proto @published_door meta l4proto . th dport @published goto untranslated`, and the same with
/// `ip daddr . meta l4proto . th dport @published_at`
pub(super) fn what_arrives() -> [Rule; 2] {
    [is_in(PORT, SetName::Published), is_ipv4_in(PORT_AT, SetName::PublishedAt)].map(|is_published| {
        let is_looked_at = open_or_shut(Part::Transport, SetName::PublishedDoor);
        sentence([is_new(), is_looked_at, is_published, goto(UNTRANSLATED)])
    })
}
