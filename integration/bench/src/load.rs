//! The load: a client and a server of our own, one thread and one epoll each, so that what is between them does most of the work.
//!
//! A request is [`REQUEST_BYTES`] long and says how long the answer is to be. Each runs as a process of its own, `bench load …` and
//! `bench serve …`, in its own namespace.

mod client;
mod run;
mod server;

pub use client::client;
pub use run::{Load, Measured, Mode};
pub use server::serve;

/// The port that every server of the benchmark has.
pub const PORT: u16 = 9000;
/// As long as a small HTTP request.
const REQUEST_BYTES: usize = 64;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Request {
    /// Bytes of the answer; `u64::MAX` never ends.
    bytes: u64,
    /// Bytes of each of the server's sends at the most.
    piece: u32,
    /// The server closes after the answer.
    close: bool,
}

impl Request {
    fn encode(self) -> [u8; REQUEST_BYTES] {
        let mut wire = [0; REQUEST_BYTES];
        wire[..8].copy_from_slice(&self.bytes.to_be_bytes());
        wire[8..12].copy_from_slice(&self.piece.to_be_bytes());
        wire[12] = self.close.into();
        wire
    }

    fn decode(wire: [u8; REQUEST_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, close, ..] = wire;
        Self {
            bytes: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            piece: u32::from_be_bytes([i, j, k, l]).max(1),
            close: close == 1,
        }
    }
}
