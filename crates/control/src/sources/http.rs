//! Asking an HTTP API of Consul's kind, which Nomad's is too: one client, one set of rules for blocking queries, one loop.

mod address;
mod client;
pub(super) mod pace;
mod settings;
mod turns;
pub(super) mod watch;

pub(super) use address::Address;
pub use address::Place;
pub(super) use client::{Answer, Client};
pub(super) use settings::{Dialect, Settings, Token, flag, variable};
pub(super) use turns::Turns;
