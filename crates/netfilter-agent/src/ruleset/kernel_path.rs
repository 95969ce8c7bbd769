//! The ways of a granted new connection: to the proxy's listener, or from the kernel to an endpoint (the *kernel path*).

use std::borrow::Cow;

use super::{
    Addresses, Chain, Comparison, Element, Expression, Family, PacketPart, Rule, SetName, Value, Verdict,
    expression::Known,
    steps::{DNAT, R0, R1, R2, R3, R4, ipv4, is_bridge, originally_for_services, rule, some_bit},
};

/// In a packet's mark: passes from one bridge of this host to another by a grant. The rule in DOCKER-USER accepts what has
/// it. Of the software that marks packets (see the registry github.com/fwmark/registry) only Calico, which may use any of
/// bits 16 to 31, knows bit 28; Kubernetes, Cilium, Tailscale, Weave and Docker itself use lower ones.
pub(crate) const BRIDGED: u32 = 1 << 28;

/// The priority of a packet that has none.
const UNSET: [u8; 4] = [0; 4];

/// A chain that chooses one of a service's slots with equal chance. There is one for each number of slots in use, and not one
/// for each service, so that a change of services changes elements alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Balancer {
    /// For connections to a port that has no entry of its own.
    pub(crate) every_port: bool,
    /// How many slots, from 1 on.
    pub(crate) slots: u32,
}

impl Balancer {
    /// The one whose chain has this name.
    pub(crate) fn named(chain: &str) -> Option<Self> {
        let rest = chain.strip_prefix("lb-")?;
        let (every_port, slots) = match rest.strip_prefix("any-") {
            Some(slots) => (true, slots),
            None => (false, rest),
        };
        let balancer = Self { every_port, slots: slots.parse().ok()? };
        (balancer.name() == chain).then_some(balancer)
    }

    /// Its number, as a packet's priority has it on the way to the chain: `0:3` for `lb-3`, `1:3` for `lb-any-3`.
    pub(crate) fn number(self) -> u32 {
        u32::from(self.every_port) << 16 | self.slots
    }

    /// The one with this number.
    pub(crate) fn numbered(number: u32) -> Option<Self> {
        let balancer = Self { every_port: number >> 16 != 0, slots: number & 0xffff };
        (balancer.number() == number).then_some(balancer)
    }

    /// What leads to its chain.
    pub(crate) fn element(self) -> Element {
        let key = Value::EMPTY.number(self.number());
        Element { goes_to: Some(self), ..Element::key(SetName::Balancers, key) }
    }

    /// Its chain's name.
    pub(crate) fn name(self) -> String {
        format!("lb-{}{}", if self.every_port { "any-" } else { "" }, self.slots)
    }

    /// Its chain.
    pub(crate) fn chain(self) -> Chain {
        let mut rules = vec![self.to_slot_below(self.slots)];
        if self.slots > 1 {
            // A packet may read the number of slots just before a transaction that takes some away, and look for its slot
            // just after it. The first slot is there before and after.
            rules.push(self.to_slot_below(1));
        }
        Chain { family: Family::Inet, name: Cow::Owned(self.name()), base: None, rules }
    }

    /// By chance and not in turn: services with the same number of slots share the chain, and one that is dialled in step with
    /// another would always get the same turn.
    fn to_slot_below(self, slots: u32) -> Rule {
        let (words, mut steps, number, set) = if self.every_port {
            ("", vec![to_address()], R1, SetName::EndpointsAny)
        } else {
            (" . meta l4proto . th dport", to_port(), R3, SetName::Endpoints)
        };
        steps.push(Expression::Random(slots, number));
        let unset = vec![Expression::Constant(UNSET, R0), Expression::PriorityWith(R0)];
        rule(
            format!(
                "meta priority set none dnat ip to ip daddr{words} . numgen random mod {slots} map @{}",
                set.set().text
            ),
            [unset, ipv4(), steps, translate_by(set)].concat(),
        )
    }
}

/// By port, by way of a balancer's number: with every element of a map that leads to chains the kernel looks through all of
/// that map, so services are in one that does not. A number is handed from rule to rule in the packet's priority, which is
/// none for what comes by a bridge port, and which routing sets anew.
pub(super) fn to_endpoint() -> Vec<Rule> {
    vec![
        rule(
            "meta priority set ip daddr . meta l4proto . th dport map @services",
            [ipv4(), to_port(), number_by(SetName::Services)].concat(),
        ),
        to_balancer(),
    ]
}

/// By port, and what has none of its own by address. `exact`: the chain of [`to_endpoint`].
pub(super) fn to_any_endpoint(exact: &'static str) -> Vec<Rule> {
    vec![
        rule(format!("jump {exact}"), vec![Expression::Verdict(Verdict::Jump(exact))]),
        rule(
            "meta priority set ip daddr map @services_any",
            [ipv4(), vec![to_address()], number_by(SetName::ServicesAny)].concat(),
        ),
        to_balancer(),
    ]
}

