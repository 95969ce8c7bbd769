//! Steppe's words as types: names, service keys, the `connect_to` grammar and desired state.
//!
//! Everything here is pure: no I/O, no clock, no runtime. Wire types are in `steppe-api`, which converts at the border.

#![forbid(unsafe_code)]

mod desired;
mod grammar;
mod key;
mod name;
mod net;
pub mod resolv_conf;

pub use desired::{
    AskedName, Asker, Client, DoorMode, DoorName, Doors, Endpoint, Expose, Grant, InvalidDoor, Listener,
    Member, Network, PublishedPort, Resource, ResourceId, Route, ServicePort, Takeover, VirtualIp, Workload,
    WorkloadId,
};
pub use grammar::{GrantSpec, Malformed, parse_connect_to, parse_grant};
pub use key::{ListenerKey, ServiceKey, VirtualPort};
pub use name::{DnsName, InvalidName, ServiceName, Tag, UserName};
pub use net::{InvalidBlock, InvalidMac, Mac, Protocol, parse_block};
