//! What can go wrong here.

use std::{io, net::SocketAddrV4};

use thiserror::Error;

/// Why dns can't work.
#[derive(Debug, Error)]
pub enum DnsError {
    /// The port is not for us.
    #[error(
        "can't listen on {address}: {source}: ports below 1024 need CAP_NET_BIND_SERVICE: setcap cap_net_bind_service+ep steppe-dns, or \
         AmbientCapabilities=CAP_NET_BIND_SERVICE"
    )]
    Privilege {
        /// The address.
        address: SocketAddrV4,
        /// What the system said.
        source: io::Error,
    },
    /// The port can't be had.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddrV4,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that answers over UDP is gone.
    #[error("the thread that answers questions ended unexpectedly: {reason}")]
    ThreadDied {
        /// How.
        reason: String,
    },
}

impl DnsError {
    pub(crate) fn listen(address: SocketAddrV4, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Privilege { address, source },
            _ => Self::Listen { address, source },
        }
    }
}
