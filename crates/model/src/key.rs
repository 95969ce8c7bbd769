//! What services and their ports are known by.

use std::{fmt, num::NonZeroU16};

use crate::{Protocol, ServiceName, Tag, UserName};

/// What a service is known by. Two users' `redis` are two services, and so are `redis` and `redis#primary`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// The user it belongs to; `None` when it belongs to nobody.
    pub user: Option<UserName>,
    /// Its name.
    pub name: ServiceName,
    /// Only instances with this tag; `None` for all of them.
    pub tag: Option<Tag>,
}

/// `[USER/]NAME[#TAG]`
impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = &self.user {
            write!(f, "{user}/")?;
        }
        write!(f, "{}", self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, "#{tag}")?;
        }
        Ok(())
    }
}

/// A port as workloads dial it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualPort {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number; `None` for every port of the protocol that nothing more exact names.
    pub number: Option<NonZeroU16>,
}

impl VirtualPort {
    /// Every TCP port: what `connect_to` without a port means.
    pub const ANY: Self = Self { protocol: Protocol::Tcp, number: None };

    /// The number as it is on the wire and in the kernel's sets: 0 for every port.
    #[must_use]
    pub fn number_or_zero(self) -> u16 {
        self.number.map_or(0, NonZeroU16::get)
    }

    /// The port with this number; 0 stands for every port.
    #[must_use]
    pub fn new(protocol: Protocol, number_or_zero: u16) -> Self {
        Self { protocol, number: NonZeroU16::new(number_or_zero) }
    }
}

/// `80/tcp`, or `*/tcp` for every port
impl fmt::Display for VirtualPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number {
            Some(number) => write!(f, "{number}/{}", self.protocol),
            None => write!(f, "*/{}", self.protocol),
        }
    }
}

/// What a listener is known by: one port of one service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey {
    /// The service.
    pub service: ServiceKey,
    /// The port that workloads dial.
    pub port: VirtualPort,
}

/// `[USER/]NAME[#TAG]:PORT/PROTOCOL`
impl fmt::Display for ListenerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}
