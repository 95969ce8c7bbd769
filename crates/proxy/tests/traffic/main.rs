//! The proxy as it is: the real binary, a real unix socket and Sync stream, real connections. On loopback alone, each test with
//! addresses of its own, so that they run side by side.

#![allow(clippy::unwrap_used, reason = "a test may assume what it set up")]

mod balancing;
mod bytes;
mod control;
mod desired;
mod dnat;
mod draining;
mod grants;
mod limits;
mod lives;
mod net;
mod process;
mod udp;
mod watching;
