//! The answer to a question, in the asker's own view and nowhere else. Whether a name exists for somebody else is never looked at, so
//! that no answer can show it.

use std::{fmt, net::Ipv4Addr, sync::Arc};

use ipnet::Ipv4Net;
use steppe_model::{AskedName, Protocol, VirtualPort};

use super::{
    View, Zone,
    network::Network,
    view::{reversed, split_first},
};
use crate::{
    config::ConsulDns,
    wire::{HEAD, Owner, Rcode, Request, Section, Writer, labels, push_labels, types},
};

/// The zone's name on the wire.
const ZONE: &[u8] = b"\x06steppe\x08internal\0";
/// Consul's.
const CONSUL: &[u8] = b"\x06consul\0";
const CONSUL_SERVICES: &[u8] = b"\x07service\x06consul\0";
const SERVICE: &[u8] = b"service";
const ROOT: &[u8] = b"\0";
/// The zone's own server. It lies where no name of one label is taken, as in CoreDNS's `cluster.local`.
const SERVER: &[u8] = b"\x02ns\x03dns";
const ABOVE_SERVER: &[u8] = b"\x03dns";

/// Seconds that an answer may be kept: a workload that goes is forgotten that soon.
const TTL: u32 = 5;
/// Seconds that "no such name" may be kept: a grant that comes is seen that soon.
const NEGATIVE_TTL: u32 = 1;
/// RFC 1035 §3.3.13. Nobody transfers this zone, so the numbers are merely sound; the serial says nothing.
const SOA_NUMBERS: [u32; 5] = [1, 7_200, 1_800, 86_400, NEGATIVE_TTL];
/// What a question for every type is told (RFC 8482 §4.2).
const MINIMAL: &[u8] = b"\x07RFC8482\0";

/// What does not change while dns runs.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) consul: ConsulDns,
    pub(crate) service_cidr: Ipv4Net,
    /// Our own address.
    pub(crate) address: Ipv4Addr,
}

/// How a question ended that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Nobody's business here: a resolver is asked.
    Forward,
    /// Answered.
    Answered(Why),
    /// Ours, and not known yet.
    Unsettled,
}

/// Why the answer is what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Why {
    /// A service that the asker may reach.
    Service(Arc<str>),
    /// A member of the asker's network.
    Member(Arc<str>),
    /// The zone itself, or its server.
    Zone,
    /// The name exists, and has no record of that type.
    NoRecord,
    /// There is no such name for this asker.
    NoName,
    /// Who asks is nobody that Steppe knows.
    NoAsker,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "`{name}` is a service that it may reach"),
            Self::Member(user) => write!(f, "it goes by that name on the network of `{user}`"),
            Self::Zone => f.write_str("it is the zone's own"),
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
struct Place {
    /// The zone's name as it ends the question's.
    zone: &'static [u8],
    /// Services alone are named there.
    services_only: bool,
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
    ) -> Finding {
        let view = self.view(ip);
        let lookup = Lookup {
            rules,
            view: view.map(|view| &**view),
            network: self.network_of(view),
            request,
            limit,
            turn,
        };
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

struct Lookup<'a> {
    rules: &'a Rules,
    view: Option<&'a View>,
    network: Option<&'a Network>,
    request: &'a Request,
    limit: usize,
    turn: usize,
}

