//! The sources of facts: each watches one system, tells what it sees, and outlives that system's failures.

mod backoff;
mod condition;
mod consul;
mod docker;
mod error;
#[cfg(test)]
mod fake;
mod http;
mod nomad;
mod text;
mod warn_once;

use std::future::Future;

use tokio::sync::mpsc;

pub(crate) use backoff::Backoff;
pub use consul::{ConsulConfig, ConsulSource};
pub use docker::{DockerConfig, DockerSource, Reread};
pub(crate) use docker::{answer, connect, is_missing};
pub use error::SourceError;
pub use http::Place;
pub use nomad::{NomadConfig, NomadInputs, NomadSource};

pub(crate) use text::first_line;

use crate::observe::{Observation, SourceName};

/// Something that tells facts.
///
/// Every source keeps these rules, so that who listens need not know which one it is:
/// * Its first facts are a full listing; [`Observation::Live`] follows them.
/// * A failure is told once, as [`Observation::Failed`], and takes nothing back; the source tries again by itself,
///   and tells [`Observation::Live`] after the listing that made up for it.
/// * What cannot be read is a failure, never an empty listing.
pub trait Source: Send + 'static {
    /// Which one it is.
    fn name(&self) -> SourceName;

    /// Tells facts to `sink` until the future is dropped or nobody listens any more.
    fn run(self, sink: mpsc::Sender<Observation>) -> impl Future<Output = ()> + Send;
}

/// Nobody listens any more: the source may end.
#[derive(Debug)]
struct Unheard;

impl<T> From<mpsc::error::SendError<T>> for Unheard {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}
