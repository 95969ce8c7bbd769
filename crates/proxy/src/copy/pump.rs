//! One direction of a connection.

use rustix::io::Errno;

use super::Stream;

/// Bytes that one direction may move before others get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// What is known of one direction, from its source to its sink.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that the sink took.
    pub(crate) bytes: u64,
    /// Read from the source, or put in ahead of it, and not yet taken by the sink.
    pending: Option<Box<Pending>>,
    /// The source may have more.
    readable: bool,
    /// The source's FIN has arrived, perhaps behind data. It stays set: no other edge will ever tell.
    ending: bool,
    /// The source has sent urgent data, at whose mark a read stops short with more behind it (tcp(7)).
    urgent: bool,
    /// The sink may take more.
    writable: bool,
    /// The source has been read to its end.
    read_out: bool,
    /// The end has been passed on.
    finished: bool,
    /// The source broke, and its error was told elsewhere: its end is none.
    severed: bool,
}

#[derive(Debug)]
struct Pending {
    bytes: Box<[u8]>,
    sent: usize,
}

/// How a turn of [`pump`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing can be done until a socket says more.
    Waiting,
    /// There is more to do, but others should have their turn first.
    Unfinished,
    /// The end has been passed on.
    Finished,
    /// One of the two sockets is broken.
    Failed(Failure),
}

/// Which socket broke, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Source(Errno),
    Sink(Errno),
}

impl Flow {
    /// A flow whose sockets have told nothing yet: the source has no data until an event says so; the sink takes data.
    /// `ahead` goes to the sink before anything else.
    pub(crate) fn new(ahead: &[u8]) -> Self {
        Self {
            bytes: 0,
            pending: Pending::from(ahead),
            readable: false,
            ending: false,
            urgent: false,
            writable: true,
            read_out: false,
            finished: false,
            severed: false,
        }
    }

    /// The source may have more to read.
    pub(crate) fn source_readable(&mut self) {
        self.readable = true;
    }

    /// The source's FIN has arrived.
    pub(crate) fn source_ending(&mut self) {
        self.readable = true;
        self.ending = true;
    }

    /// The source has sent urgent data.
    pub(crate) fn source_urgent(&mut self) {
        self.readable = true;
        self.urgent = true;
    }

    /// The sink may take more.
    pub(crate) fn sink_writable(&mut self) {
        self.writable = true;
    }

    /// The source broke, and the call that met its error has taken it along: from here on a read gives what came before, and
    /// then 0, as if the stream had ended well. That end is never passed on.
    pub(crate) fn source_broken(&mut self) {
        self.readable = true;
        self.severed = true;
    }

    /// Bytes of memory for what the sink does not take yet.
    pub(crate) fn kept(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.bytes.len())
    }

    /// Whether the end has been passed on.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }
}

impl Pending {
    fn from(bytes: &[u8]) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self { bytes: bytes.into(), sent: 0 }))
    }
}

/// Moves bytes until a socket has enough, the source ends, or the turn is over.
///
/// What the sink does not take at once is kept, at most one `buffer`; nothing more is read until it is gone, so that the
/// source feels the sink's pace.
pub(crate) fn pump(flow: &mut Flow, source: &impl Stream, sink: &impl Stream, buffer: &mut [u8]) -> Outcome {
    let mut budget = TURN_BYTES;
    loop {
        if flow.finished {
            return Outcome::Finished;
        }
        if !flow.writable {
            return Outcome::Waiting;
        }
        if let Some(mut pending) = flow.pending.take() {
            let (sent, fault) = send_all(sink, &pending.bytes[pending.sent..]);
            flow.bytes += sent as u64;
            pending.sent += sent;
            match fault {
                None => continue,
                Some(Errno::AGAIN) => {
                    flow.writable = false;
                    flow.pending = Some(pending);
                    return Outcome::Waiting;
                }
                Some(errno) => return Outcome::Failed(Failure::Sink(errno)),
            }
        }
        if flow.read_out && flow.severed {
            return Outcome::Waiting;
        }
        if flow.read_out {
            return match sink.shutdown() {
                Ok(()) => {
                    flow.finished = true;
                    Outcome::Finished
                }
                Err(errno) => Outcome::Failed(Failure::Sink(errno)),
            };
        }
        if !flow.readable {
            return Outcome::Waiting;
        }
        if budget == 0 {
            return Outcome::Unfinished;
        }
        match source.recv(buffer) {
            Ok(0) => flow.read_out = true,
            Ok(read) => {
                budget = budget.saturating_sub(read);
                // A short read has emptied the socket, and the next byte makes a new edge (epoll(7), question 9); unless
                // the end is behind it, whose edge has passed, or it stopped at an urgent mark.
                if read < buffer.len() && !flow.ending && !flow.urgent {
                    flow.readable = false;
                }
                let (sent, fault) = send_all(sink, &buffer[..read]);
                flow.bytes += sent as u64;
                match fault {
                    None => {}
                    Some(Errno::AGAIN) => {
                        flow.writable = false;
                        flow.pending = Pending::from(&buffer[sent..read]);
                    }
                    Some(errno) => return Outcome::Failed(Failure::Sink(errno)),
                }
            }
            Err(Errno::AGAIN) => flow.readable = false,
            Err(Errno::INTR) => {}
            Err(errno) => return Outcome::Failed(Failure::Source(errno)),
        }
    }
}

/// Sends until all is sent or the sink objects. AGAIN is waited for even after a short send: it is what makes the
/// kernel announce the space that comes free.
fn send_all(sink: &impl Stream, bytes: &[u8]) -> (usize, Option<Errno>) {
    let mut sent = 0;
    while sent < bytes.len() {
        match sink.send(&bytes[sent..]) {
            Ok(taken) => sent += taken,
            Err(Errno::INTR) => {}
            Err(errno) => return (sent, Some(errno)),
        }
    }
    (sent, None)
}

#[cfg(test)]
mod tests;
