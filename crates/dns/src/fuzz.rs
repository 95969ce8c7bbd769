//! Everything that is done with bytes from outside, from a packet to its answer, without a socket: for `fuzz/`, whose corpus a
//! test of this crate runs as well. Each function panics when what came out breaks a promise.

use std::{net::Ipv4Addr, sync::OnceLock, time::Instant};

use steppe_api::v1;
use steppe_model::{Asker, Member};

use crate::{
    config::ConsulDns,
    wire::{self, Answer, HEAD, Parsed, Request, TCP_LIMIT, UDP_LIMIT, WireName, Writer},
    zone::{Edit, Finding, Rules, View, Zone},
};

/// Who asks, and somebody whom nobody knows.
const ASKERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 9)];

/// A packet that an asker sends.
pub fn question(packet: &[u8]) {
    let mut buffer = Vec::new();
    match wire::parse(packet) {
        Parsed::Silence => {}
        Parsed::RefuseHead { head, rcode } => {
            wire::refusal(&mut buffer, head, rcode);
            check(&buffer, HEAD);
            assert_eq!(buffer[..2], packet[..2], "the answer's number is the question's");
        }
        Parsed::Refuse(request, rcode) => {
            Writer::new(&mut buffer, &request, rcode, false, request.udp_limit()).finish();
            check_answer(&buffer, &request, request.udp_limit());
        }
        Parsed::Ask(request) => {
            for ip in ASKERS {
                for limit in [request.udp_limit(), TCP_LIMIT] {
                    match zone().answer(&rules(), ip, &request, &mut buffer, limit, 1) {
                        Finding::Forward => {}
                        Finding::Answered(_) | Finding::Unsettled => check_answer(&buffer, &request, limit),
                    }
                }
            }
        }
    }
}

/// A packet that a resolver sends, to a question that matches its own, and anything else.
pub fn answer(packet: &[u8]) {
    let now = Instant::now();
    let number = |at| wire::u16_at(packet, at).unwrap_or_default();
    let name = packet.get(HEAD..).and_then(WireName::read);
    let kind = name.as_ref().map_or(0, |name| number(HEAD + name.as_bytes().len()));
    let name = name.or_else(|| WireName::from_text("www.example"));
    let Some(name) = name else { return };
    wire::records(packet);
    if let Ok(answer) = Answer::read(packet, number(0), &name, kind, now) {
        let mut buffer = Vec::new();
        let with_edns = Request::new(name, kind);
        for request in [Request { edns: None, ..with_edns.clone() }, with_edns] {
            for limit in [request.udp_limit(), UDP_LIMIT, TCP_LIMIT] {
                answer.write(&mut buffer, &request, limit, now + answer.lives);
                check_answer(&buffer, &request, limit);
                wire::records(&buffer);
            }
        }
    }
}

fn check_answer(message: &[u8], request: &Request, limit: usize) {
    check(message, limit);
    assert_eq!(message[..2], request.id.to_be_bytes(), "the answer's number is the question's");
    let question = &message[HEAD..];
    assert!(question.starts_with(request.asked.as_bytes()), "the question is given back as it was asked");
}

/// It is an answer, not too long, and its counts are those of what is in it.
fn check(message: &[u8], limit: usize) {
    assert!(message.len() <= limit, "{} bytes, and {limit} may be sent", message.len());
    assert_eq!(message[2] & 0x80, 0x80, "it is an answer");
    let end = wire::end_of_records(message).unwrap_or_else(|| panic!("it is not whole: {message:02x?}"));
    assert_eq!(end, message.len(), "nothing is behind the last record");
}

fn rules() -> Rules {
    Rules {
        consul: ConsulDns::Granted,
        service_cidr: ipnet::Ipv4Net::new_assert(Ipv4Addr::new(247, 0, 0, 0), 8),
        address: Ipv4Addr::new(169, 254, 77, 53),
    }
}

