//! Bridge ports that send a frame back where it came from (*hairpin mode*). Where bridged packets pass the kernel's hooks
//! (br_netfilter, which Docker turns on) a packet that is translated to an address behind the same bridge is not routed but
//! bridged, and a bridge does not send a frame back by the port that it came by, unless the port is in this mode. So a client
//! that is an endpoint of a service that it dials needs it.

use std::io;

use super::query::{GET_LINK, LINK_FIXED, link_fixed};
use crate::netlink::{ACK, DUMP, Message, ROUTE, Socket};

/// `RTM_SETLINK`.
const SET_LINK: u16 = 19;
const IFLA_PROTINFO: u16 = 12;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
/// `IFLA_BRPORT_MODE`: 1 in hairpin mode.
const PORT_MODE: u16 = 4;
const AF_BRIDGE: u8 = 7;
/// The alias of a port that is in this mode by our doing, so that `--purge` finds it, and people know who did it.
const ALIAS: &str = "steppe: hairpin";

/// A port as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Port {
    ifindex: u32,
    is_on: bool,
    is_ours: bool,
}

/// Turns the mode on and off.
pub(crate) struct Hairpin(Socket);

impl Hairpin {
    /// Opens a socket for it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open() -> io::Result<Self> {
        Socket::open(ROUTE).map(Self)
    }

    /// Puts a port into this mode. Gives whether it was not.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn turn_on(&mut self, ifindex: u32) -> io::Result<bool> {
        let mut request = self.0.request();
        request.add(GET_LINK, ACK, &link_fixed(ifindex), |_| ());
        if self.0.ask(&request, read)?.iter().all(|port| port.is_on) {
            return Ok(false);
        }
        // The alias first: what is on shall be found.
        self.name(ifindex, ALIAS)?;
        self.set(ifindex, 1)?;
        Ok(true)
    }

    /// Turns it off wherever it was turned on by us.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn turn_all_off(&mut self) -> io::Result<()> {
        let mut request = self.0.request();
        request.add(GET_LINK, DUMP, &link_fixed(0), |_| ());
        for Port { ifindex, .. } in self.0.ask(&request, read)?.into_iter().filter(|port| port.is_ours) {
            self.set(ifindex, 0)?;
            self.name(ifindex, "")?;
        }
        Ok(())
    }

    /// As `bridge link set dev … hairpin on|off` does.
    fn set(&mut self, ifindex: u32, mode: u8) -> io::Result<()> {
        let mut fixed = link_fixed(ifindex);
        fixed[0] = AF_BRIDGE;
        let mut request = self.0.request();
        request.add(SET_LINK, ACK, &fixed, |attrs| {
            attrs.nest(IFLA_PROTINFO, |attrs| attrs.bytes(PORT_MODE, &[mode]));
        });
        self.0.ask(&request, |_| None::<()>).map(drop)
    }

    fn name(&mut self, ifindex: u32, alias: &str) -> io::Result<()> {
        let mut request = self.0.request();
        request.add(SET_LINK, ACK, &link_fixed(ifindex), |attrs| attrs.text(IFLA_IFALIAS, alias));
        self.0.ask(&request, |_| None::<()>).map(drop)
    }
}

/// `None` for what is no port of a bridge.
fn read(message: Message<'_>) -> Option<Port> {
    let attrs = message.attributes(LINK_FIXED);
    let mode = attrs.nested(IFLA_LINKINFO)?.nested(IFLA_INFO_SLAVE_DATA)?.get(PORT_MODE)?.first()?;
    Some(Port {
        ifindex: message.body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?,
        is_on: *mode == 1,
        is_ours: attrs.text(IFLA_IFALIAS) == Some(ALIAS),
    })
}
