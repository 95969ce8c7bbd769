//! Asking an HTTP API of Consul's kind, which Nomad's is too: one client, one set of rules for blocking queries.

mod address;
mod client;
pub(super) mod pace;
mod settings;

pub(super) use address::Address;
pub(super) use client::{Answer, Client};
pub(super) use settings::{Dialect, Settings, Token, flag, variable};
