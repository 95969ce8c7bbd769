//! What all workers have in common.

use std::{sync::Arc, time::Duration};

use crate::{limits::Descriptors, watch::Ends};

/// What all workers have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) ends: Arc<Ends>,
    /// How long a connect to one endpoint may take.
    pub(crate) connect_timeout: Duration,
    /// How long a flow may go without a datagram.
    pub(crate) udp_idle_timeout: Duration,
}