/// What stands behind a name.
enum Found<'a> {
    Apex,
    Server,
    Service(&'a AskedName, Place),
    /// `_NAME._tcp`: where a service is dialled.
    Ports(&'a AskedName, Protocol, Place),
    Members(&'a [Ipv4Addr]),
    /// An address, by a name of who has it.
    Pointer(Arc<str>, Why),
    /// A name without records of its own, in the zone that its last bytes name.
    Empty(usize),
    /// No such name, in the zone that its last bytes name.
    Nothing(usize),
}

impl<'a> Lookup<'a> {
    /// `None` for what is not ours.
    fn find(&self) -> Option<Found<'a>> {
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
        // What a resolver behind us asks of a top-level domain to walk and check the tree.
        let is_of_the_tree = matches!(self.request.kind, types::NS | types::SOA | types::DS | types::DNSKEY);
        match self.named(before, place(ROOT, false)) {
            Found::Nothing(_) if is_of_the_tree => None,
            found => Some(found),
        }
    }

    /// What goes by the labels before a zone.
    fn named(&self, before: &[u8], place: Place) -> Found<'a> {
        if let Some(service) = self.view.and_then(|view| view.service(before)) {
            return Found::Service(service, place);
        }
        let members = self.network.filter(|_| !place.services_only).and_then(|network| network.named(before));
        if let Some(members) = members.filter(|members| !members.is_empty()) {
            return Found::Members(members);
        }
        if let Some(found) = self.ports(before, place) {
            return found;
        }
        let zone = if place.services_only { CONSUL } else { place.zone }.len();
        if place.zone == ZONE && before == SERVER {
            return Found::Server;
        }
        let is_above = members.is_some()
            || self.view.is_some_and(|view| view.is_above(before))
            || place.zone == ZONE && before == ABOVE_SERVER;
        if is_above { Found::Empty(zone) } else { Found::Nothing(zone) }
    }

    /// `_NAME._tcp` (RFC 2782); with Consul, `_NAME._TAG` too.
    fn ports(&self, before: &[u8], place: Place) -> Option<Found<'a>> {
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
        let service = self.view?.service(&key)?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        let is_dialled = service.ports.iter().any(|port| port.protocol == protocol);
        is_dialled.then_some(Found::Ports(service, protocol, place))
    }

    /// An address's name. Of one that is nobody's to this asker a resolver is asked, unless it is a virtual IP.
    fn pointer(&self, ip: Ipv4Addr) -> Option<Found<'a>> {
        if let Some(service) = self.view.and_then(|view| view.at(ip)) {
            let name = service.name.as_str();
            return Some(Found::Pointer(name.into(), Why::Service(name.into())));
        }
        let member = self.network.and_then(|network| network.member(ip));
        if let Some((member, name)) = member.and_then(|member| Some((member, member.names.first()?))) {
            let user = member.network.as_str().into();
            return Some(Found::Pointer(name.as_str().into(), Why::Member(user)));
        }
        // The zone is that of the block's whole octets.
        let octets = usize::from(self.rules.service_cidr.prefix_len() / 8);
        let whole = self.request.name.as_bytes().len();
        let inner: usize = self.request.name.labels().take(4 - octets).map(|label| 1 + label.len()).sum();
        self.rules.service_cidr.contains(&ip).then_some(Found::Nothing(whole - inner))
    }

    fn write(&self, found: Found<'_>, buffer: &mut Vec<u8>) -> Why {
        let kind = self.request.kind;
        let name = self.request.name.as_bytes().len();
        let at_name = Owner::At(HEAD);
        let rcode = if matches!(found, Found::Nothing(_)) { Rcode::NxDomain } else { Rcode::NoError };
        let mut records = Writer::new(buffer, self.request, rcode, true, self.limit);
        let why = match found {
            Found::Nothing(zone) | Found::Empty(zone) => {
                self.write_soa(&mut records, Section::Authority, zone);
                found.why(self)
            }
            _ if kind == types::ANY => {
                records.record(Section::Answer, at_name, types::HINFO, TTL, |data| {
                    data.extend_from_slice(MINIMAL);
                });
                found.why(self)
            }
            Found::Apex if kind == types::SOA => {
                self.write_soa(&mut records, Section::Answer, name);
                Why::Zone
            }
            Found::Apex if kind == types::NS => {
                records
                    .record(Section::Answer, at_name, types::NS, TTL, |data| push_server(data, Some(name)));
                Why::Zone
            }
            Found::Server if kind == types::A => {
                records.record(Section::Answer, at_name, types::A, TTL, |data| {
                    data.extend_from_slice(&self.rules.address.octets());
                });
                Why::Zone
            }
            Found::Service(service, _) if kind == types::A => {
                records.record(Section::Answer, at_name, types::A, TTL, |data| {
                    data.extend_from_slice(&service.vip.octets());
                });
                found.why(self)
            }
            Found::Service(service, place) if kind == types::SRV && !service.ports.is_empty() => {
                write_ports(&mut records, service, place, |_| true);
                found.why(self)
            }
            Found::Ports(service, protocol, place) if kind == types::SRV => {
                write_ports(&mut records, service, place, |port| port.protocol == protocol);
                found.why(self)
            }
            Found::Members(addresses) if kind == types::A => {
                let (behind, ahead) = addresses.split_at(self.turn % addresses.len());
                for address in ahead.iter().chain(behind) {
                    records.record(Section::Answer, at_name, types::A, TTL, |data| {
                        data.extend_from_slice(&address.octets());
                    });
                }
                found.why(self)
            }
            Found::Pointer(ref name, ref why) if kind == types::PTR => {
                records.record(Section::Answer, at_name, types::PTR, TTL, |data| {
                    push_labels(data, name);
                    data.extend_from_slice(ZONE);
                });
                why.clone()
            }
            _ => {
                let zone = match found {
                    Found::Service(_, place) | Found::Ports(_, _, place) if place.services_only => {
                        CONSUL.len()
                    }
                    Found::Service(_, place) | Found::Ports(_, _, place) => place.zone.len(),
                    Found::Members(_) if self.request.name.before(ZONE).is_none() => ROOT.len(),
                    Found::Members(_) | Found::Server | Found::Apex => ZONE.len(),
                    // An address's zone is its own.
                    _ => name,
                };
                self.write_soa(&mut records, Section::Authority, zone);
                Why::NoRecord
            }
        };
        records.finish();
        why
    }

    /// The SOA record of the zone whose name is the last `zone` bytes of the question's.
    fn write_soa(&self, records: &mut Writer<'_>, section: Section, zone: usize) {
        let at = HEAD + self.request.name.as_bytes().len() - zone;
        let owner = if zone == ROOT.len() { Owner::Root } else { Owner::At(at) };
        let is_ours = self.request.name.before(ZONE).is_some();
        let ttl = if section == Section::Answer { TTL } else { NEGATIVE_TTL };
        records.record(section, owner, types::SOA, ttl, |data| {
            push_server(data, is_ours.then(|| self.request.name.as_bytes().len()));
            data.extend_from_slice(b"\x0ahostmaster");
            data.extend_from_slice(ZONE);
            SOA_NUMBERS.iter().for_each(|number| data.extend_from_slice(&number.to_be_bytes()));
        });
    }
}

