//! Between wire types and domain types. What comes from a socket is checked here, and nowhere else.

mod desired;

use std::net::{Ipv4Addr, SocketAddrV4};

use steppe_model::{Protocol, ServiceKey, VirtualPort};
use thiserror::Error;

use crate::v1;

/// A field of a message that makes no sense, by its path in the message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    field: String,
    problem: String,
}

impl FieldError {
    /// `problem` says what was found and what is expected.
    pub fn new(field: impl Into<String>, problem: impl ToString) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }

    /// The same error, seen from the message that holds `outer`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

pub(crate) fn missing(field: &str) -> FieldError {
    FieldError::new(field, "is missing")
}

/// Parses a text field.
pub(crate) fn text<T>(field: &str, text: &str) -> Result<T, FieldError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse().map_err(|error| FieldError::new(field, error))
}

/// Parses an IPv4 address.
pub(crate) fn ipv4(field: &str, value: &str) -> Result<Ipv4Addr, FieldError> {
    value.parse().map_err(|_| FieldError::new(field, format!("`{value:.40}` is not an IPv4 address")))
}

/// A port number; 0 is let through only where it has a meaning.
pub(crate) fn port_or_zero(field: &str, value: u32) -> Result<u16, FieldError> {
    u16::try_from(value).map_err(|_| FieldError::new(field, format!("{value} is no port number")))
}

pub(crate) fn port(field: &str, value: u32) -> Result<u16, FieldError> {
    match port_or_zero(field, value)? {
        0 => Err(FieldError::new(field, "0 is no port number here")),
        port => Ok(port),
    }
}

pub(crate) fn protocol(value: i32) -> Result<Protocol, FieldError> {
    match v1::Protocol::try_from(value) {
        Ok(v1::Protocol::Tcp) => Ok(Protocol::Tcp),
        Ok(v1::Protocol::Udp) => Ok(Protocol::Udp),
        _ => Err(FieldError::new("protocol", "is neither PROTOCOL_TCP nor PROTOCOL_UDP")),
    }
}

pub(crate) fn virtual_port(wire: i32, number: u32) -> Result<VirtualPort, FieldError> {
    let protocol = protocol(wire)?;
    let port = VirtualPort::new(protocol, port_or_zero("port", number)?);
    if port.number.is_none() && protocol == Protocol::Udp {
        return Err(FieldError::new("port", "UDP needs a port: a grant without one is for TCP"));
    }
    Ok(port)
}

impl TryFrom<v1::SocketAddress> for SocketAddrV4 {
    type Error = FieldError;

    fn try_from(wire: v1::SocketAddress) -> Result<Self, FieldError> {
        Ok(Self::new(ipv4("ip", &wire.ip)?, port("port", wire.port)?))
    }
}

impl From<SocketAddrV4> for v1::SocketAddress {
    fn from(address: SocketAddrV4) -> Self {
        Self { ip: address.ip().to_string(), port: address.port().into() }
    }
}

impl From<Protocol> for v1::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

impl TryFrom<v1::ServiceKey> for ServiceKey {
    type Error = FieldError;

    fn try_from(wire: v1::ServiceKey) -> Result<Self, FieldError> {
        let user = if wire.user.is_empty() { None } else { Some(text("user", &wire.user)?) };
        let tag = if wire.tag.is_empty() { None } else { Some(text("tag", &wire.tag)?) };
        Ok(Self { user, name: text("name", &wire.name)?, tag })
    }
}

impl From<&ServiceKey> for v1::ServiceKey {
    fn from(key: &ServiceKey) -> Self {
        Self {
            user: key.user.as_ref().map(ToString::to_string).unwrap_or_default(),
            name: key.name.to_string(),
            tag: key.tag.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests;
