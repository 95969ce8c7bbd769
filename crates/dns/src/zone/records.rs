//! What was found, as records.

use steppe_model::{AskedName, VirtualPort};

use super::lookup::{CONSUL, Found, Lookup, Place, ROOT, SERVER, Why, ZONE};
use crate::wire::{HEAD, Owner, Rcode, Section, Writer, push_labels, types};

/// Seconds that an answer may be kept: a workload that goes is forgotten that soon.
const TTL: u32 = 5;
/// Seconds that "no such name" may be kept: a grant that comes is seen that soon.
const NEGATIVE_TTL: u32 = 1;
/// RFC 1035 §3.3.13. Nobody transfers this zone, so the numbers are merely sound; the serial says nothing.
const SOA_NUMBERS: [u32; 5] = [1, 7_200, 1_800, 86_400, NEGATIVE_TTL];
/// What a question for every type is told (RFC 8482 §4.2).
const MINIMAL: &[u8] = b"\x07RFC8482\0";

impl<'z> Lookup<'z, '_> {
    /// Writes what was found, and says why it is that.
    pub(super) fn write(&self, found: Found<'z>, buffer: &mut Vec<u8>) -> Why<'z> {
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
                Why::Everybodys
            }
            Found::Apex if kind == types::NS => {
                records
                    .record(Section::Answer, at_name, types::NS, TTL, |data| push_server(data, Some(name)));
                Why::Everybodys
            }
            Found::Everybodys(address, _) if kind == types::A => {
                records.record(Section::Answer, at_name, types::A, TTL, |data| {
                    data.extend_from_slice(&address.octets());
                });
                Why::Everybodys
            }
            Found::Service(_, vip, _) if kind == types::A => {
                records.record(Section::Answer, at_name, types::A, TTL, |data| {
                    data.extend_from_slice(&vip.octets());
                });
                found.why(self)
            }
            Found::Service(service, _, place) if kind == types::SRV && !service.ports.is_empty() => {
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
            Found::Pointer(name, why) if kind == types::PTR => {
                records.record(Section::Answer, at_name, types::PTR, TTL, |data| {
                    push_labels(data, name.as_str());
                    data.extend_from_slice(ZONE);
                });
                why
            }
            _ => {
                let zone = match found {
                    Found::Service(_, _, place) | Found::Ports(_, _, place) if place.services_only => {
                        CONSUL.len()
                    }
                    Found::Service(_, _, place) | Found::Ports(_, _, place) => place.zone.len(),
                    Found::Members(_) if self.request.name.before(ZONE).is_none() => ROOT.len(),
                    Found::Members(_) | Found::Apex => ZONE.len(),
                    Found::Everybodys(_, zone) => zone,
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
