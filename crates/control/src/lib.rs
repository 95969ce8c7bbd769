//! control: observes Consul, Nomad and Docker, plans, and pushes desired state to the agents of this host.
//!
//! ```text
//! sources ─ observe ─▶ plan (pure) ─ delta ─▶ push (pure core) ─▶ agents
//! ```

#![forbid(unsafe_code)]

pub mod agent;
pub mod app;
pub mod bridge_ports;
pub mod config;
pub mod core;
pub mod doors;
mod multimap;
pub mod networks;
pub mod observe;
pub mod plan;
pub mod push;
pub mod resolv_conf;
pub mod service;
pub mod source_health;
pub mod sources;
mod tag;
mod view;
