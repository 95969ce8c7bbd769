//! Why a workload may or may not reach a service, link by link.
//!
//! [`gather`] asks control and the agents of this host, each of which may be down; [`judge`] decides, purely, from what they
//! answered; [`render`] says it in words. The links are one file each, in `links/`: a new one is a file and a line there.

#![forbid(unsafe_code)]

mod asker;
mod away;
mod case;
mod client;
mod doors;
mod explanation;
mod facts;
mod judge;
mod links;
mod local;
mod names;
mod readiness;
mod recover;
mod render;
mod sibling;
mod target;
mod text;

pub use asker::{Asker, Unknown, asker};
pub use away::{Answer, Away, AwayKind};
pub use client::{DEADLINE, DNS, Declined, Suite};
pub use doors::name as door_name;
pub use explanation::{Explanation, Fault, Link, State, Verdict};
pub use facts::{Addresses, Facts, Firewall, Plan, Query, Told, gather};
pub use judge::judge;
pub use local::addresses as local_addresses;
pub use readiness::readiness;
pub use recover::path_of;
pub use render::{Paint, Style, render};
pub use text::{age, clean, key, port, socket_address};
