//! dns as it is: the real binary in a network namespace of the test's own, a real unix socket and Sync stream, real questions,
//! and resolvers of the test's own. Root is needed (or CAP_SYS_ADMIN and CAP_NET_ADMIN); without it every test fails and says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod control;
mod draining;
mod forwarding;
mod limits;
mod names;
mod net;
mod people;
mod process;
mod refusals;
mod tcp;
mod upstream;
