//! Cuts the connections of revoked grants, on a thread of its own: the answer to control does not wait for it.

use std::{io, sync::mpsc::Receiver};

use steppe_model::{Protocol, VirtualPort};
use tracing::{debug, warn};

use crate::{
    firewall::{Revoked, Shared},
    netlink::{NETFILTER, Socket, conntrack},
};

/// Cuts what comes, until nobody can revoke any more.
///
/// # Errors
/// The system's, when no socket can be opened.
pub(crate) fn cut(revoked: &Receiver<Revoked>, firewall: &Shared) -> io::Result<()> {
    let mut socket = Socket::open(NETFILTER)?;
    while let Ok(mut pairs) = revoked.recv() {
        // Listing is what costs: one for all that have come.
        pairs.extend(revoked.try_iter().flatten());
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
    Ok(())
}
