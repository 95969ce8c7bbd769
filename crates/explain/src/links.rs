//! The links from a workload to a service, one file each. The first broken one is the answer's reason.

mod address;
mod allow;
mod endpoint;
mod grant;
mod listener;
mod name;
mod network;
mod port;
mod rule;

use crate::{Link, case::Case};

pub(crate) use address::judge as address;
pub(crate) use grant::of_the_host;

/// A link looks at its own piece of the case; `None` when the case has no such piece.
pub(crate) type Judge = for<'a> fn(&Case<'a>) -> Option<Link>;

/// In the order of a packet's way.
pub(crate) const LINKS: [Judge; 9] = [
    network::judge,
    grant::judge,
    allow::judge,
    name::judge,
    port::judge,
    address::judge,
    rule::judge,
    listener::judge,
    endpoint::judge,
];
