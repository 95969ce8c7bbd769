//! The answer to a question, in the asker's own view and nowhere else. Whether a name exists for somebody else is never looked at, so
//! that no answer can show it.

use std::{fmt, net::Ipv4Addr};

use ipnet::Ipv4Net;
use steppe_model::{AskedName, DnsName, Protocol, UserName};

use super::{
    View, Zone,
    network::Network,
    view::{reversed, split_first},
};
use crate::{
    config::ConsulDns,
    wire::{Rcode, Request, Writer, labels, types},
};

/// The zone's name on the wire.
pub(super) const ZONE: &[u8] = b"\x06steppe\x08internal\0";
/// Consul's.
pub(super) const CONSUL: &[u8] = b"\x06consul\0";
const CONSUL_SERVICES: &[u8] = b"\x07service\x06consul\0";
const SERVICE: &[u8] = b"service";
pub(super) const ROOT: &[u8] = b"\0";
/// The zone's own server. It lies where no name of one label is taken, as in CoreDNS's `cluster.local`.
pub(super) const SERVER: &[u8] = b"\x02ns\x03dns";
const ABOVE_SERVER: &[u8] = b"\x03dns";
/// Programs that don't look into /etc/hosts ask for it, and a resolver knows it (RFC 6761 §6.3).
const LOCALHOST: &[u8] = b"\x09localhost";

/// What does not change while dns runs.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) consul: ConsulDns,
    pub(crate) service_cidr: Ipv4Net,
    /// Our own address.
    pub(crate) address: Ipv4Addr,
}

/// How a question ended that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding<'z> {
    /// Nobody's business here: a resolver is asked.
    Forward,
    /// Answered.
    Answered(Why<'z>),
    /// Ours, and not known yet.
    Unsettled,
}

/// Why the answer is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why<'z> {
    /// A service that the asker may reach.
    Service(&'z DnsName),
    /// A member of this user's network, the asker's.
    Member(&'z UserName),
    /// The zone itself, its server, or `localhost`.
    Everybodys,
    /// The name exists, and has no record of that type.
    NoRecord,
    /// There is no such name for this asker.
    NoName,
    /// Who asks is nobody that Steppe knows.
    NoAsker,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "`{name}` is a service that it may reach"),
            Self::Member(user) => write!(f, "it goes by that name on the network of `{user}`"),
            Self::Everybodys => f.write_str("it is the same for whoever asks"),
            Self::NoRecord => f.write_str("the name exists, and has no record of that type"),
            Self::NoName => {
                f.write_str("it may reach no service of that name, and nobody on its network goes by it")
            }
            Self::NoAsker => {
                f.write_str("dns knows nobody who asks from that address: it sees no name of Steppe's")
            }
        }
    }
}

/// Where in the world a name of ours lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The zone's name as it ends the question's.
    pub(super) zone: &'static [u8],
    /// Services alone are named there.
    pub(super) services_only: bool,
}

impl Zone {
    /// Looks a question up for who asks from `ip`, and writes the answer into `buffer`, in at most `limit` bytes. `turn` varies
    /// which of several addresses comes first.
    pub(crate) fn answer(
        &self,
        rules: &Rules,
        ip: Ipv4Addr,
        request: &Request,
        buffer: &mut Vec<u8>,
        limit: usize,
        turn: usize,
    ) -> Finding<'_> {
        let view = self.view(ip).map(|view| &**view);
        let lookup = Lookup { rules, zone: self, view, request, limit, turn };
        let Some(found) = lookup.find() else { return Finding::Forward };
        if !self.settled {
            Writer::new(buffer, request, Rcode::ServFail, false, limit).finish();
            return Finding::Unsettled;
        }
        let why = lookup.write(found, buffer);
        let unknown = view.is_none() && why == Why::NoName;
        Finding::Answered(if unknown { Why::NoAsker } else { why })
    }
}

/// A question and who asks it.
pub(super) struct Lookup<'z, 'q> {
    pub(super) rules: &'q Rules,
    zone: &'z Zone,
    view: Option<&'z View>,
    pub(super) request: &'q Request,
    pub(super) limit: usize,
    pub(super) turn: usize,
}

