//! An address and a port that somebody asks about.

use std::{fmt, net::IpAddr};

use steppe_api::v1::Protocol;
use steppe_model::parse_grant;

/// Where something listens, or may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) ip: IpAddr,
    pub(crate) protocol: Protocol,
    /// 0 when none was given.
    pub(crate) port: u32,
}

impl Target {
    /// Reads `IP`, `IP:PORT[/udp]` and `[IPV6]:PORT[/udp]`; `None` for what begins with no address.
    ///
    /// # Errors
    /// What is wrong with the port.
    pub(crate) fn parse(text: &str) -> Option<Result<Self, String>> {
        let text = text.trim();
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None if text.parse::<IpAddr>().is_ok() => (text, None),
            None => text.split_once(':').map(|(host, port)| (host, Some(port)))?,
        };
        let ip = host.parse().ok()?;
        let Some(port) = port else { return Some(Ok(Self { ip, protocol: Protocol::Tcp, port: 0 })) };
        // The grammar knows how a port is written; any name will do before it.
        Some(match parse_grant(&format!("x:{port}")) {
            Ok(spec) => {
                Ok(Self { ip, protocol: spec.port.protocol.into(), port: spec.port.number_or_zero().into() })
            }
            Err(malformed) => Err(malformed.reason),
        })
    }

    /// `24011/tcp`
    pub(crate) fn port_text(&self) -> String {
        let protocol = if self.protocol == Protocol::Udp { "udp" } else { "tcp" };
        format!("{}/{protocol}", self.port)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let udp = if self.protocol == Protocol::Udp { "/udp" } else { "" };
        match (self.ip, self.port) {
            (ip, 0) => write!(f, "{ip}"),
            (IpAddr::V4(ip), port) => write!(f, "{ip}:{port}{udp}"),
            (IpAddr::V6(ip), port) => write!(f, "[{ip}]:{port}{udp}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_in_both_families() {
        for text in ["10.0.0.5", "10.0.0.5:80", "10.0.0.5:53/udp", "::1", "[::1]:80", "[fe80::1]:53/udp"] {
            assert_eq!(Target::parse(text).unwrap().unwrap().to_string(), text);
        }
        assert_eq!(Target::parse("10.0.0.5:80/tcp").unwrap().unwrap().port_text(), "80/tcp");
        for text in ["web", "web:80", "alice/web:80", "", "10.0.0", "[web]:80"] {
            assert_eq!(Target::parse(text), None, "{text}");
        }
        for text in ["10.0.0.5:x", "10.0.0.5:0", "[::1]:70000"] {
            assert!(Target::parse(text).unwrap().is_err(), "{text}");
        }
    }
}
