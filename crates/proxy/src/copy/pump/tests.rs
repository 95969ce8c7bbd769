use std::{cell::RefCell, collections::VecDeque};

use proptest::prelude::*;

use super::*;
use crate::limits::Descriptors;

/// A page, the smallest that there is.
const PIPE_BYTES: usize = 4096;

/// A made-up socket: what arrives at it by and by, and how much it takes at a time.
#[derive(Debug, Default)]
struct Fake(RefCell<State>);

#[derive(Debug, Default)]
struct State {
    /// Arrived and not yet read.
    arrived: VecDeque<u8>,
    fin: bool,
    /// The error of the next call, once all that arrived is read.
    broken: Option<Errno>,
    space: usize,
    taken: Vec<u8>,
    /// It was told that nothing but the end follows.
    more: bool,
    shut: bool,
    /// Positions in the stream at which a read stops short.
    marks: Vec<usize>,
    read: usize,
}

impl Stream for Fake {
    fn recv(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        let state = &mut *self.0.borrow_mut();
        let to_mark =
            state.marks.iter().find(|&&mark| mark > state.read).map_or(usize::MAX, |m| m - state.read);
        let count = buffer.len().min(state.arrived.len()).min(to_mark);
        if count == 0 {
            return match (state.broken, state.fin) {
                (Some(errno), _) => Err(errno),
                (None, true) => Ok(0),
                (None, false) => Err(Errno::AGAIN),
            };
        }
        for (slot, byte) in buffer.iter_mut().zip(state.arrived.drain(..count)) {
            *slot = byte;
        }
        state.read += count;
        Ok(count)
    }

    fn send(&self, bytes: &[u8], more: bool) -> Result<usize, Errno> {
        let state = &mut *self.0.borrow_mut();
        if let Some(errno) = state.broken {
            return Err(errno);
        }
        let count = bytes.len().min(state.space);
        if count == 0 {
            return Err(Errno::AGAIN);
        }
        assert!(!state.more, "the end was to follow");
        state.more = more && count == bytes.len();
        state.space -= count;
        state.taken.extend(&bytes[..count]);
        Ok(count)
    }

    fn fill(&self, pipe: &Pipe) -> Result<usize, Errno> {
        let mut bytes = [0; PIPE_BYTES];
        let read = self.recv(&mut bytes)?;
        if read > 0 {
            assert_eq!(rustix::io::write(&pipe.writer, &bytes[..read]), Ok(read), "the pipe was empty");
        }
        Ok(read)
    }

    fn drain(&self, pipe: &Pipe, bytes: usize) -> Result<usize, Errno> {
        let space = {
            let state = self.0.borrow();
            if let Some(errno) = state.broken {
                return Err(errno);
            }
            state.space
        };
        if space == 0 {
            return Err(Errno::AGAIN);
        }
        let mut buffer = vec![0; bytes.min(space)];
        let read = rustix::io::read(&pipe.reader, &mut buffer).expect("the pipe has what was put into it");
        self.send(&buffer[..read], false)
    }

    fn shutdown(&self) -> Result<(), Errno> {
        assert!(!self.0.borrow().shut, "shut down twice");
        self.0.borrow_mut().shut = true;
        Ok(())
    }
}

/// What happens to the sockets between two looks at them.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Arrives(usize),
    Space(usize),
    Urgent,
    Look,
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        (1..300usize).prop_map(Happening::Arrives),
        (1..300usize).prop_map(Happening::Space),
        Just(Happening::Urgent),
        Just(Happening::Look),
    ];
    proptest::collection::vec(one, 0..60)
}

/// Runs a flow over fakes as an edge-triggered epoll would: an event for what changed, and never again.
struct Run {
    flow: Flow,
    source: Fake,
    sink: Fake,
    sent: Vec<u8>,
    buffer: Vec<u8>,
    pipes: Pipes,
}

impl Run {
    fn new(ahead: &[u8]) -> Self {
        Self {
            flow: Flow::new(ahead),
            source: Fake::default(),
            sink: Fake::default(),
            sent: ahead.to_vec(),
            buffer: vec![0; 64],
            pipes: Pipes::new(Descriptors::new(1000).unwrap(), PIPE_BYTES),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives(count) => {
                let state = &mut *self.source.0.borrow_mut();
                for _ in 0..count {
                    // Neighbours differ, so that a loss or a repetition shows.
                    let byte = (self.sent.len() % 251) as u8;
                    state.arrived.push_back(byte);
                    self.sent.push(byte);
                }
                self.flow.source_readable();
            }
            Happening::Urgent => {
                let state = &mut *self.source.0.borrow_mut();
                let mark = state.read + state.arrived.len();
                state.marks.push(mark);
                self.flow.source_urgent();
            }
            Happening::Space(count) => {
                self.sink.0.borrow_mut().space += count;
                self.flow.sink_writable();
            }
            Happening::Look => {
                self.look();
            }
        }
    }

