//! The kernel's side: messages, sockets, and what nf_tables and conntrack understand.

mod attr;
pub(crate) mod conntrack;
pub(crate) mod docker_user;
pub(crate) mod dump;
mod expr;
mod message;
pub(crate) mod monitor;
pub(crate) mod nftables;
mod rules;
mod socket;

pub(crate) use attr::Attrs;
#[cfg(test)]
pub(crate) use message::messages;
pub(crate) use message::{ACK, CREATE, DUMP, EXCLUSIVE, Message, Messages};
pub(crate) use socket::{Refusal, Socket, is_overrun};

/// `NETLINK_ROUTE`.
pub(crate) const ROUTE: isize = 0;
/// `NETLINK_NETFILTER`.
pub(crate) const NETFILTER: isize = 12;
