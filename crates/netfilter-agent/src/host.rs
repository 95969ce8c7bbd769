//! What this host needs beside the tables: the addresses of the proxy's listeners and of dns on `lo`, and a route that refuses virtual IPs, so that none
//! leaves the host when no rule is loaded. ip-address(8), ip-route(8): `ip addr add A/32 dev lo`, `ip route add unreachable C`.

use std::{io, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{
    netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Message, ROUTE, Socket},
    ruleset::Addresses,
};

const NEW_ADDRESS: u16 = 20;
/// `RTM_DELADDR`.
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
/// `RTM_DELROUTE`.
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const AF_INET: u8 = 2;
/// `lo` has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// `RT_SCOPE_HOST`: nobody else can use it.
const SCOPE_HOST: u8 = 254;
/// `RT_TABLE_MAIN`.
const TABLE_MAIN: u8 = 254;
/// `RTPROT_STATIC`: put by an administrator, so routing daemons leave it alone.
const STATIC: u8 = 4;
/// `RTN_UNREACHABLE`.
const UNREACHABLE: u8 = 7;
/// `struct ifaddrmsg`.
const ADDRESS_FIXED: usize = 8;
/// `struct rtmsg`.
const ROUTE_FIXED: usize = 12;
/// ESRCH, which the kernel says of a route that is not there.
const NO_ROUTE: i32 = 3;

/// The socket for it.
pub(crate) struct Host {
    socket: Socket,
    addresses: Addresses,
}

/// The address or the route could not be put or removed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// The address.
    #[error("{address} could not be put on `lo`")]
    Address { address: Ipv4Addr, source: io::Error },
    /// The route.
    #[error("the route `unreachable {cidr}` could not be put")]
    Route { cidr: Ipv4Net, source: io::Error },
    /// Somebody else's route.
    #[error(
        "{cidr} is routed already, and not as `unreachable`: choose another --service-cidr, or remove that route"
    )]
    Routed { cidr: Ipv4Net },
}

/// What `lo` has.
fn on_loopback(addresses: Addresses) -> [Ipv4Addr; 2] {
    [addresses.listener, addresses.dns]
}

/// Whether an event tells that one of our addresses or our route is gone. A host may have many others that come and go.
pub(crate) fn removes_ours(message: Message<'_>, addresses: Addresses) -> bool {
    let services = addresses.services;
    match message.kind {
        DELETE_ADDRESS => {
            let gone = message.attributes(ADDRESS_FIXED).get(IFA_LOCAL);
            on_loopback(addresses).iter().any(|address| gone == Some(&address.octets()))
        }
        DELETE_ROUTE => {
            message.body.get(1) == Some(&services.prefix_len())
                && message.attributes(ROUTE_FIXED).get(RTA_DST) == Some(&services.network().octets())
        }
        _ => false,
    }
}

