//! Answers of our own.

use super::{CLASS_IN, OPT_LENGTH, Rcode, Request, UDP_LIMIT, types};

const RESPONSE: u8 = 0x80;
const AUTHORITATIVE: u8 = 0x04;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const CHECKING_DISABLED: u8 = 0x10;

/// Where a record goes, by where its count stands in the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Answer = 6,
    Authority = 8,
    Additional = 10,
}

/// Whose a record is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    /// The name that stands at this place of the message.
    At(usize),
    /// The root.
    Root,
}

impl Owner {
    fn write(self, buffer: &mut Vec<u8>) {
        match self {
            // A message of ours is far below the 16 KiB that a pointer reaches where names stand.
            Self::At(at) => buffer.extend_from_slice(&(0xc000 | at as u16).to_be_bytes()),
            Self::Root => buffer.push(0),
        }
    }
}

/// Writes one answer. What does not fit is left out, and said to be.
#[derive(Debug)]
pub(crate) struct Writer<'b> {
    buffer: &'b mut Vec<u8>,
    limit: usize,
    /// Where the question ends.
    body: usize,
    opt: Option<(Rcode, bool)>,
    full: bool,
}

impl<'b> Writer<'b> {
    /// Begins an answer of at most `limit` bytes in `buffer`, which is emptied.
    pub(crate) fn new(
        buffer: &'b mut Vec<u8>,
        request: &Request,
        rcode: Rcode,
        authoritative: bool,
        limit: usize,
    ) -> Self {
        buffer.clear();
        push_head(buffer, request, rcode.number(), authoritative);
        let opt = request.edns.map(|edns| (rcode, edns.dnssec));
        let reserved = if opt.is_some() { OPT_LENGTH } else { 0 };
        Self { body: buffer.len(), buffer, limit: limit - reserved, opt, full: false }
    }

    /// Adds a record, whose data `data` appends, and says where they begin.
    pub(crate) fn record(
        &mut self,
        section: Section,
        owner: Owner,
        kind: u16,
        ttl: u32,
        data: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = self.buffer.len();
        if self.full {
            return start;
        }
        owner.write(self.buffer);
        self.buffer.extend_from_slice(&kind.to_be_bytes());
        self.buffer.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.buffer.extend_from_slice(&ttl.to_be_bytes());
        self.buffer.extend_from_slice(&[0; 2]);
        let begin = self.buffer.len();
        data(self.buffer);
        let length = (self.buffer.len() - begin) as u16;
        self.buffer[begin - 2..begin].copy_from_slice(&length.to_be_bytes());
        if self.buffer.len() <= self.limit {
            self.count(section, |count| count + 1);
        } else if section == Section::Additional {
            // Merely a help (RFC 2181 §9).
            self.buffer.truncate(start);
        } else {
            self.full = true;
        }
        begin
    }

    fn count(&mut self, section: Section, change: impl FnOnce(u16) -> u16) {
        let at = section as usize;
        let count = change(u16::from_be_bytes([self.buffer[at], self.buffer[at + 1]]));
        self.buffer[at..at + 2].copy_from_slice(&count.to_be_bytes());
    }

    /// Ends the answer.
    pub(crate) fn finish(mut self) {
        if self.full {
            self.buffer.truncate(self.body);
            self.buffer[2] |= TRUNCATED;
            for section in [Section::Answer, Section::Authority, Section::Additional] {
                self.count(section, |_| 0);
            }
        }
        if let Some((rcode, dnssec)) = self.opt {
            push_opt(self.buffer, (rcode.number() >> 4) as u8, dnssec);
            self.count(Section::Additional, |count| count + 1);
        }
    }
}

/// The head of an answer and its question, as it was asked.
pub(super) fn push_head(buffer: &mut Vec<u8>, request: &Request, rcode: u16, authoritative: bool) {
    let mut flags = [RESPONSE, RECURSION_AVAILABLE | (rcode & 0xf) as u8];
    flags[0] |= if authoritative { AUTHORITATIVE } else { 0 };
    flags[0] |= if request.recursion_desired { RECURSION_DESIRED } else { 0 };
    flags[1] |= if request.checking_disabled { CHECKING_DISABLED } else { 0 };
    buffer.extend_from_slice(&request.id.to_be_bytes());
    buffer.extend_from_slice(&flags);
    buffer.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    buffer.extend_from_slice(request.asked.as_bytes());
    buffer.extend_from_slice(&request.kind.to_be_bytes());
    buffer.extend_from_slice(&request.class.to_be_bytes());
}

/// Marks the answer in `buffer` as one that did not fit.
pub(super) fn mark_truncated(buffer: &mut [u8]) {
    buffer[2] |= TRUNCATED;
}

pub(super) fn push_opt(buffer: &mut Vec<u8>, upper_rcode: u8, dnssec: bool) {
    buffer.push(0);
    buffer.extend_from_slice(&types::OPT.to_be_bytes());
    buffer.extend_from_slice(&(UDP_LIMIT as u16).to_be_bytes());
    buffer.extend_from_slice(&[upper_rcode, 0, if dnssec { 0x80 } else { 0 }, 0, 0, 0]);
}

/// Refuses with a head alone what could not be read.
pub(crate) fn refusal(buffer: &mut Vec<u8>, head: [u8; 4], rcode: Rcode) {
    buffer.clear();
    buffer.extend_from_slice(&head[..2]);
    // The opcode and "recursion desired" are the asker's (RFC 1035 §4.1.1).
    buffer.push(RESPONSE | head[2] & 0x79);
    buffer.push(RECURSION_AVAILABLE | rcode.number() as u8);
    buffer.extend_from_slice(&[0; 8]);
}
