//! The ports of this host's bridges, from the kernel: which there are, and what is at a port's other end.

mod hairpin;
mod query;
mod table;
mod watch;

pub(crate) use hairpin::Hairpin;
pub(crate) use query::Query;
pub(crate) use table::{Listing, PortChange, PortView, Ports, Seen};
pub(crate) use watch::{Events, Watcher};
