//! The door `dns`: its address is asked from a workload's own bridge port and by root, and from nowhere else.

use super::{
    Addresses, Chain, Comparison, Expression, Rule, SetName,
    chains::{REJECT, bridge, inet},
    expression::Known,
    phrases::{
        Part, Phrase, accept, by_loopback, by_root, count, drop_it, from_bridge, goto, is_in, is_new,
        is_not_in, phrase, sentence, to_port, unsaid,
    },
    spoofing::bound,
    steps::{R0, TCP, UDP, begins, ipv4, ipv4_frame, is_destination, tcp},
};

/// The name of the door's counters, one in each table.
pub(crate) const COUNTER: &str = "dns";

const TO_DNS: &str = "to_dns";
const ASKING: &str = "asking";
const ASKING_LOCALLY: &str = "asking_locally";
const REFUSE_DNS: &str = "refuse_dns";
/// RFC 1035 §4.2.
const PORT: u16 = 53;

/// `ip daddr DNS`
fn to_address(addresses: Addresses) -> Phrase {
    let steps = [ipv4(), is_destination(addresses.dns)].concat();
    phrase(format!("ip daddr {}", addresses.dns), steps)
}

/// Those chains that others go to first.
pub(super) fn chains() -> Vec<Chain> {
    let sender = [Part::InputName, Part::SourceIp];
    let ask = |protocol| {
        let known = [Part::InputName, Part::SourceIp];
        sentence([unsaid(ipv4()), to_port(protocol, PORT), is_in(&known, SetName::Workloads), goto(TO_DNS)])
    };
    let socket = |words, known, comparison, end| {
        sentence([
            phrase(words, vec![Expression::Known(known, R0), Expression::Compare(R0, comparison, vec![1])]),
            end,
        ])
    };
    let chain = |name, rules| inet(name, None, rules);
    vec![
        chain(
            REFUSE_DNS,
            vec![
                sentence([is_in(&[Part::Network], SetName::DnsDoor), count(COUNTER)]),
                sentence([is_in(&[Part::Network], SetName::DnsShut), goto(REJECT)]),
            ],
        ),
        chain(
            TO_DNS,
            vec![
                // Another resolver, that listens at every address: it is not whom workloads ask.
                socket("socket wildcard 1", Known::SocketWildcard, Comparison::Equal, drop_it()),
                socket("socket transparent <= 1", Known::SocketTransparent, Comparison::AtMost, accept()),
                // Nobody listens now: silence, so that the resolver's next try finds dns, which is being restarted.
                sentence([drop_it()]),
            ],
        ),
        chain(
            ASKING,
            vec![
                // Local processes were looked at when they sent it.
                sentence([by_loopback(), accept()]),
                ask(UDP),
                ask(TCP),
                // Not known: the bridge table has counted it, and only watches, or it would not be here.
                sentence([from_bridge(), unsaid(ipv4()), is_not_in(&sender, SetName::Workloads), accept()]),
                sentence([goto(REFUSE_DNS)]),
            ],
        ),
        chain(ASKING_LOCALLY, vec![sentence([by_root(), accept()]), sentence([goto(REFUSE_DNS)])]),
    ]
}

/// In `input`.
pub(super) fn what_arrives(addresses: Addresses) -> Vec<Rule> {
    vec![
        sentence([to_address(addresses), is_new(), goto(ASKING)]),
        // As for the listener: a connection that was reset may be begun anew.
        sentence([
            to_address(addresses),
            phrase("tcp flags syn / fin,syn,rst,ack", [tcp(), begins()].concat()),
            goto(ASKING),
        ]),
        // A resolver may ask again from the same port.
        sentence([to_address(addresses), to_port(UDP, PORT), goto(TO_DNS)]),
    ]
}

/// In `output`.
pub(super) fn what_is_sent(addresses: Addresses) -> [Rule; 2] {
    [
        sentence([to_address(addresses), is_new(), goto(ASKING_LOCALLY)]),
        // Whoever has the port of one who may.
        sentence([to_address(addresses), to_port(UDP, PORT), goto(ASKING_LOCALLY)]),
    ]
}

/// In the bridge table: from a workload's own port alone.
pub(super) fn bridge_chains() -> Vec<Chain> {
    vec![bridge(
        ASKING,
        None,
        vec![
            bound(),
            sentence([count(COUNTER)]),
            sentence([is_in(&[Part::LinkType], SetName::BridgeDnsShut), drop_it()]),
        ],
    )]
}

/// In the bridge table's `prerouting`, before the door `spoofing`, which accepts for good: the flood of one would fill the queue
/// that all questions wait in.
pub(super) fn flood(addresses: Addresses) -> Rule {
    sentence([to_address_in_frame(addresses), is_in(&[Part::InputName], SetName::Askers), drop_it()])
}

/// In the bridge table's `prerouting`.
pub(super) fn what_comes_by_a_port(addresses: Addresses) -> Rule {
    let door = is_in(&[Part::LinkType], SetName::BridgeDnsDoor);
    sentence([to_address_in_frame(addresses), door, goto(ASKING)])
}

fn to_address_in_frame(addresses: Addresses) -> Phrase {
    let steps = [ipv4_frame(), is_destination(addresses.dns)].concat();
    phrase(format!("ip daddr {}", addresses.dns), steps)
}
