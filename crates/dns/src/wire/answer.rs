//! What a resolver said: checked, made ready to be passed on, and passed on.

use std::time::{Duration, Instant};

use super::{
    CLASS_IN, HEAD, OPT_LENGTH, Request, WireName,
    request::Record,
    types, u16_at, u32_at,
    writer::{mark_truncated, push_head, push_opt},
};

/// The longest that a record is kept: what a resolver gets wrong must not stay for days.
const LONGEST: u32 = 3_600;
/// The longest that "no such name" is kept (RFC 2308 §5 has one to three hours; here names come and go).
const LONGEST_NEGATIVE: u32 = 300;

const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;
const REFUSED: u16 = 5;

/// An answer that can be passed on: the records as they came, without OPT, which is between neighbours (RFC 6891 §6.1.1).
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) rcode: u16,
    /// Counts of the three sections, and the records.
    counts: [u16; 3],
    records: Box<[u8]>,
    /// Where in `records` the TTLs stand.
    ttls: Box<[u16]>,
    born: Instant,
    /// How long it may be kept.
    pub(crate) lives: Duration,
}

/// Why a packet is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnusableAnswer {
    /// It is not the answer to this question.
    Foreign,
    /// It was cut: ask again over TCP.
    Truncated,
    /// It can't be read.
    Malformed,
}

impl Answer {
    /// Reads the answer to the question `name` and `kind` that was sent under `id`.
    pub(crate) fn read(
        packet: &[u8],
        id: u16,
        name: &WireName,
        kind: u16,
        now: Instant,
    ) -> Result<Self, UnusableAnswer> {
        let head = packet.first_chunk::<HEAD>().ok_or(UnusableAnswer::Foreign)?;
        let count = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let is_answer = head[2] & 0xf8 == 0x80 && count(0) == id;
        let rcode = u16::from(head[3] & 0xf);
        if !is_answer {
            return Err(UnusableAnswer::Foreign);
        }
        if count(4) == 0 && rcode != 0 && rcode != NXDOMAIN {
            // Some refuse by the head alone. The socket and the id say whose answer it is.
            return Ok(Self::bare(rcode, now));
        }
        let asked =
            WireName::read(&packet[HEAD..]).filter(|_| count(4) == 1).ok_or(UnusableAnswer::Foreign)?;
        let body = HEAD + asked.as_bytes().len() + 4;
        let same = asked.lower() == name.lower()
            && u16_at(packet, body - 4) == Some(kind)
            && u16_at(packet, body - 2) == Some(CLASS_IN);
        if !same {
            return Err(UnusableAnswer::Foreign);
        }
        if head[2] & 0x02 != 0 {
            return Err(UnusableAnswer::Truncated);
        }
        let mut answer = Self::bare(rcode, now);
        answer
            .take_records(packet, body, [count(6), count(8), count(10)])
            .ok_or(UnusableAnswer::Malformed)?;
        Ok(answer)
    }

    fn bare(rcode: u16, now: Instant) -> Self {
        Self {
            rcode,
            counts: [0; 3],
            records: Box::default(),
            ttls: Box::default(),
            born: now,
            lives: Duration::ZERO,
        }
    }

    fn take_records(&mut self, packet: &[u8], body: usize, counts: [u16; 3]) -> Option<()> {
        let mut ttls = Vec::new();
        let (mut at, mut least, mut negative) = (body, u32::MAX, None);
        'sections: for (section, &count) in counts.iter().enumerate() {
            for _ in 0..count {
                let record = Record::at(packet, at)?;
                if record.kind == types::OPT {
                    // OPT is last, or before signatures that are between neighbours too: where names behind it would point is
                    // no longer ours to know.
                    if section != 2 {
                        return None;
                    }
                    break 'sections;
                }
                if section < 2 {
                    least = least.min(seconds(record.ttl));
                }
                if section == 1 && record.kind == types::SOA {
                    let minimum = u32_at(packet, record.end.checked_sub(4)?)?;
                    negative = Some(seconds(record.ttl).min(seconds(minimum)));
                }
                ttls.push(u16::try_from(record.ttl_at - body).ok()?);
                self.counts[section] += 1;
                at = record.end;
            }
        }
        self.records = packet[body..at].into();
        self.ttls = ttls.into();
        let lives = match (self.is_negative(), negative) {
            // Without an SOA it can't be told for how long it holds (RFC 2308 §5).
            (true, None) => 0,
            (true, Some(negative)) => least.min(negative).min(LONGEST_NEGATIVE),
            // An alias whose end has no such record.
            (false, Some(negative)) if self.rcode == 0 => least.min(negative).min(LONGEST),
            (false, None) if self.rcode == 0 => least.min(LONGEST),
            _ => 0,
        };
        self.lives = Duration::from_secs(lives.into());
        Some(())
    }

    /// Another resolver may know better.
    pub(crate) fn is_failure(&self) -> bool {
        self.rcode == SERVFAIL || self.rcode == REFUSED || self.is_misunderstanding()
    }

    /// The resolver may not know EDNS (RFC 6891 §7).
    pub(crate) fn is_misunderstanding(&self) -> bool {
        matches!(self.rcode, 1 | 4)
    }

    /// Nothing is there, it says.
    pub(crate) fn is_negative(&self) -> bool {
        self.rcode == NXDOMAIN || self.rcode == 0 && self.counts[0] == 0
    }

    /// Whether it may still be passed on.
    pub(crate) fn lives_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.born) < self.lives
    }

    /// Bytes that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.records.len() + 2 * self.ttls.len()
    }

    /// Writes it as the answer to `request`, whose question is the one that was forwarded, in at most `limit` bytes.
    pub(crate) fn write(&self, buffer: &mut Vec<u8>, request: &Request, limit: usize, now: Instant) {
        buffer.clear();
        // "Authentic data" is not passed on, nor "authoritative answer": nobody here has checked, or is.
        push_head(buffer, request, self.rcode, false);
        let body = buffer.len();
        let reserved = if request.edns.is_some() { OPT_LENGTH } else { 0 };
        let mut counts = self.counts;
        if body + self.records.len() + reserved <= limit {
            buffer.extend_from_slice(&self.records);
            let age = now.saturating_duration_since(self.born).as_secs().try_into().unwrap_or(u32::MAX);
            for &at in &self.ttls {
                let at = body + usize::from(at);
                let ttl = u32_at(buffer, at).map_or(0, seconds).saturating_sub(age);
                buffer[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
            }
        } else {
            mark_truncated(buffer);
            counts = [0; 3];
        }
        if let Some(edns) = request.edns {
            push_opt(buffer, 0, edns.dnssec);
            counts[2] += 1;
        }
        for (section, count) in counts.into_iter().enumerate() {
            let at = 6 + 2 * section;
            buffer[at..at + 2].copy_from_slice(&count.to_be_bytes());
        }
    }
}

