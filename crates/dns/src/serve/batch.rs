//! Packets by the dozen: a call of the kernel takes, or sends, all that there are.

use std::{
    array,
    io::{IoSlice, IoSliceMut},
    net::SocketAddrV4,
    os::fd::{AsFd, AsRawFd as _},
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};
use rustix::io::Errno;

/// Packets in a call: beyond some thirty nothing more is gained.
pub(super) const BATCH: usize = 64;
/// The longest question: one that is longer is cut, and then makes no sense.
const LONGEST: usize = 4_096;
/// From one question's place to the next: were it a power of two, they would all compete for the same lines of the cache.
const STRIDE: usize = LONGEST + 128;

/// Questions as they came.
pub(super) struct Intake {
    heads: MultiHeaders<SockaddrIn>,
    bytes: Vec<u8>,
    arrived: Vec<(usize, Option<SocketAddrV4>)>,
}

impl Intake {
    pub(super) fn new() -> Self {
        Self {
            heads: MultiHeaders::preallocate(BATCH, None),
            bytes: vec![0; BATCH * STRIDE],
            arrived: Vec::with_capacity(BATCH),
        }
    }

    /// Takes what is queued, up to [`BATCH`], and says how many those were.
    pub(super) fn take(&mut self, socket: impl AsFd) -> Result<usize, Errno> {
        let mut places = self.bytes.chunks_exact_mut(STRIDE);
        let mut pieces: [[IoSliceMut<'_>; 1]; BATCH] = array::from_fn(|_| {
            [IoSliceMut::new(places.next().map_or(&mut [], |place| &mut place[..LONGEST]))]
        });
        self.arrived.clear();
        let socket = socket.as_fd().as_raw_fd();
        let taken = recvmmsg(socket, &mut self.heads, pieces.iter_mut(), MsgFlags::MSG_DONTWAIT, None);
        let taken = taken.map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
        self.arrived.extend(taken.map(|packet| (packet.bytes, packet.address.map(SocketAddrV4::from))));
        Ok(self.arrived.len())
    }

    /// What was taken, and from whom.
    pub(super) fn packets(&self) -> impl Iterator<Item = (&[u8], SocketAddrV4)> {
        let packets = self.bytes.chunks_exact(STRIDE).zip(&self.arrived);
        packets.filter_map(|(place, &(length, from))| Some((place.get(..length)?, from?)))
    }
}

/// Answers that wait to be sent.
pub(super) struct Outgoing {
    heads: MultiHeaders<SockaddrIn>,
    answers: Vec<Vec<u8>>,
    to: Vec<Option<SockaddrIn>>,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            heads: MultiHeaders::preallocate(BATCH, None),
            answers: (0..BATCH).map(|_| Vec::with_capacity(512)).collect(),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Where the next answer is to be written. There are [`BATCH`] such places.
    pub(super) fn place(&mut self) -> &mut Vec<u8> {
        &mut self.answers[self.to.len()]
    }

    /// What was written there is an answer.
    pub(super) fn push(&mut self, to: SocketAddrV4) {
        self.to.push(Some(to.into()));
    }

    /// Sends all. `again` is told which could not be, and why, and says whether to try once more.
    pub(super) fn send(&mut self, socket: impl AsFd, mut again: impl FnMut(SocketAddrV4, Errno) -> bool) {
        let pieces: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|nth| [IoSlice::new(&self.answers[nth])]);
        let mut done = 0;
        while done < self.to.len() {
            let (pieces, to) = (pieces[done..].iter(), &self.to[done..]);
            let socket = socket.as_fd().as_raw_fd();
            match sendmmsg(socket, &mut self.heads, pieces, to, [], MsgFlags::MSG_DONTWAIT) {
                Ok(sent) => done += sent.count(),
                Err(errno) => {
                    // It is the first's.
                    let errno = Errno::from_raw_os_error(errno as i32);
                    if !self.to[done].is_some_and(|to| again(to.into(), errno)) {
                        done += 1;
                    }
                }
            }
        }
        self.to.clear();
    }
}