    fn turn(&mut self) -> Outcome {
        let means = &mut Means { buffer: &mut self.buffer, pipes: &mut self.pipes };
        pump(&mut self.flow, &self.source, &self.sink, means)
    }

    fn look(&mut self) -> Outcome {
        loop {
            match self.turn() {
                Outcome::Unfinished => {}
                outcome => return outcome,
            }
        }
    }

    fn finish(&mut self) -> Outcome {
        self.source.0.borrow_mut().fin = true;
        self.flow.source_ending();
        self.look();
        self.sink.0.borrow_mut().space = usize::MAX;
        self.flow.sink_writable();
        self.look()
    }
}

proptest! {
    #[test]
    fn every_byte_arrives_once_and_then_the_end(
        ahead in proptest::collection::vec(any::<u8>(), 0..40),
        happenings in happenings(),
    ) {
        let mut run = Run::new(&ahead);
        for happening in happenings {
            run.happen(happening);
        }
        prop_assert_eq!(run.finish(), Outcome::Finished);
        let sink = run.sink.0.borrow();
        prop_assert_eq!(&sink.taken, &run.sent);
        prop_assert!(sink.shut);
        prop_assert_eq!(run.flow.bytes, run.sent.len() as u64);
    }

    #[test]
    fn a_sink_that_takes_nothing_stops_the_source(happenings in happenings()) {
        let mut run = Run::new(&[]);
        for happening in happenings {
            if !matches!(happening, Happening::Space(_)) {
                run.happen(happening);
            }
            run.look();
            let held = match run.flow.held.as_deref() {
                None => 0,
                Some(Held::Memory { bytes, .. }) => bytes.len(),
                Some(Held::Pipe(_, bytes)) => *bytes,
            };
            prop_assert!(held <= PIPE_BYTES);
            prop_assert_eq!(run.source.0.borrow().arrived.len() + held, run.sent.len());
        }
    }

    #[test]
    fn a_broken_source_never_looks_like_an_end(happenings in happenings(), reset in any::<bool>()) {
        let mut run = Run::new(&[]);
        for happening in happenings {
            run.happen(happening);
        }
        let errno = if reset { Errno::CONNRESET } else { Errno::TIMEDOUT };
        run.source.0.borrow_mut().broken = Some(errno);
        run.flow.source_ending();
        run.sink.0.borrow_mut().space = usize::MAX;
        run.flow.sink_writable();
        prop_assert_eq!(run.look(), Outcome::Failed(Failure::Source(errno)));
        prop_assert!(!run.sink.0.borrow().shut);
    }
}

#[test]
fn the_last_end_is_left_to_closing() {
    let mut run = Run::new(b"ahead");
    run.flow.is_last();
    assert_eq!(run.finish(), Outcome::Finished);
    assert_eq!(run.sink.0.borrow().taken, b"ahead");
    assert!(!run.sink.0.borrow().shut);
}

#[test]
fn the_end_travels_with_what_comes_before() {
    let mut run = Run::new(&[]);
    run.sink.0.borrow_mut().space = 100;
    run.happen(Happening::Arrives(10));
    run.source.0.borrow_mut().fin = true;
    run.flow.source_ending();
    assert_eq!(run.look(), Outcome::Finished);
    assert!(run.sink.0.borrow().more && run.sink.0.borrow().shut);
}

#[test]
fn a_broken_sink_is_told_apart() {
    let mut run = Run::new(&[]);
    run.happen(Happening::Arrives(3));
    run.sink.0.borrow_mut().broken = Some(Errno::PIPE);
    assert_eq!(run.look(), Outcome::Failed(Failure::Sink(Errno::PIPE)));
}

#[test]
fn a_turn_ends_so_that_others_get_theirs() {
    let mut run = Run::new(&[]);
    run.sink.0.borrow_mut().space = usize::MAX;
    run.happen(Happening::Arrives(2 * TURN_BYTES));
    let outcome = run.turn();
    assert_eq!(outcome, Outcome::Unfinished);
    assert_eq!(run.look(), Outcome::Waiting);
    assert_eq!(run.flow.bytes, 2 * TURN_BYTES as u64);
}

#[test]
fn what_a_broken_source_had_said_is_passed_on_but_no_end() {
    let mut run = Run::new(b"");
    run.happen(Happening::Space(100));
    run.happen(Happening::Arrives(90));
    // Its error was told to a send: a read says 0 when all is read.
    run.source.0.borrow_mut().fin = true;
    run.flow.source_broken();
    assert_eq!(run.turn(), Outcome::Waiting);
    assert_eq!(run.sink.0.borrow().taken, run.sent);
    assert!(!run.sink.0.borrow().shut && !run.flow.finished());
}
