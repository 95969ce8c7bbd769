//! From the observed world to desired state. Pure: no I/O; the time is an argument.
//!
//! [`Planner`] takes observations in and re-plans only what they touch: the containers themselves, and the service names
//! that they or the catalogue's change concern. The cost of a change does not depend on how much else is known.

mod allocate;
mod allocs;
mod claims;
mod dial;
mod locate;
mod names;
mod networks;
mod planner;
mod ports;
mod provider;
mod registered;
mod service;
mod settings;
mod tenants;
mod workload;

pub use allocate::Allocator;
pub(crate) use allocate::spread;
pub use planner::{Attached, Delta, Planned, PlannedPort, PlannedService, Planner, meant, workload_id};
pub use ports::{BridgePort, NoPort, PortChange};
pub use provider::Provider;
pub use service::{allowed, path};
pub use settings::Path;
pub use workload::{Asked, Workload, alloc_of, group_of, task_of};

use std::sync::Arc;

use clap::ValueEnum;
use ipnet::Ipv4Net;

use crate::observe::Alloc;

/// What an operator chose.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether every container is Steppe's concern, and not those alone that have to do with it.
    pub guard_all: bool,
    /// Where the addresses of users' networks are from.
    pub user_cidr: Ipv4Net,
    /// What says which user a workload of Nomad's belongs to.
    pub user_from: UserFrom,
}

/// What says which user a workload of Nomad's belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum UserFrom {
    /// Its namespace: who may run jobs in it is the business of Nomad's ACLs.
    Namespace,
    /// `steppe_user` in its job's meta, else its namespace: the authors of jobs are trusted.
    Meta,
    /// The label `steppe.user` of its containers, else its namespace: the same.
    Label,
}

impl UserFrom {
    /// The user of an allocation as written, and where.
    #[must_use]
    pub fn of(self, alloc: &Alloc) -> (&Arc<str>, &'static str) {
        let named = match self {
            Self::Namespace => None,
            Self::Meta => alloc.user_in_meta.as_ref().map(|user| (user, "meta of its job")),
            Self::Label => alloc.user_in_labels.as_ref().map(|user| (user, "label of its containers")),
        };
        named.unwrap_or((&alloc.namespace, "namespace of its allocation"))
    }
}

/// A piece of input that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ignored {
    /// Where it was found.
    pub origin: Arc<str>,
    /// The text as written.
    pub text: Arc<str>,
    /// What is wrong with it and what is expected.
    pub reason: Arc<str>,
}

impl Ignored {
    /// `reason` says what is wrong and what is expected. Whoever wrote the text must not write lines of our log.
    #[must_use]
    pub fn new(origin: &str, text: impl AsRef<str>, reason: impl AsRef<str>) -> Self {
        let [origin, text, reason] = [origin, text.as_ref(), reason.as_ref()].map(on_one_line);
        Self { origin, text, reason }
    }
}

fn on_one_line(text: &str) -> Arc<str> {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
}
