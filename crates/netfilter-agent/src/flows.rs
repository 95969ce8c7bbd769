//! Cuts the connections of revoked grants, on a thread of its own: the answer to control does not wait for it.

use std::{
    collections::VecDeque,
    io,
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use steppe_model::{Protocol, VirtualPort};
use tracing::{debug, warn};

use crate::{
    firewall::{Revoked, Shared},
    netlink::{NETFILTER, Socket, conntrack},
};

/// How long an entry stays after its grant is gone. The proxy resets its connections at the same time, and a reset finds
/// the client only as long as the entry translates it: an idle client would wait for ever. Both ends shall see the
/// cut within a second.
const GRACE: Duration = Duration::from_millis(500);

/// Cuts what comes, until nobody can revoke any more.
///
/// # Errors
/// The system's, when no socket can be opened.
pub(crate) fn cut(revoked: &Receiver<(Instant, Revoked)>, firewall: &Shared) -> io::Result<()> {
    let mut socket = Socket::open(NETFILTER)?;
    let mut waiting: VecDeque<(Instant, Revoked)> = VecDeque::new();
    loop {
        let Some((first, _)) = waiting.front() else {
            let Ok(next) = revoked.recv() else { return Ok(()) };
            waiting.push_back(next);
            continue;
        };
        thread::sleep(GRACE.saturating_sub(first.elapsed()));
        waiting.extend(revoked.try_iter());
        // Listing is what costs: one for all whose time has come.
        let due = waiting.iter().take_while(|(at, _)| at.elapsed() >= GRACE).count();
        let pairs: Revoked = waiting.drain(..due).flat_map(|(_, pairs)| pairs).collect();
        let matches = |flow: &conntrack::Flow| {
            let protocol = match flow.protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                _ => return false,
            };
            pairs.contains(&(flow.client, flow.server)) && {
                let port = VirtualPort::new(protocol, flow.server_port);
                !firewall.lock().state.allows(flow.client, flow.server, port)
            }
        };
        match conntrack::delete(&mut socket, matches) {
            Ok(flows) => debug!(flows, "connections of revoked grants cut"),
            Err(error) => {
                warn!(%error, "connections of revoked grants could not be cut at once: their next packet does it")
            }
        }
    }
}
