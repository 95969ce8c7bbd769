//! Names as they are on the wire: labels with their lengths, and a zero.

use std::fmt;

/// The longest name, lengths and zero included (RFC 1035 §2.3.4).
pub(crate) const LONGEST: usize = 255;
/// The longest label.
const LABEL: u8 = 63;

/// A whole name, uncompressed.
#[derive(Clone, Copy)]
pub struct WireName {
    length: u8,
    bytes: [u8; LONGEST],
}

impl WireName {
    /// Reads the name at the beginning of `bytes`. One with a compression pointer is none: what is read here is the first name of
    /// a message, and there is nothing before it to point to.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let mut length = 0;
        loop {
            let label = *bytes.get(length)?;
            if label > LABEL {
                return None;
            }
            length += 1 + usize::from(label);
            if length > LONGEST {
                return None;
            }
            if label == 0 {
                break;
            }
        }
        let mut name = Self { length: u8::try_from(length).ok()?, bytes: [0; LONGEST] };
        name.bytes[..length].copy_from_slice(bytes.get(..length)?);
        Some(name)
    }

    /// Takes a name as people write it, with or without the dot at its end; `.` is the root.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let mut bytes = Vec::with_capacity(text.len() + 2);
        if !text.is_empty() {
            for label in text.split('.') {
                let length = u8::try_from(label.len()).ok().filter(|length| (1..=LABEL).contains(length))?;
                bytes.push(length);
                bytes.extend_from_slice(label.as_bytes());
            }
        }
        bytes.push(0);
        Self::read(&bytes)
    }

    /// The whole of it, with its zero.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// The same in lower case. Lengths are below `A`, so they stay.
    pub(crate) fn lower(mut self) -> Self {
        self.bytes[..usize::from(self.length)].make_ascii_lowercase();
        self
    }

    /// The labels before `zone`, which is a name on the wire in lower case with its zero; `None` outside of it.
    pub(crate) fn before(&self, zone: &[u8]) -> Option<&[u8]> {
        let bytes = self.as_bytes();
        let cut = bytes.len().checked_sub(zone.len())?;
        let (before, end) = bytes.split_at(cut);
        // The same bytes may begin in the middle of a label.
        (end == zone && (end.len() == 1 || starts_a_label(bytes, cut))).then_some(before)
    }

    /// Its labels.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        labels(&self.bytes[..usize::from(self.length) - 1])
    }
}

fn starts_a_label(bytes: &[u8], cut: usize) -> bool {
    let mut at = 0;
    while at < cut {
        at += 1 + usize::from(bytes[at]);
    }
    at == cut
}

impl PartialEq for WireName {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for WireName {}

impl fmt::Display for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length <= 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            fmt_label(f, label)?;
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for WireName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A label in a zone file's notation (RFC 1035 §5.1).
fn fmt_label(f: &mut fmt::Formatter<'_>, label: &[u8]) -> fmt::Result {
    for &byte in label {
        match byte {
            b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", char::from(byte))?,
            b'!'..=b'~' => write!(f, "{}", char::from(byte))?,
            _ => write!(f, "\\{byte:03}")?,
        }
    }
    Ok(())
}

/// Walks labels that are known to be whole, such as a name's without its zero.
pub(crate) fn labels(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = bytes.split_first()?;
        let (label, rest) = rest.split_at_checked(length.into())?;
        bytes = rest;
        Some(label)
    })
}

/// Appends the labels of a name that is known to be valid, such as `canary.web`, without a zero.
pub(crate) fn push_labels(buffer: &mut Vec<u8>, name: &str) {
    for label in name.split('.') {
        // A valid label has 63 bytes at the most.
        buffer.push(label.len() as u8);
        buffer.extend_from_slice(label.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> WireName {
        WireName::from_text(text).unwrap()
    }

    #[test]
    fn a_zone_begins_at_a_label() {
        let zone = name("steppe.internal");
        let before = |text: &str| name(text).before(zone.as_bytes()).map(<[u8]>::to_vec);
        assert_eq!(before("web.steppe.internal").unwrap(), b"\x03web");
        assert_eq!(before("steppe.internal").unwrap(), b"");
        assert_eq!(before("internal"), None);
        assert_eq!(before("steppe.internal.example"), None);
        // The last fifteen bytes of one label that look like the zone.
        let mut forged = vec![1 + 7 + 8];
        forged.push(b'x');
        forged.extend_from_slice(&zone.as_bytes()[..15]);
        forged.push(8);
        forged.extend_from_slice(b"internal\0");
        assert_eq!(WireName::read(&forged).unwrap().before(zone.as_bytes()), None);
    }

    #[test]
    fn names_beyond_the_limits_are_none() {
        assert!(WireName::from_text(&"x".repeat(63)).is_some());
        assert!(WireName::from_text(&"x".repeat(64)).is_none());
        assert!(WireName::from_text("a..b").is_none());
        assert_eq!(name(&"a.".repeat(127)).as_bytes().len(), 255);
        assert!(WireName::from_text(&"a.".repeat(128)).is_none());
        for hostile in [&b"\xc0\x0c"[..], b"\x03web", b"\x03web\xc0\x0c", b"", b"\x40", b"\x80\0"] {
            assert_eq!(WireName::read(hostile), None, "{hostile:?}");
        }
        assert_eq!(WireName::read(b"\0rest").unwrap(), name("."));
    }

    #[test]
    fn people_see_what_is_unusual() {
        assert_eq!(name("Web.Example").to_string(), "Web.Example.");
        assert_eq!(name(".").to_string(), ".");
        assert_eq!(WireName::read(b"\x04a.\xff \0").unwrap().to_string(), "a\\.\\255\\032.");
    }
}