/// For a grant with a port. `endpoint`: the chain of [`to_endpoint`]. What is in no map is left for `guard` to refuse.
pub(super) fn exact(endpoint: &'static str) -> Vec<Rule> {
    let listener = rule(
        "dnat ip to ip daddr . meta l4proto . th dport map @listeners",
        [ipv4(), to_port(), translate_by(SetName::Listeners)].concat(),
    );
    either(listener, endpoint)
}

/// For a grant of every port. `endpoint`: the chain of [`to_any_endpoint`].
pub(super) fn every_port(endpoint: &'static str) -> Vec<Rule> {
    let listener = rule(
        "dnat ip to ip daddr map @listeners_any",
        [ipv4(), vec![to_address()], translate_by(SetName::ListenersAny)].concat(),
    );
    either(listener, endpoint)
}

/// To the listener, else to an endpoint; while the kernel has taken over the other way round.
fn either(listener: Rule, endpoint: &'static str) -> Vec<Rule> {
    vec![
        rule(
            format!("meta l4proto @takeover jump {endpoint}"),
            vec![
                Expression::Known(Known::Transport, R0),
                Expression::In(SetName::Takeover, R0),
                Expression::Verdict(Verdict::Jump(endpoint)),
            ],
        ),
        listener,
        rule(format!("goto {endpoint}"), vec![Expression::Verdict(Verdict::Goto(endpoint))]),
    ]
}

/// What comes back by the bridge that the client is on too would go to the client untranslated, past this host: it answers
/// this host. An address is on one bridge alone.
pub(super) fn to_own_bridge(addresses: Addresses) -> Rule {
    rule(
        format!(
            "ct status dnat ct original ip daddr {} oifname . ip saddr @workloads masquerade",
            addresses.services
        ),
        [
            translated(addresses),
            ipv4(),
            vec![
                Expression::Known(Known::OutputName, R0),
                Expression::Packet(PacketPart::SourceAddress, R4),
                Expression::In(SetName::Workloads, R0),
                Expression::Masquerade,
            ],
        ]
        .concat(),
    )
}

/// Between bridges, in both directions: Docker would drop it.
pub(super) fn between_bridges(addresses: Addresses) -> Rule {
    rule(
        format!(
            "ct status dnat ct original ip daddr {} meta iifkind \"bridge\" meta oifkind \"bridge\" meta mark set meta mark | {BRIDGED:#010x}",
            addresses.services
        ),
        [
            translated(addresses),
            is_bridge(Known::InputKind),
            is_bridge(Known::OutputKind),
            vec![
                Expression::Known(Known::Mark, R0),
                Expression::SetBits(R0, BRIDGED.to_ne_bytes()),
                Expression::MarkWith(R0),
            ],
        ]
        .concat(),
    )
}

fn to_address() -> Expression {
    Expression::Packet(PacketPart::DestinationAddress, R0)
}

/// `ip daddr . meta l4proto . th dport`
fn to_port() -> Vec<Expression> {
    vec![
        to_address(),
        Expression::Known(Known::Transport, R1),
        Expression::Packet(PacketPart::DestinationPort, R2),
    ]
}

fn number_by(map: SetName) -> Vec<Expression> {
    vec![Expression::Map(map, R0, R0), Expression::PriorityWith(R0)]
}

fn to_balancer() -> Rule {
    rule(
        "meta priority vmap @balancers",
        vec![Expression::Known(Known::Priority, R0), Expression::Follow(SetName::Balancers, R0)],
    )
}

fn translate_by(map: SetName) -> Vec<Expression> {
    vec![Expression::Map(map, R0, R0), Expression::TranslateTo(R0)]
}

/// `ct status dnat ct original ip daddr CIDR`
fn translated(addresses: Addresses) -> Vec<Expression> {
    [some_bit(Known::Status, DNAT), originally_for_services(addresses, Comparison::Equal)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_names_its_balancer() {
        for (name, every_port, slots) in [("lb-3", false, 3), ("lb-any-256", true, 256)] {
            let balancer = Balancer { every_port, slots };
            assert_eq!((balancer.name().as_str(), Balancer::named(name)), (name, Some(balancer)));
            assert_eq!(Balancer::numbered(balancer.number()), Some(balancer));
        }
        for name in ["lb-", "lb-03", "lb-x", "lb", "exact"] {
            assert_eq!(Balancer::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_slot_is_chosen_by_chance() {
        let words = |slots| Balancer { every_port: false, slots }.chain().words();
        assert_eq!(
            words(1),
            "inet chain lb-1 {\n\tmeta priority set none dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints\n}\n"
        );
        assert_eq!(words(3).lines().count(), 4, "{}", words(3));
    }
}