impl Host {
    /// Opens the socket.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(addresses: Addresses) -> io::Result<Self> {
        Ok(Self { socket: Socket::open(ROUTE)?, addresses })
    }

    /// Puts the route and the addresses where they are missing. Gives whether anything was.
    ///
    /// # Errors
    /// [`HostError`], naming what could not be put.
    pub(crate) fn ensure(&mut self) -> Result<bool, HostError> {
        let cidr = self.addresses.services;
        let mut put = match self.route(NEW_ROUTE, CREATE | EXCLUSIVE) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !self.is_unreachable().map_err(|source| HostError::Route { cidr, source })? {
                    return Err(HostError::Routed { cidr });
                }
                false
            }
            Err(source) => return Err(HostError::Route { cidr, source }),
        };
        for address in on_loopback(self.addresses) {
            match self.address(NEW_ADDRESS, CREATE | EXCLUSIVE, address) {
                Ok(()) => put = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(HostError::Address { address, source }),
            }
        }
        Ok(put)
    }

    /// Removes all; what is not there is no error.
    ///
    /// # Errors
    /// [`HostError`], naming what could not be removed.
    pub(crate) fn remove(&mut self) -> Result<(), HostError> {
        let cidr = self.addresses.services;
        let removed =
            on_loopback(self.addresses).map(|address| match self.address(DELETE_ADDRESS, 0, address) {
                Err(source) if source.kind() != io::ErrorKind::AddrNotAvailable => {
                    Err(HostError::Address { address, source })
                }
                _ => Ok(()),
            });
        let route = match self.route(DELETE_ROUTE, 0) {
            Err(source) if source.raw_os_error() != Some(NO_ROUTE) => Err(HostError::Route { cidr, source }),
            _ => Ok(()),
        };
        removed.into_iter().chain([route]).collect()
    }

    fn address(&mut self, kind: u16, flags: u16, address: Ipv4Addr) -> io::Result<()> {
        let mut fixed: [u8; ADDRESS_FIXED] = [AF_INET, 32, 0, SCOPE_HOST, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&LOOPBACK.to_ne_bytes());
        let octets = address.octets();
        self.tell(kind, flags, &fixed, |attrs| {
            attrs.bytes(IFA_LOCAL, &octets);
            attrs.bytes(IFA_ADDRESS, &octets);
        })
    }

    fn route(&mut self, kind: u16, flags: u16) -> io::Result<()> {
        let services = self.addresses.services;
        self.tell(kind, flags, &self.route_fixed(UNREACHABLE), |attrs| {
            attrs.bytes(RTA_DST, &services.network().octets());
        })
    }

    fn route_fixed(&self, kind: u8) -> [u8; ROUTE_FIXED] {
        [AF_INET, self.addresses.services.prefix_len(), 0, 0, TABLE_MAIN, STATIC, 0, kind, 0, 0, 0, 0]
    }

    fn tell(
        &mut self,
        kind: u16,
        flags: u16,
        fixed: &[u8],
        fill: impl FnOnce(&mut crate::netlink::Attrs<'_>),
    ) -> io::Result<()> {
        let mut request = self.socket.request();
        request.add(kind, flags | ACK, fixed, fill);
        self.socket.ask(&request, |_| None::<()>).map(|_| ())
    }

    /// Whether the route for the service range is the one that refuses.
    fn is_unreachable(&mut self) -> io::Result<bool> {
        let mut request = self.socket.request();
        let mut fixed = [0; ROUTE_FIXED];
        fixed[0] = AF_INET;
        request.add(GET_ROUTE, DUMP, &fixed, |_| ());
        let services = self.addresses.services;
        let routes = self.socket.ask(&request, |message: Message<'_>| {
            let [_, prefix, _, _, table, _, _, kind, ..] = *message.body else { return None };
            let destination = message.attributes(ROUTE_FIXED).get(RTA_DST)?;
            let same = prefix == services.prefix_len()
                && table == TABLE_MAIN
                && destination == services.network().octets();
            same.then_some(kind)
        })?;
        Ok(routes.contains(&UNREACHABLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Messages, messages};

    #[test]
    fn only_what_takes_away_ours_matters() {
        let addresses = Addresses {
            services: "247.0.0.0/8".parse().unwrap(),
            listener: [169, 254, 77, 54].into(),
            dns: [169, 254, 77, 53].into(),
        };
        let removes_ours = |kind, fixed: &[u8], attribute, octets: [u8; 4]| {
            let mut event = Messages::new(0);
            event.add(kind, 0, fixed, |attrs| attrs.bytes(attribute, &octets));
            messages(event.as_bytes()).any(|message| super::removes_ours(message, addresses))
        };
        let route = |prefix| [AF_INET, prefix, 0, 0, TABLE_MAIN, STATIC, 0, UNREACHABLE, 0, 0, 0, 0];
        assert!(removes_ours(DELETE_ROUTE, &route(8), RTA_DST, [247, 0, 0, 0]));
        assert!(!removes_ours(DELETE_ROUTE, &route(16), RTA_DST, [247, 0, 0, 0]));
        assert!(!removes_ours(DELETE_ROUTE, &route(8), RTA_DST, [10, 0, 0, 0]));
        assert!(!removes_ours(NEW_ROUTE, &route(8), RTA_DST, [247, 0, 0, 0]));
        assert!(removes_ours(DELETE_ADDRESS, &[0; ADDRESS_FIXED], IFA_LOCAL, [169, 254, 77, 54]));
        assert!(removes_ours(DELETE_ADDRESS, &[0; ADDRESS_FIXED], IFA_LOCAL, [169, 254, 77, 53]));
        assert!(!removes_ours(DELETE_ADDRESS, &[0; ADDRESS_FIXED], IFA_LOCAL, [169, 254, 77, 55]));
    }
}