/// A TTL with its highest bit set means 0 (RFC 2181 §8).
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Parsed, parse};

    fn request(edns: bool) -> Request {
        let mut packet = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03WeB\x07example\0\0\x01\0\x01".to_vec();
        if edns {
            packet[11] = 1;
            packet.extend_from_slice(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        }
        match parse(&packet) {
            Parsed::Ask(request) => *request,
            other => panic!("{other:?}"),
        }
    }

    fn response(rcode: u8, counts: [u8; 3], records: &[u8]) -> Vec<u8> {
        let mut packet = vec![0, 7, 0x81, 0x80 | rcode, 0, 1, 0, counts[0], 0, counts[1], 0, counts[2]];
        packet.extend_from_slice(b"\x03web\x07example\0\0\x01\0\x01");
        packet.extend_from_slice(records);
        packet
    }

    const ADDRESS: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x01\x02\x03\x04";
    const SOA: &[u8] =
        b"\xc0\x10\0\x06\0\x01\0\0\x0e\x10\0\x16\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1e";
    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\0\0\0\0";

    fn read(packet: &[u8]) -> Result<Answer, UnusableAnswer> {
        let name = WireName::from_text("web.example").unwrap();
        Answer::read(packet, 7, &name, types::A, Instant::now())
    }

    #[test]
    fn it_is_passed_on_with_the_askers_case_and_what_is_left_of_its_time() {
        let answer = read(&response(0, [1, 0, 1], &[ADDRESS, OPT].concat())).unwrap();
        assert_eq!(answer.lives, Duration::from_secs(60));
        assert!(answer.lives_at(answer.born + Duration::from_secs(59)));
        assert!(!answer.lives_at(answer.born + Duration::from_secs(60)));
        let mut buffer = Vec::new();
        answer.write(&mut buffer, &request(false), 512, answer.born + Duration::from_secs(10));
        let expected = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x03WeB\x07example\0\0\x01\0\x01\
                         \xc0\x0c\0\x01\0\x01\0\0\0\x32\0\x04\x01\x02\x03\x04";
        assert_eq!(buffer, expected);
        answer.write(&mut buffer, &request(true), 512, answer.born);
        assert_eq!((buffer[11], &buffer[buffer.len() - 11..]), (1, &b"\0\0\x29\x04\xd0\0\0\0\0\0\0"[..]));
        answer.write(&mut buffer, &request(true), 50, answer.born);
        assert_eq!((buffer[2] & 2, buffer[7], buffer[11]), (2, 0, 1));
    }

    #[test]
    fn what_is_not_there_is_kept_as_long_as_the_zone_says() {
        let answer = read(&response(3, [0, 1, 0], SOA)).unwrap();
        assert_eq!((answer.lives, answer.is_negative()), (Duration::from_secs(30), true));
        assert_eq!(read(&response(3, [0, 0, 0], b"")).unwrap().lives, Duration::ZERO);
        assert!(read(&response(2, [0, 0, 0], b"")).unwrap().is_failure());
        // An alias to nowhere, for 60 seconds, in a zone that would have it for 30.
        let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x02\xc0\x10";
        for rcode in [0, 3] {
            let answer = read(&response(rcode, [1, 1, 0], &[&alias[..], SOA].concat())).unwrap();
            assert_eq!((answer.lives, answer.is_negative()), (Duration::from_secs(30), rcode == 3));
        }
    }

    #[test]
    fn what_is_not_the_answer_is_told_apart() {
        let good = response(0, [1, 0, 0], ADDRESS);
        let changed = |at: usize, byte: u8| {
            let mut packet = good.clone();
            packet[at] = byte;
            read(&packet).map(|_| ())
        };
        for (at, byte) in [(1, 8), (2, 1), (2, 0xa0), (5, 2), (13, b'x'), (26, 28), (28, 3)] {
            assert_eq!(changed(at, byte), Err(UnusableAnswer::Foreign), "{at}");
        }
        assert_eq!(changed(13, b'W'), Ok(()));
        assert_eq!(changed(2, 0x83), Err(UnusableAnswer::Truncated));
        assert_eq!(changed(7, 2), Err(UnusableAnswer::Malformed));
        assert_eq!(read(b"\0\x07\x81\x85\0\0\0\0\0\0\0\0").unwrap().rcode, REFUSED);
    }
}
