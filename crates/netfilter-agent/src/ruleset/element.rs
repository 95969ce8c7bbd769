//! Elements as the kernel has them: keys, data and comments in bytes.

use std::net::{Ipv4Addr, SocketAddrV4};

use steppe_model::{Mac, Protocol};

use super::{Balancer, SetName};

/// The name of an interface as the kernel compares it: 16 bytes, the rest NULs (`IFNAMSIZ`, linux/if.h).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IfName([u8; 16]);

impl IfName {
    /// `None` for a name that no interface can have.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let valid = (1..bytes.len()).contains(&name.len()) && !name.contains(['\0', '/', ' ']);
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        valid.then_some(Self(bytes))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl std::fmt::Debug for IfName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Bytes of a key or of data: the longest, two names of interfaces, has 32.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Value {
    bytes: [u8; 32],
    length: u8,
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self.as_bytes(), f)
    }
}

impl Value {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self { bytes: [0; 32], length: 0 };

    /// These bytes, as the kernel has them; `None` if they are too many to be ours.
    pub(crate) fn new(key: &[u8]) -> Option<Self> {
        let mut value = Self::EMPTY;
        value.bytes.get_mut(..key.len())?.copy_from_slice(key);
        value.length = key.len() as u8;
        Some(value)
    }

    /// The bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Adds a part, padded to whole registers behind it.
    fn with(mut self, part: &[u8]) -> Self {
        let start = usize::from(self.length);
        self.bytes[start..start + part.len()].copy_from_slice(part);
        self.length += part.len().next_multiple_of(4) as u8;
        self
    }

    pub(crate) fn ip(self, ip: Ipv4Addr) -> Self {
        self.with(&ip.octets())
    }

    pub(crate) fn protocol(self, protocol: Protocol) -> Self {
        self.with(&[protocol.number()])
    }

    /// A key of one part: not padded.
    pub(crate) fn only(part: &[u8]) -> Self {
        // The longest part is the name of an interface.
        Self { length: part.len() as u8, ..Self::EMPTY.with(part) }
    }

    pub(crate) fn port(self, port: u16) -> Self {
        self.with(&port.to_be_bytes())
    }

    /// A number, in host order.
    pub(crate) fn number(self, number: u32) -> Self {
        self.with(&number.to_ne_bytes())
    }

    pub(crate) fn interface(self, name: IfName) -> Self {
        self.with(&name.0)
    }

    pub(crate) fn mac(self, mac: Mac) -> Self {
        self.with(&mac.0)
    }

    pub(crate) fn socket(self, address: SocketAddrV4) -> Self {
        self.ip(*address.ip()).port(address.port())
    }
}

/// An element of a set or a map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Element {
    /// Where it is.
    pub(crate) set: SetName,
    /// Its key.
    pub(crate) key: Value,
    /// What it leads to; empty in a set, and where it leads to a chain.
    pub(crate) data: Value,
    /// Whose chain it leads to, where it leads to one.
    pub(crate) goes_to: Option<Balancer>,
    /// Its comment; empty for none. At most 250 bytes.
    pub(crate) comment: String,
    /// In a set of ranges: whether this ends one, and is itself behind it.
    pub(crate) end: bool,
}

impl Element {
    /// A key without more.
    pub(crate) fn key(set: SetName, key: Value) -> Self {
        Self { set, key, data: Value::EMPTY, goes_to: None, comment: String::new(), end: false }
    }
}

/// Takes the parts of a key or of data off its front, in their order. `None` at the first that is not there.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl Parts<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let part = *self.0.first_chunk::<N>()?;
        // The last one need not be padded.
        self.0 = self.0.get(N.next_multiple_of(4)..).unwrap_or_default();
        Some(part)
    }

    pub(crate) fn ip(&mut self) -> Option<Ipv4Addr> {
        self.take::<4>().map(Ipv4Addr::from)
    }

    pub(crate) fn protocol(&mut self) -> Option<Protocol> {
        match self.take::<1>()? {
            [6] => Some(Protocol::Tcp),
            [17] => Some(Protocol::Udp),
            _ => None,
        }
    }

    pub(crate) fn port(&mut self) -> Option<u16> {
        self.take::<2>().map(u16::from_be_bytes)
    }

    pub(crate) fn number(&mut self) -> Option<u32> {
        self.take::<4>().map(u32::from_ne_bytes)
    }

    pub(crate) fn socket(&mut self) -> Option<SocketAddrV4> {
        Some(SocketAddrV4::new(self.ip()?, self.port()?))
    }

    pub(crate) fn interface(&mut self) -> Option<IfName> {
        self.take::<16>().map(IfName)
    }

    pub(crate) fn mac(&mut self) -> Option<Mac> {
        self.take::<6>().map(Mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_padded_behind() {
        let mac = Mac([2, 66, 172, 17, 0, 2]);
        let name = IfName::new("veth0").unwrap();
        let ip = Ipv4Addr::new(172, 17, 0, 2);
        let key = Value::EMPTY.interface(name).mac(mac).ip(ip);
        assert_eq!(key.as_bytes().len(), 28);
        let mut parts = Parts(key.as_bytes());
        assert_eq!((parts.interface(), parts.mac(), parts.ip()), (Some(name), Some(mac), Some(ip)));
        let key = Value::EMPTY.ip(ip).protocol(Protocol::Tcp).port(80);
        assert_eq!(key.as_bytes(), [172, 17, 0, 2, 6, 0, 0, 0, 0, 80, 0, 0]);
    }

    #[test]
    fn names_that_no_interface_has_are_refused() {
        for name in ["", "a/b", "a b", "sixteen-bytes-xx"] {
            assert_eq!(IfName::new(name), None, "{name}");
        }
        assert_eq!(IfName::new("fifteen-bytes-x").unwrap().as_str(), "fifteen-bytes-x");
    }
}
