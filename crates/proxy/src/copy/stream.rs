//! What `pump` needs of a socket.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
    pipe::{SpliceFlags, splice},
};

use super::{PIPE_BYTES, Pipe};

/// A non-blocking byte stream. Each of the first three methods is the system call of that name; the others are splice(2).
pub(crate) trait Stream {
    /// Reads into `buffer`; 0 is the end of the stream.
    fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// Writes the head of `bytes`; with `more` the end of the stream is to follow at once, in the same packet (MSG_MORE).
    fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno>;
    /// Ends the stream in the direction away from here (FIN).
    fn shutdown(&self) -> Result<(), Errno>;
    /// Moves what has come into a pipe, which is empty: so it is the stream, not the pipe, that AGAIN speaks of. 0 is the end.
    fn fill(&self, pipe: &Pipe) -> Result<usize, Errno>;
    /// Moves up to `bytes` out of a pipe.
    fn drain(&self, pipe: &Pipe, bytes: usize) -> Result<usize, Errno>;
}

impl Stream for OwnedFd {
    fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(self, buffer, RecvFlags::empty()).map(|(read, _)| read)
    }

    fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let more = if more { SendFlags::MORE } else { SendFlags::empty() };
        send(self, bytes, SendFlags::NOSIGNAL | more)
    }

    fn shutdown(&self) -> Result<(), Errno> {
        shutdown(self, Shutdown::Write)
    }

    fn fill(&self, pipe: &Pipe) -> Result<usize, Errno> {
        splice(self, None, &pipe.writer, None, PIPE_BYTES, SPLICE)
    }

    fn drain(&self, pipe: &Pipe, bytes: usize) -> Result<usize, Errno> {
        splice(&pipe.reader, None, self, None, bytes, SPLICE)
    }
}

const SPLICE: SpliceFlags = SpliceFlags::NONBLOCK.union(SpliceFlags::MOVE);