impl Found<'_> {
    fn why(&self, lookup: &Lookup<'_>) -> Why {
        match self {
            Self::Service(service, _) | Self::Ports(service, ..) => {
                Why::Service(service.name.as_str().into())
            }
            Self::Members(_) => {
                let user = lookup.view.and_then(|view| view.asker().network.as_ref());
                Why::Member(user.map_or("", |user| user.as_str()).into())
            }
            Self::Pointer(_, why) => why.clone(),
            Self::Apex | Self::Server => Why::Zone,
            Self::Empty(_) => Why::NoRecord,
            Self::Nothing(_) => Why::NoName,
        }
    }
}

/// The name of the zone's server; with the length of a question's name in the zone, its end is a pointer to there.
fn push_server(data: &mut Vec<u8>, name: Option<usize>) {
    data.extend_from_slice(SERVER);
    match name {
        Some(length) => {
            let at = HEAD + length - ZONE.len();
            data.extend_from_slice(&(0xc000 | at as u16).to_be_bytes());
        }
        None => data.extend_from_slice(ZONE),
    }
}

/// SRV records (RFC 2782), whose target is written in full, and the target's address. Names of one label have their target in the zone.
fn write_ports(
    records: &mut Writer<'_>,
    service: &AskedName,
    place: Place,
    wanted: impl Fn(&VirtualPort) -> bool,
) {
    let zone = if place.zone == ROOT { ZONE } else { place.zone };
    let mut target = None;
    for port in service.ports.iter().filter(|port| wanted(port)) {
        let begin = records.record(Section::Answer, Owner::At(HEAD), types::SRV, TTL, |data| {
            for number in [1, 1, port.number_or_zero()] {
                data.extend_from_slice(&number.to_be_bytes());
            }
            push_labels(data, service.name.as_str());
            data.extend_from_slice(zone);
        });
        target.get_or_insert(begin + 6);
    }
    if let Some(target) = target {
        records.record(Section::Additional, Owner::At(target), types::A, TTL, |data| {
            data.extend_from_slice(&service.vip.octets());
        });
    }
}
