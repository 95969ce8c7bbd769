//! One direction of a connection.

use rustix::io::Errno;

use super::{Pipe, Pipes, Stream};

/// Bytes that one direction may move before others get their turn.
const TURN_BYTES: usize = 512 * 1024;
/// With less at a time splicing costs more than copying.
const BULK_BYTES: usize = 32 * 1024;

/// What is known of one direction, from its source to its sink.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Bytes that the sink took.
    pub(crate) bytes: u64,
    /// Read from the source, or put in ahead of it, and not yet taken by the sink.
    held: Option<Box<Held>>,
    /// The last read was as large as could be: the next one had better be spliced.
    bulk: bool,
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
    /// The sink has ended its own stream, so that both sockets are closed as soon as this flow ends: closing says it.
    last: bool,
}

/// What the sink does not take yet.
#[derive(Debug)]
enum Held {
    /// Copied, and sent up to a point.
    Memory { bytes: Box<[u8]>, sent: usize },
    /// In a pipe, so many bytes.
    Pipe(Pipe, usize),
}

/// What a worker moves bytes with.
#[derive(Debug)]
pub(crate) struct Means<'a> {
    pub(crate) buffer: &'a mut [u8],
    pub(crate) pipes: &'a mut Pipes,
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
            held: Held::copied(ahead),
            bulk: false,
            readable: false,
            ending: false,
            urgent: false,
            writable: true,
            read_out: false,
            finished: false,
            severed: false,
            last: false,
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

    /// The sink's own stream has ended, and that end was passed on: this flow's is passed on by closing the sink.
    pub(crate) fn is_last(&mut self) {
        self.last = true;
    }

    /// Bytes of the process's memory for what the sink does not take yet.
    pub(crate) fn kept(&self) -> usize {
        match self.held.as_deref() {
            Some(Held::Memory { bytes, .. }) => bytes.len(),
            Some(Held::Pipe(..)) | None => 0,
        }
    }

    /// Whether the end has been passed on.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }
}

impl Held {
    fn copied(bytes: &[u8]) -> Option<Box<Self>> {
        (!bytes.is_empty()).then(|| Box::new(Self::Memory { bytes: bytes.into(), sent: 0 }))
    }
}

/// Why moving stopped.
enum Stop {
    /// The sink takes no more.
    Full,
    Failed(Failure),
}

/// Moves bytes until a socket has enough, the source ends, or the turn is over.
///
/// What the sink does not take at once is kept, at most one buffer or pipe; nothing more is read until it is gone, so that the
/// source feels the sink's pace.
pub(crate) fn pump(
    flow: &mut Flow,
    source: &impl Stream,
    sink: &impl Stream,
    means: &mut Means<'_>,
) -> Outcome {
    let mut budget = TURN_BYTES;
    loop {
        if flow.finished {
            return Outcome::Finished;
        }
        if !flow.writable {
            return Outcome::Waiting;
        }
        let moved = if let Some(held) = flow.held.take() {
            flow.release(*held, sink, means.pipes)
        } else if flow.read_out && flow.severed {
            return Outcome::Waiting;
        } else if flow.read_out {
            flow.finish(sink)
        } else if !flow.readable {
            return Outcome::Waiting;
        } else if budget == 0 {
            return Outcome::Unfinished;
        } else if flow.bulk
            && !flow.urgent
            && let Some(pipe) = means.pipes.take()
        {
            flow.splice(source, sink, pipe, means.pipes, &mut budget)
        } else {
            flow.copy(source, sink, means.buffer, &mut budget)
        };
        match moved {
            Ok(()) => {}
            Err(Stop::Full) => {
                flow.writable = false;
                return Outcome::Waiting;
            }
            Err(Stop::Failed(failure)) => return Outcome::Failed(failure),
        }
    }
}

impl Flow {
    /// Passes on what is held.
    fn release(&mut self, held: Held, sink: &impl Stream, pipes: &mut Pipes) -> Result<(), Stop> {
        match held {
            Held::Memory { bytes, sent } => {
                let (more, stop) = self.send(&bytes[sent..], sink, false);
                if matches!(stop, Err(Stop::Full)) {
                    self.held = Some(Box::new(Held::Memory { bytes, sent: sent + more }));
                }
                stop
            }
            Held::Pipe(pipe, bytes) => self.drain(pipe, bytes, sink, pipes),
        }
    }

