//! What can go wrong here.

use std::{io, net::SocketAddrV4};

use rustix::io::Errno;
use thiserror::Error;

/// Why the proxy, or one of its listeners, can't work.
#[derive(Debug, Error)]
pub enum ProxyError {
    /// A listener's socket could not be bound.
    #[error("can't listen on {address}: {source}: check that nothing else listens there")]
    Listen {
        /// The address.
        address: SocketAddrV4,
        /// What the system said.
        source: io::Error,
    },
    /// Another listener of this proxy has the address.
    #[error("can't listen on {address}: listener `{owner}` has that address: give each listener its own")]
    AddressTaken {
        /// The address.
        address: SocketAddrV4,
        /// The listener that has it.
        owner: String,
    },
    /// No descriptor is left for one more listener.
    #[error(
        "all {limit} descriptors are in use or kept for open connections: raise the limit (ulimit -n, LimitNOFILE)"
    )]
    Descriptors {
        /// Descriptors that the proxy may use.
        limit: u64,
    },
    /// The descriptor limit leaves no room for connections.
    #[error(
        "the descriptor limit is {limit}, and at least {needed} are needed: raise it (ulimit -n, LimitNOFILE)"
    )]
    DescriptorLimit {
        /// The limit.
        limit: u64,
        /// The least that works.
        needed: u64,
    },
    /// A worker could not be set up.
    #[error("can't start a worker: {source}")]
    Worker {
        /// What the system said.
        source: io::Error,
    },
    /// A worker thread is gone.
    #[error("a worker ended unexpectedly: {reason}")]
    WorkerDied {
        /// How.
        reason: String,
    },
}

impl ProxyError {
    pub(crate) fn listen(address: SocketAddrV4, errno: Errno) -> Self {
        Self::Listen { address, source: errno.into() }
    }
}
