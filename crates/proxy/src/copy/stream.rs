//! What `pump` needs of a socket.

use std::os::fd::OwnedFd;

use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown},
};

/// A non-blocking byte stream. Each method is the system call of that name.
pub(crate) trait Stream {
    /// Reads into `buffer`; 0 is the end of the stream.
    fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno>;
    /// Writes the head of `bytes`.
    fn send(&self, bytes: &[u8]) -> Result<usize, Errno>;
    /// Ends the stream in the direction away from here (FIN).
    fn shutdown(&self) -> Result<(), Errno>;
}

impl Stream for OwnedFd {
    fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        recv(self, buffer, RecvFlags::empty()).map(|(read, _)| read)
    }

    fn send(&self, bytes: &[u8]) -> Result<usize, Errno> {
        send(self, bytes, SendFlags::NOSIGNAL)
    }

    fn shutdown(&self) -> Result<(), Errno> {
        shutdown(self, Shutdown::Write)
    }
}
