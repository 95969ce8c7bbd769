//! Netlink messages in one contiguous buffer: a transaction must arrive in one send.

use super::attr::{Attributes, Attrs};

/// A message's header (`struct nlmsghdr`): length, type, flags, sequence number, port id.
pub(crate) const HEADER: usize = 16;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 0x1;
/// `NLM_F_ACK`: say also when all went well.
pub(crate) const ACK: u16 = 0x4;
/// `NLM_F_ROOT | NLM_F_MATCH`: list them all.
pub(crate) const DUMP: u16 = 0x300;
/// `NLM_F_CREATE`.
pub(crate) const CREATE: u16 = 0x400;
/// `NLM_F_EXCL`: only if it is not there.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// In a dump's answer: the thing listed changed meanwhile (`NLM_F_DUMP_INTR`).
pub(crate) const INTERRUPTED: u16 = 0x10;

/// `NLMSG_ERROR`: an error, or an acknowledgement when its code is 0.
pub(crate) const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub(crate) const DONE: u16 = 3;

/// Messages one after the other, each with the next sequence number.
#[derive(Debug)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    next: u32,
}

impl Messages {
    /// None yet; the first will have the sequence number `first`.
    pub(crate) fn new(first: u32) -> Self {
        Self { bytes: Vec::new(), next: first }
    }

    /// The messages as they go to the kernel.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The sequence number of the next message.
    pub(crate) fn next_sequence(&self) -> u32 {
        self.next
    }

    /// Adds a request: its fixed part, then its attributes.
    pub(crate) fn add(&mut self, kind: u16, flags: u16, fixed: &[u8], fill: impl FnOnce(&mut Attrs<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&self.next.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(fixed);
        fill(&mut Attrs(&mut self.bytes));
        // Attributes keep to 64 KiB, so a message does not come near 32 bits.
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.next = self.next.wrapping_add(1);
    }
}

/// One message that came from the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    /// Its type.
    pub(crate) kind: u16,
    /// Its flags.
    pub(crate) flags: u16,
    /// The sequence number of the request that it answers.
    pub(crate) sequence: u32,
    /// The port id of the socket that asked for it, or caused it.
    pub(crate) port: u32,
    /// What follows the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a fixed part of so many bytes.
    pub(crate) fn attributes(&self, fixed: usize) -> Attributes<'a> {
        Attributes(self.body.get(fixed..).unwrap_or_default())
    }

    /// The code of an `ERROR` or `DONE` message: 0, or a negative errno.
    pub(crate) fn code(&self) -> i32 {
        self.body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes)
    }
}

/// The messages of one datagram.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        let (header, body) = rest.get(..length)?.split_at_checked(HEADER)?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at =
            |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind: u16_at(4), flags: u16_at(6), sequence: u32_at(8), port: u32_at(12), body })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_round_trip() {
        let mut written = Messages::new(5);
        written.add(7, ACK, &[1, 2, 3, 4], |attrs| attrs.be32(1, 9));
        written.add(8, 0, &[], |_| ());
        let read: Vec<_> = messages(written.as_bytes()).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].sequence, read[0].flags), (7, 5, ACK | REQUEST));
        assert_eq!(read[0].attributes(4).be32(1), Some(9));
        assert_eq!((read[1].kind, read[1].sequence, read[1].body.len()), (8, 6, 0));
    }

    proptest! {
        #[test]
        fn reading_nonsense_ends(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
        }
    }
}