fn zone() -> &'static Zone {
    static ZONE: OnceLock<Zone> = OnceLock::new();
    ZONE.get_or_init(|| {
        let port = |protocol: v1::Protocol, port| v1::NamedPort { protocol: protocol.into(), port };
        let ports = vec![port(v1::Protocol::Tcp, 80), port(v1::Protocol::Udp, 53)];
        let longest = [&"l".repeat(63)[..]; 3].join(".");
        let names = ["canary.web", &longest, "pg.bob", "web"];
        let name = |name: &&str| v1::AskedName {
            name: (*name).into(),
            vip: "247.0.0.1".into(),
            ports: ports.clone(),
        };
        let asker = v1::Asker {
            ip: ASKERS[0].to_string(),
            workload: "api".into(),
            user: "alice".into(),
            network: "alice".into(),
            names: names.iter().map(name).collect(),
        };
        let member = |i: u8| v1::Member {
            network: "alice".into(),
            ip: Ipv4Addr::new(10, 208, 1, i).to_string(),
            names: vec!["many".into(), format!("worker-{i}.many")],
        };
        let mut zone = Zone::default();
        zone.settled = true;
        zone.edit(Asker::try_from(asker).map(|asker| Edit::Asker(View::new(asker).into())));
        zone.edit((0..200).filter_map(|i| Member::try_from(member(i)).ok()).map(Edit::Member));
        assert_eq!(zone.counts(), (1, 200));
        zone
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A question that is right, of a name that may be ours.
    fn right() -> impl Strategy<Value = Vec<u8>> {
        let name = prop_oneof![
            Just("web.steppe.internal"),
            Just("_web._tcp.steppe.internal"),
            Just("_web._canary.service.consul"),
            Just("many"),
            Just("steppe.internal"),
            Just("1.0.0.247.in-addr.arpa"),
            Just("www.example"),
        ];
        let kind = prop_oneof![Just(1_u16), Just(28), Just(33), Just(12), Just(6), Just(255), any::<u16>()];
        (name, kind, any::<[u8; 4]>(), proptest::option::of(any::<u16>())).prop_map(
            |(name, kind, head, payload)| {
                let mut packet = vec![head[0], head[1], head[2] & 0x01, head[3], 0, 1, 0, 0, 0, 0, 0, 0];
                packet.extend_from_slice(WireName::from_text(name).unwrap().as_bytes());
                packet.extend_from_slice(&kind.to_be_bytes());
                packet.extend_from_slice(&[0, 1]);
                if let Some(payload) = payload {
                    packet[11] = 1;
                    packet.extend_from_slice(b"\0\0\x29");
                    packet.extend_from_slice(&payload.to_be_bytes());
                    packet.extend_from_slice(&[0; 6]);
                }
                packet
            },
        )
    }

    /// Pieces that hostile packets are made of.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            // A pointer to anywhere, itself included.
            (0xc0_u8..=0xff, any::<u8>()).prop_map(|(high, low)| vec![high, low]),
            // A label, perhaps longer than what is left.
            (0_u8..=255, vec(any::<u8>(), 0..64)).prop_map(|(length, bytes)| [vec![length], bytes].concat()),
            // Many short ones.
            (1_usize..200).prop_map(|count| b"\x01a".repeat(count)),
            // The fixed part of a record with a length that may lie.
            any::<[u8; 10]>().prop_map(|bytes| bytes.to_vec()),
            Just(b"\0\0\x01\0\x01".to_vec()),
            Just(b"\0\0\x29\x04\xd0\0\0\0\0\0\0".to_vec()),
        ];
        (any::<[u8; 4]>(), vec(0_u16..300, 4), vec(piece, 0..12)).prop_map(|(head, counts, pieces)| {
            let mut packet = head.to_vec();
            counts.iter().for_each(|count| packet.extend_from_slice(&(count % 4).to_be_bytes()));
            pieces.iter().for_each(|piece| packet.extend_from_slice(piece));
            packet
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_met_properly(packet in vec(any::<u8>(), 0..600)) {
            question(&packet);
            answer(&packet);
        }

        #[test]
        fn so_are_hostile_ones(packet in hostile()) {
            question(&packet);
            answer(&packet);
        }

        #[test]
        fn so_are_right_ones_with_mistakes(
            mut packet in right(),
            mistakes in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<proptest::sample::Index>(),
            is_cut in any::<bool>(),
        ) {
            for (at, byte) in mistakes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            if is_cut {
                packet.truncate(cut.index(packet.len()));
            }
            question(&packet);
            answer(&packet);
        }

        /// What is right is answered, and another implementation reads it.
        #[test]
        fn another_implementation_reads_what_we_say(packet in right()) {
            let Parsed::Ask(request) = wire::parse(&packet) else { return Ok(()) };
            let mut buffer = Vec::new();
            for ip in ASKERS {
                if zone().answer(&rules(), ip, &request, &mut buffer, request.udp_limit(), 0) != Finding::Forward {
                    let message = hickory_proto::op::Message::from_vec(&buffer);
                    prop_assert!(message.is_ok(), "{message:?} {buffer:02x?}");
                }
            }
        }
    }

    /// The most that a packet can make us do is in proportion to its length: pointers, labels and counts multiply nothing.
    #[test]
    fn no_packet_takes_long() {
        let mut pointers = b"\0\0\x81\x80\0\x01\xff\xff\xff\xff\xff\xff\0\0\x01\0\x01".to_vec();
        while pointers.len() < 65_000 {
            let back = (pointers.len() - 2).min(0x3fff) as u16;
            pointers.extend_from_slice(&(0xc000 | back).to_be_bytes());
            pointers.extend_from_slice(b"\0\x05\0\x01\0\0\0\x05\0\x02");
            pointers.extend_from_slice(&(0xc000 | back).to_be_bytes());
        }
        let labels = [&b"\0\0\x01\0\0\x01\xff\xff\xff\xff\xff\xff"[..], &b"\x01a".repeat(30_000)].concat();
        let records = [
            &b"\0\0\x01\0\0\x01\0\0\xff\xff\xff\xff\0\0\x01\0\x01"[..],
            &b"\0\0\x01\0\x01\0\0\0\0\0\0".repeat(5_000),
        ]
        .concat();
        for packet in [pointers, labels, records] {
            let start = Instant::now();
            question(&packet);
            answer(&packet);
            // A thousand times what it takes.
            assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
        }
    }
}
