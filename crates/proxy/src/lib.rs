//! Steppe's proxy: listens for each service, balances connections over its endpoints.
//!
//! Two halves. The *data plane* ([`worker`](crate::worker)) is a few threads, each with an epoll instance of its own, which
//! accept, connect and copy; nothing on a connection's way takes a lock. The *control side* is one tokio thread that takes
//! desired state ([`agent`](crate::agent)) and answers questions ([`grpc`](crate::grpc)). They share [`Service`](crate::service)s, whose
//! contents are swapped whole, and the workers' inboxes.

#![forbid(unsafe_code)]

mod agent;
pub mod app;
mod balance;
pub mod config;
mod copy;
mod drain;
mod error;
mod flows;
mod grpc;
mod limits;
mod proxy_protocol;
mod service;
mod socket;
mod watch;
mod worker;

pub use error::ProxyError;
