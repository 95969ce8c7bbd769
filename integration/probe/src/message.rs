//! DNS messages (RFC 1035 section 4), as much of them as a test looks at. Pure.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

const TYPES: [(&str, u16); 9] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
    ("ANY", 255),
];
const CODES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
const SECTIONS: [&str; 3] = ["answer", "authority", "additional"];
/// The pseudo-record of EDNS(0), which is no answer.
const OPT: u16 = 41;
/// More pointers than a name has labels: a loop.
const POINTERS: usize = 128;

/// The number of a type: by name, or written as a number.
///
/// # Errors
/// When it is neither.
pub fn kind(name: &str) -> Result<u16, String> {
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, number)| number);
    known.or_else(|| name.parse().ok()).ok_or_else(|| format!("`{name}` is no type of record"))
}

/// A question for a name of the class IN that wishes recursion.
///
/// # Errors
/// When a label is longer than 63 bytes.
pub fn question(id: u16, name: &str, kind: u16) -> Result<Vec<u8>, String> {
    // Recursion desired; one question.
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|&length| length < 64);
        bytes.push(length.ok_or_else(|| format!("`{label}` is too long for a label"))?);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    Ok(bytes)
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Such as `NXDOMAIN`.
    pub code: String,
    /// `aa` and `tc`, as far as they are set.
    pub flags: Vec<&'static str>,
    /// The records, each as `SECTION NAME TTL TYPE DATA`.
    pub records: Vec<String>,
}

impl Message {
    /// Reads one.
    ///
    /// # Errors
    /// When it breaks off or makes no sense.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { bytes, at: 2 };
        let flags = reader.short()?;
        let counts = [reader.short()?, reader.short()?, reader.short()?, reader.short()?];
        for _ in 0..counts[0] {
            reader.name()?;
            reader.take(4)?;
        }
        let mut records = Vec::new();
        for (section, count) in SECTIONS.iter().zip(&counts[1..]) {
            for _ in 0..*count {
                records.extend(reader.record()?.map(|record| format!("{section} {record}")));
            }
        }
        let code = usize::from(flags & 15);
        let code = CODES.get(code).map_or_else(|| format!("RCODE{code}"), |&name| name.to_owned());
        let set = [(1 << 10, "aa"), (1 << 9, "tc")];
        let flags = set.into_iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| name).collect();
        Ok(Self { code, flags, records })
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        self.flags.iter().try_for_each(|flag| write!(f, " {flag}"))?;
        self.records.iter().try_for_each(|record| write!(f, "\n{record}"))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let end = self.at + length;
        let taken = self.bytes.get(self.at..end).ok_or("the message breaks off")?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "the message breaks off".to_owned())
    }

    fn short(&mut self) -> Result<u16, String> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        let mut back = None;
        for _ in 0..POINTERS {
            match self.take(1)?[0] {
                0 => {
                    self.at = back.unwrap_or(self.at);
                    return Ok(if name.is_empty() { ".".to_owned() } else { name });
                }
                length @ 1..64 => {
                    name.push_str(&String::from_utf8_lossy(self.take(usize::from(length))?));
                    name.push('.');
                }
                high => {
                    let low = self.take(1)?[0];
                    back = back.or(Some(self.at));
                    self.at = usize::from(high & 0x3f) << 8 | usize::from(low);
                }
            }
        }
        Err("a name goes round in circles".to_owned())
    }

    /// None for the pseudo-record.
    fn record(&mut self) -> Result<Option<String>, String> {
        let name = self.name()?;
        let kind = self.short()?;
        self.short()?;
        let ttl = u32::from(self.short()?) << 16 | u32::from(self.short()?);
        let length = usize::from(self.short()?);
        let end = self.at + length;
        let data = match kind {
            1 => Ipv4Addr::from(self.array()?).to_string(),
            28 => Ipv6Addr::from(self.array::<16>()?).to_string(),
            2 | 5 | 12 => self.name()?,
            6 => format!("{} {}", self.name()?, self.name()?),
            33 => format!("{} {} {} {}", self.short()?, self.short()?, self.short()?, self.name()?),
            _ => String::from_utf8_lossy(self.take(length)?).escape_default().to_string(),
        };
        self.at = end;
        let known = TYPES.iter().find(|(_, number)| *number == kind);
        let kind_name = known.map_or_else(|| format!("TYPE{kind}"), |(name, _)| (*name).to_owned());
        Ok((kind != OPT).then(|| format!("{name} {ttl} {kind_name} {data}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_pointers() {
        let mut bytes = question(7, "web.steppe.internal", 1).unwrap();
        // An authoritative answer with one record, whose name is the question's.
        (bytes[2], bytes[7]) = (0x84, 1);
        bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 247, 1, 2, 3]);
        let message = Message::parse(&bytes).unwrap();
        assert_eq!(message.to_string(), "NOERROR aa\nanswer web.steppe.internal. 5 A 247.1.2.3");
        for end in 0..bytes.len() {
            assert!(Message::parse(&bytes[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn a_name_that_points_at_itself_is_refused() {
        let mut bytes = question(7, "", 1).unwrap();
        bytes.splice(12..13, [0xc0, 12]);
        assert!(Message::parse(&bytes).is_err());
        assert!(question(7, &"a".repeat(64), 1).is_err());
    }
}
