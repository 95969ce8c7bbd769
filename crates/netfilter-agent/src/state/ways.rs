//! Where a port of a virtual IP leads: to the proxy's listener, and on the kernel path to an endpoint by way of *slots*, which
//! the kernel chooses among with equal chance. An endpoint has slots in proportion to its weight.

use std::{
    cmp::Reverse,
    net::{Ipv4Addr, SocketAddrV4},
};

use steppe_model::{Endpoint, ServicePort, VirtualPort};

use super::Limits;
use crate::ruleset::{Balancer, Element, SetName, Value};

/// Slots of one port of a service, as long as it has no more endpoints than this: weights of 1 to 100 are kept within 1% of
/// all connections.
const SLOTS: u32 = 256;
/// Endpoints of one port of a service. Those beyond get no connections on the kernel path.
const ENDPOINTS: usize = 1_024;
/// Bytes of a node's name that are kept: with the weight it fits the kernel's 256 bytes of user data.
const NODE_BYTES: usize = 128;

/// What a [`ServicePort`] comes to, as the kernel's elements hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways {
    pub(super) listener: Option<SocketAddrV4>,
    pub(super) endpoints: Vec<Endpoint>,
}

impl Ways {
    /// Leaves out the endpoints that the kernel can't lead to.
    ///
    /// # Errors
    /// The reason why it can't be.
    pub(super) fn new(port: &ServicePort, limits: Limits) -> Result<Self, String> {
        if let Some(listener) = port.listener
            && *listener.ip() != limits.listener
        {
            return Err(format!(
                "listener: {listener} is not on the listener address {}: start control with the same address as the agents",
                limits.listener
            ));
        }
        let within_reach = port.endpoints.iter().filter(|endpoint| is_within_reach(endpoint.address, limits));
        let endpoints: Vec<Endpoint> = within_reach
            .take(ENDPOINTS)
            .map(|endpoint| Endpoint {
                weight: endpoint.weight.max(1),
                node: kept(&endpoint.node).into(),
                ..*endpoint
            })
            .collect();
        if port.listener.is_none() && endpoints.is_empty() {
            return Err(
                "endpoints: without a listener at least one is expected that a packet can be sent to".into(),
            );
        }
        Ok(Self { listener: port.listener, endpoints })
    }

    /// Reads back what [`Ways::elements`] wrote: the slots with their comments, in order.
    pub(super) fn read(listener: Option<SocketAddrV4>, slots: &[(SocketAddrV4, String)]) -> Option<Self> {
        let mut endpoints = Vec::new();
        for (address, comment) in slots.iter().filter(|(_, comment)| !comment.is_empty()) {
            let (weight, node) = comment.split_once(' ')?;
            endpoints.push(Endpoint { address: *address, weight: weight.parse().ok()?, node: node.into() });
        }
        let ways = Self { listener, endpoints };
        (ways.slots() == slots).then_some(ways)
    }

    /// Whether there is a kernel path.
    pub(super) fn leads_past_the_proxy(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Whether an endpoint is there.
    pub(super) fn leads_straight_to(&self, address: SocketAddrV4) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.address == address)
    }

    /// Whether all that these led to these others do, too.
    pub(super) fn are_all_in(&self, others: &Self) -> bool {
        let stays = |endpoint: &Endpoint| others.leads_straight_to(endpoint.address);
        (self.listener.is_none() || self.listener == others.listener) && self.endpoints.iter().all(stays)
    }

    /// How many elements it takes in the kernel.
    pub(super) fn count(&self) -> usize {
        let slots: u32 = self.shares().iter().sum();
        let balanced = if slots == 0 { 0 } else { 1 + slots as usize };
        usize::from(self.listener.is_some()) + balanced
    }

    /// Who chooses among the slots, if there are any.
    pub(super) fn balancer(&self, port: VirtualPort) -> Option<Balancer> {
        let slots = self.shares().iter().sum();
        (slots > 0).then_some(Balancer { every_port: port.number.is_none(), slots })
    }

    /// The elements.
    pub(super) fn elements(&self, vip: Ipv4Addr, port: VirtualPort) -> Vec<Element> {
        let key = Value::EMPTY.ip(vip);
        let (key, [listeners, services, endpoints]) = match port.number {
            Some(number) => (
                key.protocol(port.protocol).port(number.get()),
                [SetName::Listeners, SetName::Services, SetName::Endpoints],
            ),
            None => (key, [SetName::ListenersAny, SetName::ServicesAny, SetName::EndpointsAny]),
        };
        let element = |set, key, data| Element { data, ..Element::key(set, key) };
        let slots = self.slots();
        let listener = self.listener.map(|listener| element(listeners, key, Value::EMPTY.socket(listener)));
        let service = self
            .balancer(port)
            .map(|balancer| element(services, key, Value::EMPTY.number(balancer.number())));
        let slots = (0..).zip(slots).map(|(slot, (address, comment))| Element {
            comment,
            ..element(endpoints, key.number(slot), Value::EMPTY.socket(address))
        });
        listener.into_iter().chain(service).chain(slots).collect()
    }

    /// Where each slot leads. The comment of an endpoint's first slot is its weight and its node.
    fn slots(&self) -> Vec<(SocketAddrV4, String)> {
        let mut slots = Vec::new();
        for (endpoint, share) in self.endpoints.iter().zip(self.shares()) {
            slots.push((endpoint.address, format!("{} {}", endpoint.weight, endpoint.node)));
            slots.extend((1..share).map(|_| (endpoint.address, String::new())));
        }
        slots
    }

    fn shares(&self) -> Vec<u32> {
        let weights: Vec<u32> = self.endpoints.iter().map(|endpoint| u32::from(endpoint.weight)).collect();
        shares(&weights)
    }
}

