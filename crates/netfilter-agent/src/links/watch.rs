//! Follows the kernel's events about links, and about the address and the route that the agent put.

use std::{
    collections::HashMap,
    io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    Listing, Query, Seen,
    query::{DELETE_LINK, Link, LinkKind, NEW_LINK, read_link},
};
use crate::{
    host,
    netlink::{Message, ROUTE, Socket, is_overrun},
    ruleset::{Addresses, IfName},
};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV4_ROUTE`.
const GROUPS: [u32; 3] = [1, 5, 7];
/// The first look again at a port whose other end has no address yet. Addresses given in a container's namespace cause no
/// event here, and CNI gives them after the link is up.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// Each look waits twice as long as the one before: eleven of them are 4 s.
const LOOKS: u32 = 11;
/// `AF_BRIDGE`: a bridge speaks of its port, not of the device.
const AF_BRIDGE: u8 = 7;

/// Who wants to know.
pub(crate) trait Watcher {
    /// A bridge there is, by this name.
    fn bridge(&mut self, ifindex: u32, name: IfName);
    /// A port as it is now. Gives whether it is still to be looked at: something of it is not known yet.
    fn port(&mut self, seen: Seen) -> bool;
    /// An interface that is gone or is no port any more.
    fn gone(&mut self, ifindex: u32);
    /// Everything there is.
    fn relist(&mut self, listing: Listing);
    /// Whether this interface is a bridge.
    fn is_bridge(&self, ifindex: u32) -> bool;
    /// The agent's own address or route was removed.
    fn host_changed(&mut self);
}

/// Listens. Open it before the first listing, so that nothing is missed between the two.
pub(crate) struct Events {
    socket: Socket,
    addresses: Addresses,
}

impl Events {
    /// Opens it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open(addresses: Addresses) -> io::Result<Self> {
        let socket = Socket::open(ROUTE)?;
        for group in GROUPS {
            socket.raw().add_membership(group)?;
        }
        Ok(Self { socket, addresses })
    }

    /// Follows events until the socket fails.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn follow(mut self, query: &mut Query, watcher: &mut impl Watcher) -> io::Result<()> {
        let mut looks = Looks::default();
        loop {
            if self.wait(looks.next())? {
                let addresses = self.addresses;
                let read = |message| read(message, addresses);
                let received = self.socket.receive();
                match received.map(|messages| messages.filter_map(read).collect::<Vec<_>>()) {
                    Ok(happenings) => {
                        for happening in happenings {
                            handle(happening, query, watcher, &mut looks);
                        }
                    }
                    // Events were lost; those that are left are older than what is listed now.
                    Err(error) if is_overrun(&error) => {
                        self.socket.clear()?;
                        watcher.relist(query.list()?);
                        watcher.host_changed();
                    }
                    Err(error) => return Err(error),
                }
            }
            for ifindex in looks.due() {
                match query.link(ifindex) {
                    Some(link) => handle(Happening::Link(link), query, watcher, &mut looks),
                    None => looks.stop(ifindex),
                }
            }
        }
    }

    /// Waits for an event, at the longest until then. Gives whether there is one.
    fn wait(&self, until: Option<Instant>) -> io::Result<bool> {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // Times here are seconds, far from overflowing.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        let raw = self.socket.raw().as_fd();
        match poll(&mut [PollFd::new(&raw, PollFlags::IN)], timeout.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

enum Happening {
    Link(Link),
    LinkGone(u32),
    HostChanged,
}

fn read(message: Message<'_>, addresses: Addresses) -> Option<Happening> {
    match message.kind {
        NEW_LINK => read_link(message).map(Happening::Link),
        DELETE_LINK => read_link(message).map(|link| Happening::LinkGone(link.ifindex)),
        _ => host::removes_ours(message, addresses).then_some(Happening::HostChanged),
    }
}

fn handle(happening: Happening, query: &mut Query, watcher: &mut impl Watcher, looks: &mut Looks) {
    match happening {
        Happening::HostChanged => watcher.host_changed(),
        Happening::LinkGone(ifindex) => {
            looks.stop(ifindex);
            watcher.gone(ifindex);
        }
        Happening::Link(link) if link.family == AF_BRIDGE => {}
        Happening::Link(link) if link.kind == LinkKind::Bridge => watcher.bridge(link.ifindex, link.name),
        Happening::Link(link) if !link.master.is_some_and(|master| watcher.is_bridge(master)) => {
            looks.stop(link.ifindex);
            watcher.gone(link.ifindex);
        }
        Happening::Link(link) if link.kind == LinkKind::Veth => {
            let Some(seen) = query.look(&link) else { return };
            if watcher.port(seen) {
                looks.again(link.ifindex);
            } else {
                looks.stop(link.ifindex);
            }
        }
        Happening::Link(_) => {}
    }
}

/// When to look again at which port.
#[derive(Default)]
struct Looks(HashMap<u32, (u32, Instant)>);

impl Looks {
    /// When the next look is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().filter(|(tries, _)| *tries < LOOKS).map(|(_, due)| *due).min()
    }

    fn due(&self) -> Vec<u32> {
        let now = Instant::now();
        let is_due = |(tries, due): &(u32, Instant)| *tries < LOOKS && *due <= now;
        self.0.iter().filter(|(_, look)| is_due(look)).map(|(ifindex, _)| *ifindex).collect()
    }

    fn again(&mut self, ifindex: u32) {
        let tries = self.0.get(&ifindex).map_or(0, |(tries, _)| (tries + 1).min(LOOKS));
        self.0.insert(ifindex, (tries, Instant::now() + FIRST_LOOK * 2_u32.pow(tries)));
    }

    fn stop(&mut self, ifindex: u32) {
        self.0.remove(&ifindex);
    }
}