    /// Passes the end on.
    fn finish(&mut self, sink: &impl Stream) -> Result<(), Stop> {
        if !self.last {
            sink.shutdown().map_err(|errno| Stop::Failed(Failure::Sink(errno)))?;
        }
        self.finished = true;
        Ok(())
    }

    /// Takes what one read gives, and passes it on.
    fn copy(
        &mut self,
        source: &impl Stream,
        sink: &impl Stream,
        buffer: &mut [u8],
        budget: &mut usize,
    ) -> Result<(), Stop> {
        let read = match source.recv(buffer) {
            Ok(0) => {
                self.read_out = true;
                return Ok(());
            }
            Ok(read) => read,
            Err(errno) => return self.nothing_read(errno),
        };
        *budget = budget.saturating_sub(read);
        self.bulk = read == buffer.len();
        // A short read has emptied the socket, and the next byte makes a new edge (epoll(7), question 9); unless
        // the end is behind it, whose edge has passed, or it stopped at an urgent mark.
        if !self.bulk && !self.ending && !self.urgent {
            self.readable = false;
        }
        // With the end behind it, a short read has taken everything that comes before.
        let is_all = !self.bulk && self.ending && !self.urgent && !self.severed;
        let (sent, stop) = self.send(&buffer[..read], sink, is_all);
        if matches!(stop, Err(Stop::Full)) {
            self.held = Held::copied(&buffer[sent..read]);
        }
        stop
    }

    /// Takes a pipe full, and passes it on.
    fn splice(
        &mut self,
        source: &impl Stream,
        sink: &impl Stream,
        pipe: Pipe,
        pipes: &mut Pipes,
        budget: &mut usize,
    ) -> Result<(), Stop> {
        match source.fill(&pipe) {
            Ok(0) => self.read_out = true,
            Ok(filled) => {
                *budget = budget.saturating_sub(filled);
                // How many bytes fill a pipe depends on how they came: only a small catch says that there is no more in bulk.
                self.bulk = filled >= BULK_BYTES;
                return self.drain(pipe, filled, sink, pipes);
            }
            Err(errno) => {
                pipes.give_back(pipe);
                return self.nothing_read(errno);
            }
        }
        pipes.give_back(pipe);
        Ok(())
    }

    fn nothing_read(&mut self, errno: Errno) -> Result<(), Stop> {
        match errno {
            Errno::AGAIN => self.readable = false,
            Errno::INTR => {}
            errno => return Err(Stop::Failed(Failure::Source(errno))),
        }
        Ok(())
    }

    /// Sends until all is sent or the sink objects. AGAIN is waited for even after a short send: it is what makes the
    /// kernel announce the space that comes free.
    fn send(&mut self, bytes: &[u8], sink: &impl Stream, more: bool) -> (usize, Result<(), Stop>) {
        let mut sent = 0;
        while sent < bytes.len() {
            match sink.send(&bytes[sent..], more) {
                Ok(taken) => {
                    sent += taken;
                    self.bytes += taken as u64;
                }
                Err(errno) => match refusal(errno) {
                    None => {}
                    Some(stop) => return (sent, Err(stop)),
                },
            }
        }
        (sent, Ok(()))
    }

    /// The same with a pipe, which is kept while it has something.
    fn drain(
        &mut self,
        pipe: Pipe,
        mut bytes: usize,
        sink: &impl Stream,
        pipes: &mut Pipes,
    ) -> Result<(), Stop> {
        while bytes > 0 {
            match sink.drain(&pipe, bytes) {
                Ok(taken) => {
                    bytes -= taken;
                    self.bytes += taken as u64;
                }
                Err(errno) => match refusal(errno) {
                    None => {}
                    Some(Stop::Full) => {
                        self.held = Some(Box::new(Held::Pipe(pipe, bytes)));
                        return Err(Stop::Full);
                    }
                    Some(stop) => return Err(stop),
                },
            }
        }
        pipes.give_back(pipe);
        Ok(())
    }
}

/// What a sink's error means; nothing when it is to be tried again.
fn refusal(errno: Errno) -> Option<Stop> {
    match errno {
        Errno::INTR => None,
        Errno::AGAIN => Some(Stop::Full),
        errno => Some(Stop::Failed(Failure::Sink(errno))),
    }
}

#[cfg(test)]
mod tests;