/// How many slots each of these weights gets: in proportion, each at least one, [`SLOTS`] in all unless there are more weights
/// than that, which then get one each.
fn shares(weights: &[u32]) -> Vec<u32> {
    if weights.len() > SLOTS as usize {
        return vec![1; weights.len()];
    }
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let mut shares: Vec<u32> = weights.iter().map(|weight| weight / divisor).collect();
    let (mut slots, mut rest) = (SLOTS, shares.iter().sum::<u32>());
    if rest <= slots {
        return shares;
    }
    // The smallest first: what an endpoint gets more than its part, because it must have one, the larger ones can spare.
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|i| (shares[*i], Reverse(*i)));
    for i in order {
        let weight = shares[i];
        shares[i] = ((slots * weight + rest / 2) / rest).max(1);
        slots -= shares[i];
        rest -= weight;
    }
    shares
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Whether a packet that arrives here can be sent there: not what means this host or nobody, nor what is ours.
fn is_within_reach(address: SocketAddrV4, limits: Limits) -> bool {
    let ip = *address.ip();
    let nobody = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast();
    !nobody && ip != limits.listener && !limits.services.contains(&ip)
}

/// A node's name as it can stand in a comment.
fn kept(node: &str) -> String {
    let end = (0..=NODE_BYTES.min(node.len())).rev().find(|end| node.is_char_boundary(*end)).unwrap_or(0);
    node[..end].replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steppe_model::{Protocol, ServiceKey};

    use super::*;

    #[test]
    fn weights_become_slots() {
        assert_eq!(shares(&[]), [0; 0]);
        assert_eq!(shares(&[1, 1, 1]), [1, 1, 1]);
        assert_eq!(shares(&[50, 100, 25]), [2, 4, 1]);
        assert_eq!(shares(&[100, 1]), [100, 1]);
        assert_eq!(shares(&[99, 100, 98]), [86, 86, 84]);
        assert_eq!(shares(&[7; 300]), [1; 300]);
        let mut one_small = vec![100; 200];
        one_small.push(1);
        assert_eq!((shares(&one_small)[200], shares(&one_small).iter().sum()), (1, 256));
    }

    #[test]
    fn what_no_packet_can_be_sent_to_is_left_out() {
        let limits = Limits { services: "247.0.0.0/8".parse().unwrap(), listener: [169, 254, 77, 54].into() };
        let endpoint = |ip: &str| Endpoint {
            address: SocketAddrV4::new(ip.parse().unwrap(), 80),
            weight: 1,
            node: "n17".into(),
        };
        let mut port = ServicePort {
            service: ServiceKey { user: None, name: "web".parse().unwrap(), tag: None },
            vip: [247, 0, 0, 1].into(),
            port: VirtualPort::new(Protocol::Tcp, 80),
            listener: None,
            endpoints: ["127.0.0.1", "247.0.0.2", "169.254.77.54", "0.0.0.0"].map(endpoint).to_vec(),
        };
        assert!(Ways::new(&port, limits).unwrap_err().contains("at least one is expected"));
        port.endpoints.push(endpoint("10.0.0.5"));
        assert_eq!(Ways::new(&port, limits).unwrap().endpoints, [endpoint("10.0.0.5")]);
        port.endpoints = vec![endpoint("10.0.0.5"); 2 * ENDPOINTS];
        let ways = Ways::new(&port, limits).unwrap();
        assert_eq!((ways.endpoints.len(), ways.count()), (ENDPOINTS, ENDPOINTS + 1));
        port.listener = Some(SocketAddrV4::new([10, 0, 0, 1].into(), 1));
        assert!(Ways::new(&port, limits).unwrap_err().contains("is not on the listener address"));
    }

    #[test]
    fn a_long_name_of_a_node_is_cut_between_characters() {
        assert_eq!(kept("n17"), "n17");
        assert_eq!(kept(&"ü".repeat(100)), "ü".repeat(64));
        assert_eq!(kept(&format!("a{}", "ü".repeat(100))).len(), 127);
        assert_eq!(kept("a\nb"), "a?b");
    }

    proptest! {
        #[test]
        fn shares_are_fair(weights in proptest::collection::vec(1..=100u32, 1..400)) {
            let shares = shares(&weights);
            prop_assert!(shares.iter().all(|share| *share >= 1));
            let (all, slots) = (weights.iter().sum::<u32>(), shares.iter().sum::<u32>());
            prop_assert!(slots <= SLOTS.max(weights.len() as u32));
            for (weight, share) in weights.iter().zip(&shares) {
                let exact = f64::from(slots) * f64::from(*weight) / f64::from(all);
                // Where there are about as many weights as slots, one slot each is all there is to give.
                let bound = if weights.len() <= 32 { 1.5 } else { f64::from(SLOTS) };
                prop_assert!((f64::from(*share) - exact).abs() < bound, "{weight}: {share}, {exact}");
            }
            for (a, share) in weights.iter().zip(&shares) {
                let lighter = weights.iter().zip(&shares).filter(|(b, _)| *b < a);
                prop_assert!(lighter.into_iter().all(|(_, less)| *less <= share + 1));
            }
        }
    }
}
