//! The agent on the real kernel, in network namespaces of the tests' own: what traffic does, and what `nft list` says.
//! Root is needed (or CAP_SYS_ADMIN and CAP_NET_ADMIN); without it every test fails and says so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod agent;
mod balance;
mod control;
mod dns;
mod frames;
mod grants;
mod keep;
mod leaving;
mod load;
mod net;
mod networks;
mod places;
mod ports;
mod published;
mod refusals;
mod resilience;
mod server;
mod spoofing;
mod takeover;
mod udp;
