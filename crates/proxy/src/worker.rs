//! The data plane: threads that accept, connect and copy, each with an epoll instance and a slab of connections of its own.
//!
//! Everything is edge-triggered, and each socket is registered once, for everything: what the kernel said is remembered
//! with the connection, and no further system call is needed to change one's mind.

mod accept;
mod command;
mod connect;
mod connection;
mod datagrams;
mod deadlines;
mod event_loop;
mod flow;
mod keep_alive;
mod relay;
mod seldom;
mod shared;
mod token;
mod verdict;

pub(crate) use command::{Command, ListenKey, Workers};
pub(crate) use shared::Shared;
