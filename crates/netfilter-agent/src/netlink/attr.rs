//! Netlink attributes: type, length, value, padded to four bytes (linux/netlink.h).

/// Set in the type of an attribute that holds attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;
/// The bits of an attribute's type that are its type (`NLA_TYPE_MASK`).
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// Writes attributes at the end of a buffer.
pub(crate) struct Attrs<'a>(pub(super) &'a mut Vec<u8>);

impl Attrs<'_> {
    /// An attribute with these bytes. A value that does not fit its 16-bit length is a mistake of the caller.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let start = self.begin(kind);
        self.0.extend_from_slice(value);
        self.end(start);
    }

    /// An attribute that holds others.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attrs<'_>)) {
        let start = self.begin(kind | NESTED);
        fill(self);
        self.end(start);
    }

    /// Text with the NUL that the kernel expects at its end.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let start = self.begin(kind);
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(0);
        self.end(start);
    }

    /// A number in network order, as nf_tables and conntrack have them.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in network order.
    pub(crate) fn be64(&mut self, kind: u16, value: u64) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// A number in host order, as rtnetlink has them.
    pub(crate) fn ne32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn begin(&mut self, kind: u16) -> usize {
        let start = self.0.len();
        self.0.extend_from_slice(&[0, 0]);
        self.0.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn end(&mut self, start: usize) {
        let length = self.0.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "an attribute of {length} bytes");
        // The caller keeps to 16 bits, as asserted above.
        self.0[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

/// Reads attributes. What is malformed ends the reading: the kernel does not send it.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Attributes<'a> {
    /// The value of the first attribute of a type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes within the first attribute of a type.
    pub(crate) fn nested(self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes)
    }

    /// Text, without the NUL at its end.
    pub(crate) fn text(self, kind: u16) -> Option<&'a str> {
        let value = self.get(kind)?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
        std::str::from_utf8(&value[..end]).ok()
    }

    /// A number in network order.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// A number in network order.
    pub(crate) fn be64(self, kind: u16) -> Option<u64> {
        self.get(kind)?.try_into().ok().map(u64::from_be_bytes)
    }

    /// A number in host order.
    pub(crate) fn ne32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.try_into().ok().map(u32::from_ne_bytes)
    }
}

impl<'a> IntoIterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(self.0)
    }
}

/// Types and values, in order.
pub(crate) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.0.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_round_trip() {
        let mut bytes = Vec::new();
        let mut attrs = Attrs(&mut bytes);
        attrs.text(1, "steppe");
        attrs.nest(2, |inner| {
            inner.be32(1, 7);
            inner.bytes(2, &[9]);
        });
        attrs.ne32(3, 8);
        let read = Attributes(&bytes);
        assert_eq!(read.text(1), Some("steppe"));
        let inner = read.nested(2).unwrap();
        assert_eq!((inner.be32(1), inner.get(2)), (Some(7), Some(&[9][..])));
        assert_eq!((read.ne32(3), read.get(4)), (Some(8), None));
        assert_eq!(bytes.len() % 4, 0);
    }

    proptest! {
        #[test]
        fn reading_nonsense_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Attributes(&bytes).into_iter().count() <= bytes.len());
        }
    }
}
