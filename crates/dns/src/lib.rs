//! Steppe's dns: who asks decides what exists; the rest is forwarded.
//!
//! Questions over UDP are taken, looked up and answered by one thread ([`serve`](crate::serve)), many at a time, which waits for
//! nothing else.
//! What is not ours goes to the host's resolvers ([`forward`](crate::forward)) on the runtime's thread, which also carries TCP,
//! desired state ([`agent`](crate::agent)) and what people ask ([`grpc`](crate::grpc)). They share a [`Desk`](crate::desk), whose
//! zone is changed in place: a change costs what changed, and a question holds the lock for a lookup. The cores
//! ([`wire`](crate::wire), [`zone`](crate::zone)) do no I/O.

#![forbid(unsafe_code)]

mod agent;
pub mod app;
mod cache;
pub mod config;
mod counters;
mod desk;
mod error;
mod forward;
pub mod fuzz;
mod grpc;
mod limits;
mod serve;
mod watch;
mod wire;
mod zone;

pub use error::DnsError;
