//! Messages on the wire (RFC 1035 §4), read and written in place.
//!
//! Of a request only the question and EDNS are read, neither of which may hold a compression pointer, so that there is no loop to
//! fall into; records of an answer that is passed on are stepped over, not understood. Our own reader rather than a library's message
//! type: what is forwarded stays byte for byte what the resolver said, record types that nobody here knows included, and an answer
//! from our own zone is written straight into the buffer that is sent.

mod answer;
mod name;
mod request;
mod text;
mod writer;

pub(crate) use answer::{Answer, UnusableAnswer};
pub use name::WireName;
pub(crate) use name::{labels, push_labels};
pub(crate) use request::end_of_records;
pub use request::{Edns, Parsed, Request, parse};
pub(crate) use text::{rcode_name, records, type_from_name, type_name};
pub(crate) use writer::{Owner, Section, Writer, refusal};

/// Length of a message's head.
pub(crate) const HEAD: usize = 12;
/// What we send at the most over UDP, and say that we take: passes every path without fragments (DNS Flag Day 2020).
pub const UDP_LIMIT: usize = 1232;
/// What a requester without EDNS takes over UDP (RFC 1035 §2.3.4).
pub(crate) const PLAIN_UDP_LIMIT: usize = 512;
/// The longest message: TCP's length has 16 bits.
pub const TCP_LIMIT: usize = 65_535;
/// Length of an OPT record without options.
pub(crate) const OPT_LENGTH: usize = 11;

/// Record types (IANA's registry of DNS parameters) that mean something here.
pub(crate) mod types {
    pub(crate) const A: u16 = 1;
    pub(crate) const NS: u16 = 2;
    pub(crate) const CNAME: u16 = 5;
    pub(crate) const SOA: u16 = 6;
    pub(crate) const PTR: u16 = 12;
    pub(crate) const HINFO: u16 = 13;
    pub(crate) const MX: u16 = 15;
    pub(crate) const TXT: u16 = 16;
    pub(crate) const AAAA: u16 = 28;
    pub(crate) const SRV: u16 = 33;
    pub(crate) const OPT: u16 = 41;
    pub(crate) const DS: u16 = 43;
    pub(crate) const DNSKEY: u16 = 48;
    /// From here to 255 there are no records but kinds of questions (RFC 6895 §3.1): TKEY, TSIG, IXFR, AXFR, MAILB, MAILA, ANY.
    pub(crate) const FIRST_META: u16 = 249;
    pub(crate) const ANY: u16 = 255;
}

/// The class of the internet.
pub(crate) const CLASS_IN: u16 = 1;

/// Response codes (RFC 1035 §4.1.1, RFC 6891 §9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registry's")]
pub enum Rcode {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    BadVers,
}

impl Rcode {
    /// The number, of which the head holds the lower four bits.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }
}

/// The 16 bits at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// The 32 bits at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