/// What stands behind a name.
#[derive(Clone, Copy)]
pub(super) enum Found<'z> {
    Apex,
    /// An address that is the same for whoever asks, in the zone that its last bytes name.
    Everybodys(Ipv4Addr, usize),
    /// A service, and its virtual IP.
    Service(&'z AskedName, Ipv4Addr, Place),
    /// `_NAME._tcp`: where a service is dialled.
    Ports(&'z AskedName, Protocol, Place),
    Members(&'z [Ipv4Addr]),
    /// An address, by a name of who has it.
    Pointer(&'z DnsName, Why<'z>),
    /// A name without records of its own, in the zone that its last bytes name.
    Empty(usize),
    /// No such name, in the zone that its last bytes name.
    Nothing(usize),
}

impl<'z> Lookup<'z, '_> {
    /// `None` for what is not ours.
    fn find(&self) -> Option<Found<'z>> {
        let name = &self.request.name;
        let place = |zone, services_only| Place { zone, services_only };
        if let Some(before) = name.before(ZONE) {
            return Some(match before {
                [] => Found::Apex,
                _ => self.named(before, place(ZONE, false)),
            });
        }
        if let Some(before) = name.before(CONSUL).filter(|_| self.rules.consul == ConsulDns::Granted) {
            if let Some(before) = name.before(CONSUL_SERVICES) {
                return Some(match before {
                    [] => Found::Empty(CONSUL.len()),
                    _ => self.named(before, place(CONSUL_SERVICES, true)),
                });
            }
            // `NAME.service.DATACENTER`: which one is ours nobody told us.
            let mut from_end: Vec<_> = labels(before).collect();
            from_end.pop();
            return (from_end.pop() == Some(SERVICE)).then_some(Found::Nothing(CONSUL.len()));
        }
        if let Some(ip) = reversed(name) {
            return self.pointer(ip);
        }
        // Longer ones may be real: `api.dev` is, whatever somebody's service is called.
        let before = name.before(ROOT).filter(|before| labels(before).count() == 1)?;
        if before == LOCALHOST {
            return Some(Found::Everybodys(Ipv4Addr::LOCALHOST, ROOT.len()));
        }
        // What a resolver behind us asks of a top-level domain to walk and check the tree.
        let is_of_the_tree = matches!(self.request.kind, types::NS | types::SOA | types::DS | types::DNSKEY);
        match self.named(before, place(ROOT, false)) {
            Found::Nothing(_) if is_of_the_tree => None,
            found => Some(found),
        }
    }

    /// The network that the asker is on.
    fn network(&self) -> Option<&'z Network> {
        self.zone.network_of(self.view)
    }

    /// What goes by the labels before a zone.
    fn named(&self, before: &[u8], place: Place) -> Found<'z> {
        if let Some((service, vip)) = self.view.and_then(|view| view.service(before)) {
            return Found::Service(service, vip, place);
        }
        let members =
            self.network().filter(|_| !place.services_only).and_then(|network| network.named(before));
        if let Some(members) = members.filter(|members| !members.is_empty()) {
            return Found::Members(members);
        }
        if let Some(found) = self.ports(before, place) {
            return found;
        }
        let zone = if place.services_only { CONSUL } else { place.zone }.len();
        if place.zone == ZONE && before == SERVER {
            return Found::Everybodys(self.rules.address, zone);
        }
        let is_above = members.is_some()
            || self.view.is_some_and(|view| view.is_above(before))
            || place.zone == ZONE && before == ABOVE_SERVER;
        if is_above { Found::Empty(zone) } else { Found::Nothing(zone) }
    }

    /// `_NAME._tcp` (RFC 2782); with Consul, `_NAME._TAG` too.
    fn ports(&self, before: &[u8], place: Place) -> Option<Found<'z>> {
        let (first, rest) = split_first(before)?;
        let (second, rest) = split_first(rest)?;
        let (name, second) = (first.strip_prefix(b"_")?, second.strip_prefix(b"_")?);
        let mut key = Vec::with_capacity(before.len());
        let mut push = |label: &[u8]| {
            key.push(label.len() as u8);
            key.extend_from_slice(label);
        };
        let protocol = match second {
            b"tcp" => Some(Protocol::Tcp),
            b"udp" => Some(Protocol::Udp),
            _ if place.services_only => None,
            _ => return None,
        };
        if protocol.is_none() {
            push(second);
        }
        push(name);
        key.extend_from_slice(rest);
        let (service, _) = self.view?.service(&key)?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        let is_dialled = service.ports.iter().any(|port| port.protocol == protocol);
        is_dialled.then_some(Found::Ports(service, protocol, place))
    }

    /// An address's name. Of one that is nobody's to this asker a resolver is asked, unless it is a virtual IP.
    fn pointer(&self, ip: Ipv4Addr) -> Option<Found<'z>> {
        if let Some(service) = self.view.and_then(|view| view.at(ip)) {
            return Some(Found::Pointer(&service.name, Why::Service(&service.name)));
        }
        let member = self.network().and_then(|network| network.member(ip));
        if let Some((member, name)) = member.and_then(|member| Some((member, member.names.first()?))) {
            return Some(Found::Pointer(name, Why::Member(&member.network)));
        }
        // The zone is that of the block's whole octets.
        let octets = usize::from(self.rules.service_cidr.prefix_len() / 8);
        let whole = self.request.name.as_bytes().len();
        let inner: usize = self.request.name.labels().take(4 - octets).map(|label| 1 + label.len()).sum();
        self.rules.service_cidr.contains(&ip).then_some(Found::Nothing(whole - inner))
    }
}

impl<'z> Found<'z> {
    pub(super) fn why(self, lookup: &Lookup<'z, '_>) -> Why<'z> {
        match self {
            Self::Service(service, ..) | Self::Ports(service, ..) => Why::Service(&service.name),
            Self::Members(_) => {
                let user = lookup.view.and_then(|view| view.asker().network.as_ref());
                user.map_or(Why::NoAsker, Why::Member)
            }
            Self::Pointer(_, why) => why,
            Self::Apex | Self::Everybodys(..) => Why::Everybodys,
            Self::Empty(_) => Why::NoRecord,
            Self::Nothing(_) => Why::NoName,
        }
    }
}
