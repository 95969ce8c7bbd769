//! Moving bytes, one direction at a time.
//!
//! A [`Flow`] remembers what an edge-triggered epoll said about its two sockets; [`pump`] moves as much as they allow. It
//! knows sockets only by [`Stream`], so that tests can drive it over made-up ones that split, delay and break at will.

//!
//! Most bytes are copied through the worker's one buffer. Where they come in bulk, they go through a [`Pipe`].

mod pipe;
mod pump;
mod stream;

pub(crate) use pipe::{PIPE_BYTES, Pipe, Pipes};
pub(crate) use pump::{Failure, Flow, Means, Outcome, pump};
pub(crate) use stream::Stream;

/// A worker's one buffer. With 128 KiB a bulk transfer costs half the CPU of one with 16 KiB, and more brings nothing.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;
/// What is used of it while slow peers make the worker keep too much: a page.
pub(crate) const SCARCE_BYTES: usize = 4 * 1024;
