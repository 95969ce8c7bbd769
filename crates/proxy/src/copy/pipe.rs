//! Pipes, through which the kernel moves bytes from socket to socket without copying them (splice(2)).
//!
//! Only flows in bulk use one, and only while it holds something: an idle connection has none.

use std::{os::fd::OwnedFd, sync::Arc};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use crate::limits::{Descriptors, Permit};

/// What a pipe holds: more brings nothing, and with less each transfer takes more calls. An unprivileged user gets 128 of
/// these (pipe(7), pipe-user-pages-soft).
pub(crate) const PIPE_BYTES: usize = 512 * 1024;
/// What one worker may have of them, whoever it runs as: 64 MiB of the kernel's memory.
const MOST: usize = 128;
/// Its two ends.
const DESCRIPTORS: u32 = 2;

/// An empty pipe, or one with bytes under way.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
    _permit: Permit,
    _counted: Arc<()>,
}

/// A worker's empty pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    empty: Vec<Pipe>,
    /// Each pipe holds one, and this is one more.
    count: Arc<()>,
    descriptors: Arc<Descriptors>,
    bytes: usize,
    /// The kernel gave no further one: not asked again until one comes back.
    refused: bool,
}

impl Pipes {
    /// Pipes of so many bytes, made when they are wanted.
    pub(crate) fn new(descriptors: Arc<Descriptors>, bytes: usize) -> Self {
        Self { empty: vec![], count: Arc::new(()), descriptors, bytes, refused: false }
    }

    /// An empty one. None when there are too many already: then bytes are copied.
    pub(crate) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        if self.refused || Arc::strong_count(&self.count) > MOST {
            return None;
        }
        let made = self.make();
        self.refused = made.is_none();
        made
    }

    /// For the next one who wants it. It must be empty.
    pub(crate) fn give_back(&mut self, pipe: Pipe) {
        self.refused = false;
        self.empty.push(pipe);
    }

    /// Past its limit a user's pipes are made with two pages, and can't be made larger (EPERM): such a one is worse than none.
    fn make(&self) -> Option<Pipe> {
        let permit = self.descriptors.lend(DESCRIPTORS)?;
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        fcntl_setpipe_size(&writer, self.bytes).ok()?;
        Some(Pipe { reader, writer, _permit: permit, _counted: self.count.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipes(descriptors: u64) -> Pipes {
        Pipes::new(Descriptors::new(descriptors).unwrap(), 4096)
    }

    #[test]
    fn a_pipe_is_used_again() {
        let mut pipes = pipes(1000);
        let pipe = pipes.take().unwrap();
        let inode = rustix::fs::fstat(&pipe.reader).unwrap().st_ino;
        pipes.give_back(pipe);
        assert_eq!(rustix::fs::fstat(&pipes.take().unwrap().reader).unwrap().st_ino, inode);
    }

    #[test]
    fn there_is_a_bound_and_what_is_dropped_can_be_made_again() {
        let mut pipes = pipes(1000);
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), MOST);
        taken.pop();
        assert!(pipes.take().is_some());
    }

    #[test]
    fn descriptors_are_borrowed() {
        let mut pipes = pipes(128);
        let taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), 32);
    }
}
