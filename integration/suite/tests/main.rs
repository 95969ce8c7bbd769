//! Tests on real parts. They need root; see CONTRIBUTING.md.

mod any_moment;
mod bad_input;
mod bystander;
mod common;
mod demo;
mod dns;
mod docker_only;
mod docs;
mod doors;
mod explain;
mod grpc;
mod gvisor;
mod instances;
mod kills;
mod networks;
mod newcomers;
#[cfg(feature = "nomad")]
mod nomad;
mod orders;
mod resolv;
mod sources;
mod story;
mod strangers;
mod tenants;
mod testbed;
mod truth;
mod udp;
mod upgrades;
