//! Cuts the connections of revoked grants, on a thread of its own: the answer to control does not wait for it.

use std::{
    collections::HashMap,
    io,
    net::Ipv4Addr,
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
    // A pair that is granted and revoked again waits anew.
    let mut waiting: HashMap<(Ipv4Addr, Ipv4Addr), Instant> = HashMap::new();
    let wait = |waiting: &mut HashMap<_, _>, (at, pairs): (Instant, Revoked)| {
        waiting.extend(pairs.into_iter().map(|pair| (pair, at)));
    };
    loop {
        let Some(first) = waiting.values().min() else {
            let Ok(next) = revoked.recv() else { return Ok(()) };
            wait(&mut waiting, next);
            continue;
        };
        thread::sleep(GRACE.saturating_sub(first.elapsed()));
        let now = Instant::now();
        // Listing is what costs: one for all whose time has come.
        let matches = |flow: &conntrack::Flow| {
            let pair = (flow.client, flow.server);
            if !waiting.contains_key(&pair) || is_allowed(firewall, flow) {
                return false;
            }
            // Asked only now: it may have been revoked a moment ago, and then this was told before.
            revoked.try_iter().for_each(|next| wait(&mut waiting, next));
            waiting.get(&pair).is_some_and(|at| *at + GRACE <= now)
        };
        match conntrack::delete(&mut socket, matches) {
            Ok(flows) => debug!(flows, "connections of revoked grants cut"),
            Err(error) => {
                warn!(%error, "connections of revoked grants could not be cut at once: their next packet does it")
            }
        }
        waiting.retain(|_, at| *at + GRACE > now);
    }
}

fn is_allowed(firewall: &Shared, flow: &conntrack::Flow) -> bool {
    let protocol = match flow.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        // Never translated by us.
        _ => return true,
    };
    let port = VirtualPort::new(protocol, flow.server_port);
    firewall.lock().state.allows(flow.client, flow.server, port)
}
