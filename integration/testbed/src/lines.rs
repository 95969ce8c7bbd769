//! A stream of text, such as a container's output, line by line, with a deadline for each.

use std::io::{BufRead, BufReader, Read};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use steppe_probe::Attempt;

/// A follower of a container's stdout, or of another stream. Lines that nobody has asked for yet are kept.
#[derive(Debug)]
pub struct Lines {
    source: String,
    lines: Receiver<String>,
}

impl Lines {
    /// Reads Docker's multiplexed stream (API, "Attach to a container", stream format) on a thread of its own,
    /// which ends with the stream.
    pub(crate) fn demultiplex(container: &str, stream: impl Read + Send + 'static) -> Self {
        Self::plain(container, Stdout { stream, left: 0 })
    }

    /// Reads a stream of lines in the same way.
    pub(crate) fn plain(source: &str, stream: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                if sender.send(line.trim_end().to_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        Self { source: source.to_owned(), lines }
    }

    /// The next line.
    ///
    /// # Panics
    /// When none comes within `deadline`, or the stream has ended.
    #[track_caller]
    pub fn next(&self, deadline: Duration) -> String {
        let name = &self.source;
        match self.lines.recv_timeout(deadline) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("{name} printed nothing for {deadline:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("{name} has ended"),
        }
    }

    /// The next line, if one comes in time.
    ///
    /// # Errors
    /// When none does, or the stream has ended.
    pub fn try_next(&self, deadline: Duration) -> Result<String, RecvTimeoutError> {
        self.lines.recv_timeout(deadline)
    }

    /// The next line as a [`Attempt`] of `probe connect`.
    ///
    /// # Panics
    /// As [`Lines::next`], and when the line is something else.
    #[track_caller]
    pub fn attempt(&self, deadline: Duration) -> Attempt {
        let line = self.next(deadline);
        Attempt::from_str(&line).unwrap_or_else(|e| panic!("{}: {e}", self.source))
    }

    /// Reads lines until `find` finds something in one.
    ///
    /// # Panics
    /// After `deadline`, with `what` was awaited and the last line.
    #[track_caller]
    pub fn until<T>(&self, deadline: Duration, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let end = Instant::now() + deadline;
        let mut last = String::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => last = line,
                Err(e) => {
                    panic!("{}: not within {deadline:?}: {what} ({e}); last line: {last}", self.source)
                }
            }
            if let Some(found) = find(&last) {
                return found;
            }
        }
    }

    /// Reads attempts of `probe connect` until one is as `wanted`; returns it and those before it.
    ///
    /// # Panics
    /// As [`Lines::until`].
    #[track_caller]
    pub fn attempts_until(
        &self,
        deadline: Duration,
        what: &str,
        wanted: impl Fn(&Attempt) -> bool,
    ) -> (Vec<Attempt>, Attempt) {
        let before = std::cell::RefCell::new(Vec::new());
        let found = self.until(deadline, what, |line| {
            let attempt = Attempt::from_str(line).unwrap_or_else(|e| panic!("{}: {e}", self.source));
            if wanted(&attempt) {
                return Some(attempt);
            }
            before.borrow_mut().push(attempt);
            None
        });
        (before.into_inner(), found)
    }

    /// All lines that have come up to now.
    pub fn drain(&self) -> Vec<String> {
        self.lines.try_iter().collect()
    }

    /// All lines up to the stream's end.
    ///
    /// # Panics
    /// When it hasn't ended after `deadline`.
    #[track_caller]
    pub fn rest(&self, deadline: Duration) -> Vec<String> {
        let end = Instant::now() + deadline;
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Disconnected) => return lines,
                Err(RecvTimeoutError::Timeout) => panic!("{} hasn't ended in {deadline:?}", self.source),
            }
        }
    }
}

/// The stdout frames of a multiplexed stream, joined.
struct Stdout<S> {
    stream: S,
    left: usize,
}

/// A frame's head: the stream (1 is stdout), three zeros, the length in four bytes.
const HEAD: usize = 8;

impl<S: Read> Read for Stdout<S> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.left == 0 {
            let mut head = [0; HEAD];
            match self.stream.read_exact(&mut head) {
                Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(0),
                other => other?,
            }
            self.left = length(&head);
        }
        let most = buffer.len().min(self.left);
        let n = self.stream.read(&mut buffer[..most])?;
        self.left -= n;
        Ok(n)
    }
}

/// Splits a whole multiplexed stream into stdout and stderr.
pub(crate) fn split(mut stream: &[u8]) -> (String, String) {
    let mut out = [Vec::new(), Vec::new()];
    while let Some((head, rest)) = stream.split_at_checked(HEAD) {
        let (frame, rest) = rest.split_at(length(head).min(rest.len()));
        out[usize::from(head[0] == 2)].extend_from_slice(frame);
        stream = rest;
    }
    let [stdout, stderr] = out.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (stdout, stderr)
}

fn length(head: &[u8]) -> usize {
    head[4..HEAD].iter().fold(0, |length, &byte| length << 8 | usize::from(byte))
}
