//! Docker keeps its bridges apart: it drops what is forwarded from one to another. Where a grant leads from one bridge of this
//! host to another on the kernel path, the packets are marked, and a rule in DOCKER-USER, which is Docker's invitation to put
//! one's own, lets what is marked pass. It is put once the kernel path leads anywhere, and stays until `--purge`.

use std::{
    io,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use tracing::{info, warn};

use crate::{
    firewall::Shared,
    netlink::{
        Socket,
        docker_user::{self, Found},
    },
};

/// How often somebody may have removed the rule, or Docker may have started, before it is noticed. A look is two questions to
/// the kernel, some ten microseconds.
const EVERY: Duration = Duration::from_secs(3);

/// What there is of the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The kernel path leads nowhere yet.
    NotNeeded,
    /// There is no chain for it in nftables.
    NoChain,
    /// It is in the chain.
    InPlace,
    /// The kernel did not let us look or put it.
    Failed,
}

/// Sees to the rule.
pub(crate) struct DockerUser {
    socket: Socket,
    standing: Standing,
}

impl DockerUser {
    /// Opens a socket for it.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: docker_user::open()?, standing: Standing::NotNeeded })
    }

    /// Puts the rule where it is missing, from the first time on that it is `needed`.
    pub(crate) fn ensure(&mut self, needed: bool) -> Standing {
        if !needed && self.standing == Standing::NotNeeded {
            return self.standing;
        }
        let before = self.standing;
        self.standing = match self.put() {
            Ok(standing) => standing,
            Err(error) => {
                if before != Standing::Failed {
                    warn!(%error, "the rule in Docker's chain DOCKER-USER could not be looked at or put");
                }
                Standing::Failed
            }
        };
        if self.standing == Standing::NoChain && before != Standing::NoChain {
            info!(
                "nftables has no chain DOCKER-USER (no Docker, or one with legacy iptables): on the kernel path, what leads \
                 to another bridge of this host passes only where nothing else drops it"
            );
        }
        self.standing
    }

    fn put(&mut self) -> io::Result<Standing> {
        match docker_user::look(&mut self.socket)? {
            Found::NoChain => return Ok(Standing::NoChain),
            Found::Rules(rules) if !rules.is_empty() => return Ok(Standing::InPlace),
            Found::Rules(_) => docker_user::insert(&mut self.socket)?,
        }
        if self.standing == Standing::InPlace {
            warn!("somebody removed the rule from Docker's chain DOCKER-USER: it is put back");
        } else {
            info!("the rule is in Docker's chain DOCKER-USER");
        }
        Ok(Standing::InPlace)
    }
}

/// Sees to the rule at every wake-up and every few seconds, until nobody can wake it any more.
pub(crate) fn follow(mut rule: DockerUser, wake: &Receiver<()>, firewall: &Shared) {
    loop {
        match wake.recv_timeout(EVERY) {
            Ok(()) => wake.try_iter().for_each(drop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let needed = firewall.lock().state.has_endpoints();
        let standing = rule.ensure(needed);
        firewall.lock().docker_user = standing;
    }
}

/// Removes our rule, and no other.
///
/// # Errors
/// The kernel's.
pub(crate) fn remove() -> io::Result<()> {
    let mut socket = docker_user::open()?;
    let Found::Rules(rules) = docker_user::look(&mut socket)? else { return Ok(()) };
    rules.into_iter().try_for_each(|handle| docker_user::delete(&mut socket, handle))
}
