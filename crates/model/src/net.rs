//! Protocols and hardware addresses.

use std::{fmt, str::FromStr};

use ipnet::Ipv4Net;
use thiserror::Error;

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, RFC 9293.
    Tcp,
    /// UDP, RFC 768.
    Udp,
}

impl Protocol {
    /// The IP protocol number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An Ethernet hardware address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The text is no hardware address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a hardware address: six bytes in hexadecimal, such as 02:42:ac:11:00:02, are expected")]
pub struct InvalidMac;

impl FromStr for Mac {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
                .ok_or(InvalidMac)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| InvalidMac)?;
        }
        if parts.next().is_some() { Err(InvalidMac) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidBlock {
    /// It does not look like one.
    #[error("an IPv4 block is expected, such as 247.0.0.0/8")]
    Malformed,
    /// The address has bits behind the prefix.
    #[error("the address has bits behind the prefix: write {0}")]
    NotTheFirst(Ipv4Net),
}

/// Reads a block of IPv4 addresses, such as `247.0.0.0/8`, named by its first address.
///
/// # Errors
/// [`InvalidBlock`], which says what to write.
pub fn parse_block(text: &str) -> Result<Ipv4Net, InvalidBlock> {
    let block: Ipv4Net = text.parse().map_err(|_| InvalidBlock::Malformed)?;
    if block.trunc() == block { Ok(block) } else { Err(InvalidBlock::NotTheFirst(block.trunc())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_named_by_its_first_address() {
        assert_eq!(parse_block("247.0.0.0/8").unwrap().to_string(), "247.0.0.0/8");
        assert_eq!(
            parse_block("247.1.0.0/8"),
            Err(InvalidBlock::NotTheFirst("247.0.0.0/8".parse().unwrap()))
        );
        for text in ["", "247.0.0.0", "247.0.0.0/33", "247.0.0.0/-1", "::/8", "a/8"] {
            assert_eq!(parse_block(text), Err(InvalidBlock::Malformed), "{text}");
        }
    }

    #[test]
    fn macs_round_trip() {
        let mac: Mac = "02:42:AC:11:00:02".parse().unwrap();
        assert_eq!(mac.to_string(), "02:42:ac:11:00:02");
        for text in ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "+2:42:ac:11:00:02", "0242ac110002"] {
            assert_eq!(text.parse::<Mac>(), Err(InvalidMac), "{text}");
        }
    }
}
