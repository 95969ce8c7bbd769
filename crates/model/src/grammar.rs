//! The `connect_to` grammar:
//!
//! ```text
//! connect_to = grant *("," grant)            ; blanks around every part are ignored
//! grant      = [user "/"] name ["#" tag] [":" port ["/" ("tcp"|"udp")]]
//! ```

use std::fmt;

use thiserror::Error;

use crate::{
    Protocol, ServiceKey, ServiceName, Tag, UserName, VirtualPort,
    name::{InvalidName, shorten},
};

/// One service that a consumer asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantSpec {
    /// Whose service; `None` for the consumer's own user's, else nobody's.
    pub user: Option<UserName>,
    /// The service's name.
    pub name: ServiceName,
    /// Only instances with this tag.
    pub tag: Option<Tag>,
    /// The port that the consumer dials.
    pub port: VirtualPort,
}

impl GrantSpec {
    /// The service's key when it belongs to `user`.
    #[must_use]
    pub fn key(&self, user: Option<UserName>) -> ServiceKey {
        ServiceKey { user, name: self.name.clone(), tag: self.tag.clone() }
    }
}

/// `[USER/]NAME[#TAG][:PORT[/udp]]`, as a user would write it
impl fmt::Display for GrantSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key(self.user.clone()))?;
        match (self.port.number, self.port.protocol) {
            (None, _) => Ok(()),
            (Some(number), Protocol::Tcp) => write!(f, ":{number}"),
            (Some(number), Protocol::Udp) => write!(f, ":{number}/udp"),
        }
    }
}

/// A grant that can't be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}`: {reason}")]
pub struct Malformed {
    /// The grant as written (its beginning, if it is long).
    pub text: String,
    /// What is wrong with it and what is expected.
    pub reason: String,
}

/// Reads the value of a `connect_to`. A malformed grant stands for itself alone.
pub fn parse_connect_to(text: &str) -> impl Iterator<Item = Result<GrantSpec, Malformed>> {
    text.split(',').map(parse_grant)
}

/// Reads one grant.
///
/// # Errors
/// [`Malformed`], when the text is not of the grammar.
pub fn parse_grant(text: &str) -> Result<GrantSpec, Malformed> {
    read(text).map_err(|reason| Malformed { text: shorten(text.trim()), reason })
}

fn read(text: &str) -> Result<GrantSpec, String> {
    if text.trim().is_empty() {
        return Err("empty: write [USER/]NAME[#TAG][:PORT[/udp]]".into());
    }
    if text.contains('@') {
        return Err("datacenters (`@`) can't be named: not yet".into());
    }
    let (service, port) = match text.split_once(':') {
        Some((service, port)) => (service, read_port(port)?),
        None => (text, VirtualPort::ANY),
    };
    let (user, service) = match service.split_once('/') {
        Some((user, service)) => (Some(user.trim().parse::<UserName>().map_err(say)?), service),
        None => (None, service),
    };
    let (name, tag) = match service.split_once('#') {
        Some((name, tag)) => (name, Some(tag.trim().parse::<Tag>().map_err(say)?)),
        None => (service, None),
    };
    Ok(GrantSpec { user, name: name.trim().parse::<ServiceName>().map_err(say)?, tag, port })
}

fn read_port(text: &str) -> Result<VirtualPort, String> {
    let (number, protocol) = match text.split_once('/') {
        None => (text.trim(), Protocol::Tcp),
        Some((number, protocol)) => (number.trim(), read_protocol(protocol.trim())?),
    };
    match number.parse::<u16>() {
        Ok(port) if port > 0 && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(VirtualPort::new(protocol, port))
        }
        _ => Err(port_expected(number)),
    }
}

fn read_protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => Err(format!("protocol `{}` is neither `tcp` nor `udp`", shorten(other))),
    }
}

fn port_expected(text: &str) -> String {
    format!("port `{}` is not a number from 1 to 65535", shorten(text))
}

fn say(error: InvalidName) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;
