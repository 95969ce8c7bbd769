//! A netlink socket with room for large transactions, and the two ways to ask: a transaction and a dump.

use std::{io, os::fd::AsFd as _};

use netlink_sys::{Socket as RawSocket, SocketAddr};
use rustix::net::sockopt;

use super::message::{DONE, ERROR, INTERRUPTED, Message, Messages, messages};

/// Enough for a batch of 16,384 changes at ~150 bytes many times over; 440 KB on the default buffer is EMSGSIZE already.
const SEND_BUFFER: usize = 64 << 20;
/// One error message for each of a large batch's messages.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The kernel fills dump datagrams of up to 32 KiB; a single message may be longer.
const DATAGRAM: usize = 256 << 10;
/// How often a dump that a change interrupted is begun again before what came is taken.
const DUMP_TRIES: usize = 16;

/// One message of a transaction that the kernel refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Its sequence number.
    pub(crate) sequence: u32,
    /// The errno, positive.
    pub(crate) errno: i32,
}

/// A netlink socket that is bound to a port id of its own.
pub(crate) struct Socket {
    raw: RawSocket,
    port: u32,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// Opens and binds one.
    ///
    /// # Errors
    /// The system's; EPERM means that CAP_NET_ADMIN is missing.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut raw = RawSocket::new(protocol)?;
        let port = raw.bind_auto()?.port_number();
        raw.connect(&SocketAddr::new(0, 0))?;
        // Else an error repeats the whole request, and those of a large batch overrun the queue.
        raw.set_cap_ack(true)?;
        sockopt::set_socket_send_buffer_size_force(raw.as_fd(), SEND_BUFFER)?;
        sockopt::set_socket_recv_buffer_size_force(raw.as_fd(), RECEIVE_BUFFER)?;
        Ok(Self { raw, port, buffer: Vec::with_capacity(DATAGRAM), sequence: 1 })
    }

    /// The kernel socket underneath.
    pub(crate) fn raw(&self) -> &RawSocket {
        &self.raw
    }

    /// The port id that the kernel knows this socket by.
    pub(crate) fn port(&self) -> u32 {
        self.port
    }

    /// A buffer for requests whose sequence numbers no earlier request had.
    pub(crate) fn request(&self) -> Messages {
        Messages::new(self.sequence)
    }

    /// Waits for the next datagram.
    ///
    /// # Errors
    /// ENOBUFS when some were lost.
    pub(crate) fn receive(&mut self) -> io::Result<impl Iterator<Item = Message<'_>>> {
        self.receive_with(0)
    }

    fn receive_with(&mut self, flags: i32) -> io::Result<impl Iterator<Item = Message<'_>>> {
        self.buffer.clear();
        loop {
            match self.raw.recv(&mut self.buffer, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    result?;
                    break;
                }
            }
        }
        Ok(messages(&self.buffer))
    }

    /// Throws away what waits.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        loop {
            match self.receive_with(DONT_WAIT).map(|_| ()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_overrun(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends requests and gives what the kernel refused of them. nf_tables and rtnetlink work within the send: when it
    /// returns, every answer is in the queue, and none means that all went well.
    ///
    /// # Errors
    /// The system's; ENOBUFS when answers were lost, so that nobody knows.
    pub(crate) fn transact(&mut self, requests: &Messages) -> io::Result<Vec<Refusal>> {
        let first = std::mem::replace(&mut self.sequence, requests.next_sequence());
        let count = self.sequence.wrapping_sub(first);
        self.raw.send(requests.as_bytes(), 0)?;
        let mut refused = Vec::new();
        loop {
            match self.receive_with(DONT_WAIT) {
                Ok(answers) => refused.extend(answers.filter_map(|answer| {
                    let errno = -answer.code();
                    // Where answers were lost, later ones of that request may wait here still.
                    let is_ours = answer.sequence.wrapping_sub(first) < count;
                    (is_ours && answer.kind == ERROR && errno != 0)
                        .then_some(Refusal { sequence: answer.sequence, errno })
                })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(refused),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one request and collects what `take` makes of each answer; begins anew when a change interrupted the listing.
    ///
    /// # Errors
    /// The system's, or the kernel's answer.
    pub(crate) fn ask<T>(
        &mut self,
        request: &Messages,
        mut take: impl FnMut(Message<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        self.sequence = request.next_sequence();
        let mut answers = Vec::new();
        for _ in 0..DUMP_TRIES {
            answers.clear();
            if !self.ask_once(request, &mut take, &mut answers)? {
                break;
            }
        }
        Ok(answers)
    }

    /// Gives whether the listing was interrupted.
    fn ask_once<T>(
        &mut self,
        request: &Messages,
        take: &mut impl FnMut(Message<'_>) -> Option<T>,
        answers: &mut Vec<T>,
    ) -> io::Result<bool> {
        let wanted = request.next_sequence().wrapping_sub(1);
        self.raw.send(request.as_bytes(), 0)?;
        let mut interrupted = false;
        loop {
            let mut done = false;
            for answer in self.receive()?.filter(|answer| answer.sequence == wanted) {
                interrupted |= answer.flags & INTERRUPTED != 0;
                match answer.kind {
                    ERROR | DONE if answer.code() != 0 => {
                        return Err(io::Error::from_raw_os_error(-answer.code()));
                    }
                    ERROR | DONE => done = true,
                    _ => answers.extend(take(answer)),
                }
            }
            if done {
                return Ok(interrupted);
            }
        }
    }
}

/// ENOBUFS: the queue overran, and messages were lost.
pub(crate) fn is_overrun(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error())
}

/// `MSG_DONTWAIT`.
const DONT_WAIT: i32 = nftnl::nftnl_sys::libc::MSG_DONTWAIT;
