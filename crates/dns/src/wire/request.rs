//! What somebody asks.

use super::{
    CLASS_IN, HEAD, PLAIN_UDP_LIMIT, Rcode, UDP_LIMIT, WireName, name::LONGEST, types, u16_at, u32_at,
};

/// A question that can be answered one way or another.
#[derive(Debug, Clone)]
pub struct Request {
    /// The number by which the asker knows the answer.
    pub(crate) id: u16,
    /// "Recursion desired" and "checking disabled", as they stand in the head's two flag bytes.
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
    /// The name as it was written: its case is given back.
    pub(crate) asked: WireName,
    /// The name in lower case.
    pub(crate) name: WireName,
    /// The record type.
    pub(crate) kind: u16,
    /// The class.
    pub(crate) class: u16,
    /// The asker's EDNS, if it has any.
    pub(crate) edns: Option<Edns>,
}

/// What an asker says in its OPT record (RFC 6891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Bytes that it takes over UDP.
    pub(crate) payload: u16,
    /// It wants DNSSEC's records (RFC 3225).
    pub(crate) dnssec: bool,
}

/// What a packet is.
#[derive(Debug)]
pub enum Parsed {
    /// A question to look up.
    Ask(Box<Request>),
    /// A question that is understood, and refused.
    Refuse(Box<Request>, Rcode),
    /// What can't be read beyond its head is answered with a head.
    RefuseHead {
        /// The head as it came.
        head: [u8; 4],
        /// Why.
        rcode: Rcode,
    },
    /// Nothing that may be answered: too short, or an answer itself.
    Silence,
}

const RESPONSE: u8 = 0x80;
const OPCODE: u8 = 0x78;
const RECURSION_DESIRED: u8 = 0x01;
const CHECKING_DISABLED: u8 = 0x10;
const DNSSEC_OK: u32 = 0x8000;

/// Reads a packet. Takes time in proportion to its length, whatever is in it.
#[must_use]
pub fn parse(packet: &[u8]) -> Parsed {
    let Some(head) = packet.first_chunk::<HEAD>() else { return Parsed::Silence };
    if head[2] & RESPONSE != 0 {
        return Parsed::Silence;
    }
    let refuse = |rcode| Parsed::RefuseHead { head: [head[0], head[1], head[2], head[3]], rcode };
    if head[2] & OPCODE != 0 {
        return refuse(Rcode::NotImp);
    }
    let count = |at| u16::from_be_bytes([head[at], head[at + 1]]);
    // One question (RFC 9619), and no answers yet.
    if (count(4), count(6)) != (1, 0) {
        return refuse(Rcode::FormErr);
    }
    let Some((asked, kind, class, at)) = question(packet) else { return refuse(Rcode::FormErr) };
    let Some(opt) = find_opt(packet, at, count(8), count(10)) else { return refuse(Rcode::FormErr) };
    let request = Box::new(Request {
        id: count(0),
        recursion_desired: head[2] & RECURSION_DESIRED != 0,
        checking_disabled: head[3] & CHECKING_DISABLED != 0,
        asked,
        name: asked.lower(),
        kind,
        class,
        edns: opt.map(|opt| Edns { payload: opt.payload, dnssec: opt.flags & DNSSEC_OK != 0 }),
    });
    if opt.is_some_and(|opt| opt.flags >> 16 & 0xff != 0) {
        return Parsed::Refuse(request, Rcode::BadVers);
    }
    let is_record = kind != 0 && kind != types::OPT && !(types::FIRST_META..types::ANY).contains(&kind);
    if class != CLASS_IN || !is_record {
        return Parsed::Refuse(request, Rcode::Refused);
    }
    Parsed::Ask(request)
}

/// The question: name, type, class, and where it ends.
fn question(packet: &[u8]) -> Option<(WireName, u16, u16, usize)> {
    let name = WireName::read(&packet[HEAD..])?;
    let at = HEAD + name.as_bytes().len();
    Some((name, u16_at(packet, at)?, u16_at(packet, at + 2)?, at + 4))
}

#[derive(Clone, Copy)]
struct Opt {
    payload: u16,
    flags: u32,
}

/// Steps over the records behind the question (an IXFR has one in its authority section) and finds the OPT record. `None` when a
/// record is not whole, or OPT comes twice.
fn find_opt(packet: &[u8], mut at: usize, authority: u16, additional: u16) -> Option<Option<Opt>> {
    let mut found = None;
    for i in 0..u32::from(authority) + u32::from(additional) {
        let record = Record::at(packet, at)?;
        if record.kind == types::OPT && i >= authority.into() {
            let opt = Opt { payload: record.class, flags: record.ttl };
            if found.replace(opt).is_some() || packet[at] != 0 {
                return None;
            }
        }
        at = record.end;
    }
    Some(found)
}

/// A record's fixed fields and extent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub(super) kind: u16,
    pub(super) class: u16,
    pub(super) ttl: u32,
    /// Where its TTL stands.
    pub(super) ttl_at: usize,
    /// Where its data begin.
    pub(super) data: usize,
    pub(super) end: usize,
}

impl Record {
    /// The record at `at`, if it is whole.
    pub(super) fn at(packet: &[u8], at: usize) -> Option<Self> {
        let fixed = skip_name(packet, at)?;
        let data = fixed + 10;
        let end = data + usize::from(u16_at(packet, fixed + 8)?);
        (end <= packet.len()).then_some(())?;
        Some(Self {
            kind: u16_at(packet, fixed)?,
            class: u16_at(packet, fixed + 2)?,
            ttl: u32_at(packet, fixed + 4)?,
            ttl_at: fixed + 4,
            data,
            end,
        })
    }
}

