//! Asks rtnetlink (rtnetlink(7), linux/if_link.h, linux/if_addr.h) about links on this host and in containers. CAP_NET_ADMIN is
//! enough to look into another network namespace by the id it has here (`IFLA_TARGET_NETNSID`, Linux 4.20).

use std::{io, net::Ipv4Addr};

use steppe_model::Mac;

use super::{Listing, Seen};
use crate::{
    netlink::{ACK, DUMP, Message, ROUTE, Socket},
    ruleset::IfName,
};

pub(super) const NEW_LINK: u16 = 16;
pub(super) const DELETE_LINK: u16 = 17;
pub(super) const GET_LINK: u16 = 18;
const GET_ADDRESS: u16 = 22;

/// `struct ifinfomsg`: family, type, index, flags, change.
pub(super) const LINK_FIXED: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, index.
const ADDRESS_FIXED: usize = 8;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFA_LOCAL: u16 = 2;
const IFA_TARGET_NETNSID: u16 = 10;
const AF_INET: u8 = 2;

/// What a link message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// `AF_BRIDGE` in what a bridge says of its ports, else 0.
    pub(super) family: u8,
    pub(super) ifindex: u32,
    pub(super) name: IfName,
    pub(super) kind: LinkKind,
    pub(super) master: Option<u32>,
    /// The other end of a veth.
    pub(super) peer: Option<Peer>,
}

/// An interface index, in the namespace with this id (`None`: in this one).
type Peer = (u32, Option<u32>);

/// The kinds that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkKind {
    Bridge,
    Veth,
    Other,
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK`.
pub(super) fn read_link(message: Message<'_>) -> Option<Link> {
    let attrs = message.attributes(LINK_FIXED);
    let ifindex = message.body.get(4..8)?.try_into().ok().map(u32::from_ne_bytes)?;
    let kind = match attrs.nested(IFLA_LINKINFO).and_then(|info| info.text(IFLA_INFO_KIND)) {
        Some("bridge") => LinkKind::Bridge,
        Some("veth") => LinkKind::Veth,
        _ => LinkKind::Other,
    };
    Some(Link {
        family: *message.body.first()?,
        ifindex,
        name: IfName::new(attrs.text(IFLA_IFNAME)?)?,
        kind,
        master: attrs.ne32(IFLA_MASTER),
        // 0 while the pair is being deleted.
        peer: attrs
            .ne32(IFLA_LINK)
            .filter(|index| *index != 0)
            .map(|index| (index, attrs.ne32(IFLA_LINK_NETNSID))),
    })
}

pub(super) fn link_fixed(ifindex: u32) -> [u8; LINK_FIXED] {
    let mut fixed = [0; LINK_FIXED];
    fixed[4..8].copy_from_slice(&ifindex.to_ne_bytes());
    fixed
}

/// A socket for questions.
pub(crate) struct Query(Socket);

impl Query {
    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open(ROUTE)?;
        // Without it the kernel ignores the interface and the namespace in a question for addresses.
        socket.raw().set_netlink_get_strict_chk(true)?;
        Ok(Self(socket))
    }

    /// All links of this host.
    pub(super) fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut request = self.0.request();
        request.add(GET_LINK, DUMP, &link_fixed(0), |_| ());
        self.0.ask(&request, read_link)
    }

    /// The bridges and the ports that there are now.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn list(&mut self) -> io::Result<Listing> {
        let links = self.links()?;
        let bridges: Vec<_> = links
            .iter()
            .filter(|link| link.kind == LinkKind::Bridge)
            .map(|link| (link.ifindex, link.name))
            .collect();
        let of_bridge = |link: &&Link| {
            link.kind == LinkKind::Veth && bridges.iter().any(|(index, _)| link.master == Some(*index))
        };
        let ports = links.iter().filter(of_bridge).filter_map(|link| self.look(link)).collect();
        Ok(Listing { bridges, ports })
    }

    /// A port with what is at its other end now.
    pub(super) fn look(&mut self, link: &Link) -> Option<Seen> {
        let bridge = link.master?;
        let mut seen = Seen { ifindex: link.ifindex, name: link.name, bridge, mac: None, ips: Vec::new() };
        // An end that is moving from one namespace to another can't be found for a moment; it is looked at again.
        if let Some(peer) = link.peer
            && let Ok(Some(mac)) = self.mac(link.ifindex, peer)
        {
            seen.mac = Some(mac);
            let ips = self.addresses(peer).unwrap_or_default();
            // Still the same end: its index there may be another interface's by now.
            if let Ok(Some(same)) = self.mac(link.ifindex, peer)
                && same == mac
            {
                seen.ips = ips;
            }
        }
        Some(seen)
    }

    /// The link with this index now; `None` when it is gone.
    pub(super) fn link(&mut self, ifindex: u32) -> Option<Link> {
        let mut request = self.0.request();
        request.add(GET_LINK, ACK, &link_fixed(ifindex), |_| ());
        self.0.ask(&request, read_link).ok()?.pop()
    }

    /// The hardware address of the other end of `port`, if that is what is found there.
    fn mac(&mut self, port: u32, (index, namespace): Peer) -> io::Result<Option<Mac>> {
        let mut request = self.0.request();
        request.add(GET_LINK, ACK, &link_fixed(index), |attrs| {
            if let Some(namespace) = namespace {
                attrs.ne32(IFLA_TARGET_NETNSID, namespace);
            }
        });
        let macs = self.0.ask(&request, |message| {
            let attrs = message.attributes(LINK_FIXED);
            let mac = attrs.get(IFLA_ADDRESS)?.try_into().ok().map(Mac)?;
            (attrs.ne32(IFLA_LINK) == Some(port)).then_some(mac)
        })?;
        Ok(macs.into_iter().next())
    }

    fn addresses(&mut self, (index, namespace): Peer) -> io::Result<Vec<Ipv4Addr>> {
        let mut fixed = [0; ADDRESS_FIXED];
        fixed[0] = AF_INET;
        fixed[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut request = self.0.request();
        request.add(GET_ADDRESS, DUMP, &fixed, |attrs| {
            if let Some(namespace) = namespace {
                attrs.ne32(IFA_TARGET_NETNSID, namespace);
            }
        });
        self.0.ask(&request, |message| {
            let octets: [u8; 4] = message.attributes(ADDRESS_FIXED).get(IFA_LOCAL)?.try_into().ok()?;
            Some(Ipv4Addr::from(octets))
        })
    }
}
