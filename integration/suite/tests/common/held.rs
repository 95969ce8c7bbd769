//! A connection that is held open and kept talking, from inside a container.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use steppe_testbed::{Container, Outcome, greet};

use super::SOON;

/// An echo that takes longer than this is missing: a segment that got lost is sent again within a second.
const ECHO: Duration = Duration::from_secs(4);

/// The connection, and who is at its other end.
#[derive(Debug)]
pub struct Held {
    stream: TcpStream,
    /// The server's name.
    pub server: String,
}

/// Opens one.
pub fn hold(from: &Container, to: SocketAddr) -> Held {
    let (stream, server) =
        from.enter(|| greet(to, SOON)).unwrap_or_else(|e| panic!("{} to {to}: {e}", from.name));
    Held { stream, server }
}

impl Held {
    /// Sends a line and awaits its echo.
    fn talk(&mut self) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(ECHO))?;
        self.stream.write_all(b"tick\n")?;
        let mut echo = [0; 5];
        self.stream.read_exact(&mut echo)?;
        if &echo == b"tick\n" { Ok(()) } else { Err(ErrorKind::InvalidData.into()) }
    }

    /// # Panics
    /// Unless the connection goes on.
    #[track_caller]
    pub fn assert_open(&mut self) {
        if let Err(error) = self.talk() {
            panic!("the connection to {} did not go on: {error}", self.server);
        }
    }

    /// Waits until the connection ends, and says how.
    ///
    /// # Panics
    /// When it goes on for longer than `deadline`.
    #[track_caller]
    pub fn wait_cut(&mut self, deadline: Duration) -> Outcome {
        let end = Instant::now() + deadline;
        loop {
            match self.talk() {
                Ok(()) => assert!(Instant::now() < end, "the connection to {} goes on", self.server),
                Err(error) => return Outcome::of(&error),
            }
        }
    }
}