/// Where the last record of a message ends, if it is whole.
pub(crate) fn end_of_records(message: &[u8]) -> Option<usize> {
    let mut at = HEAD;
    for _ in 0..u16_at(message, 4)? {
        at = skip_name(message, at)? + 4;
    }
    let records = [6, 8, 10].map(|section| u16_at(message, section).map(u32::from));
    for _ in 0..records.into_iter().sum::<Option<u32>>()? {
        at = Record::at(message, at)?.end;
    }
    Some(at)
}

/// Where a name ends. A pointer ends it and is not followed.
pub(super) fn skip_name(packet: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            label @ 1..=63 => at += 1 + usize::from(label),
            0xc0.. => return (at + 2 <= packet.len()).then_some(at + 2),
            64..0xc0 => return None,
        }
        if at - start > LONGEST {
            return None;
        }
    }
}

impl Request {
    /// A question of our own making.
    pub(crate) fn new(name: WireName, kind: u16) -> Self {
        Self {
            id: 0,
            recursion_desired: true,
            checking_disabled: false,
            asked: name,
            name: name.lower(),
            kind,
            class: CLASS_IN,
            edns: Some(Edns { payload: UDP_LIMIT as u16, dnssec: false }),
        }
    }

    /// Bytes that the asker takes over UDP.
    pub(crate) fn udp_limit(&self) -> usize {
        self.edns.map_or(PLAIN_UDP_LIMIT, |edns| usize::from(edns.payload).clamp(PLAIN_UDP_LIMIT, UDP_LIMIT))
    }

    /// It wants DNSSEC's records.
    pub(crate) fn dnssec(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head and a question for `web.`.
    fn asking(flags: [u8; 2], counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xab, 0xcd, flags[0], flags[1]];
        counts.iter().for_each(|count| packet.extend_from_slice(&count.to_be_bytes()));
        packet.extend_from_slice(b"\x03wEb\0\0\x01\0\x01");
        packet.extend_from_slice(rest);
        packet
    }

    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    #[test]
    fn a_question_is_read() {
        let Parsed::Ask(request) = parse(&asking([1, 0x10], [1, 0, 0, 1], OPT)) else { panic!() };
        assert_eq!((request.id, request.kind), (0xabcd, types::A));
        assert!(request.recursion_desired && request.checking_disabled);
        assert_eq!((request.asked.to_string(), request.name.to_string()), ("wEb.".into(), "web.".into()));
        assert_eq!(request.edns, Some(Edns { payload: 4096, dnssec: true }));
        assert_eq!(request.udp_limit(), UDP_LIMIT);
        let Parsed::Ask(plain) = parse(&asking([0, 0], [1, 0, 0, 0], b"")) else { panic!() };
        assert_eq!((plain.edns, plain.udp_limit()), (None, PLAIN_UDP_LIMIT));
    }

    #[test]
    fn what_may_not_be_answered_is_met_with_silence() {
        assert!(matches!(parse(b"short"), Parsed::Silence));
        assert!(matches!(parse(&asking([0x80, 0], [1, 0, 0, 0], b"")), Parsed::Silence));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_head() {
        let refused = |packet: &[u8]| match parse(packet) {
            Parsed::RefuseHead { rcode, .. } => rcode,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&asking([0x28, 0], [1, 0, 0, 0], b"")), Rcode::NotImp);
        let two_opts = [OPT, OPT].concat();
        for (counts, rest) in [
            ([0, 0, 0, 0], &b""[..]),
            ([2, 0, 0, 0], b""),
            ([1, 1, 0, 0], b""),
            ([1, 0, 0, 1], b""),
            ([1, 0, 0, 2], &two_opts),
            ([1, 0, 0, 65_535], OPT),
            ([1, 0, 0, 1], b"\xc0\x0c\0\x29\0\0\0\0\0\0\0\0"),
        ] {
            assert_eq!(refused(&asking([0, 0], counts, rest)), Rcode::FormErr, "{counts:?}");
        }
        let mut pointer = asking([0, 0], [1, 0, 0, 0], b"");
        pointer.truncate(HEAD);
        pointer.extend_from_slice(b"\xc0\x0c\0\x01\0\x01");
        assert_eq!(refused(&pointer), Rcode::FormErr);
    }

    #[test]
    fn what_is_understood_and_not_answered_is_refused_with_its_question() {
        let refused = |kind: u8, class: u8, rest: &[u8]| {
            let mut packet = asking([0, 0], [1, 0, 0, u16::from(!rest.is_empty())], b"");
            let at = packet.len();
            packet[at - 3] = kind;
            packet[at - 1] = class;
            packet.extend_from_slice(rest);
            match parse(&packet) {
                Parsed::Refuse(_, rcode) => Some(rcode),
                Parsed::Ask(_) => None,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(252, 1, b""), Some(Rcode::Refused));
        assert_eq!(refused(251, 1, b""), Some(Rcode::Refused));
        assert_eq!(refused(41, 1, b""), Some(Rcode::Refused));
        assert_eq!(refused(1, 3, b""), Some(Rcode::Refused));
        assert_eq!(refused(1, 1, b"\0\0\x29\x10\0\0\x01\0\0\0\0"), Some(Rcode::BadVers));
        assert_eq!(refused(255, 1, b""), None);
        assert_eq!(refused(65, 1, OPT), None);
    }
}
