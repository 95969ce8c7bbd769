//! What a load is to do, and what it found.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddrV4},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::stage::Room;

/// What each connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// One request, then a new connection.
    Connect,
    /// Request after request.
    Kept,
    /// One answer that never ends.
    Bulk,
    /// One request, then nothing, until stdin ends.
    Idle,
}

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Load {
    pub mode: Mode,
    /// Connections at the same time.
    pub connections: usize,
    /// Where to, in turn.
    pub targets: Vec<SocketAddrV4>,
    /// Where from, in turn.
    pub sources: Vec<Ipv4Addr>,
    /// Bytes of an answer.
    pub bytes: u64,
    /// Bytes of each of the server's sends.
    pub piece: u32,
    /// How long it is measured.
    pub time: Duration,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Measured {
    pub seconds: f64,
    /// Requests answered; with [`Mode::Bulk`] none are.
    pub answers: u64,
    pub bytes: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Microseconds from the request (with [`Mode::Connect`] from the connect) to the answer's end.
    pub p50: f64,
    pub p99: f64,
}

/// A load under way, from the moment at which it is measured.
#[derive(Debug)]
pub struct Span {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Load {
    /// Starts it in a namespace, and waits until what is measured begins.
    ///
    /// # Errors
    /// When it ends before.
    pub fn begin(&self, room: &Room) -> Result<Span> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").arg(serde_json::to_string(self)?);
        let mut child = room.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut span = Span { child, lines: BufReader::new(stdout) };
        let line = span.line()?;
        ensure!(line == "begin", "the load did not begin: {line:?}");
        Ok(span)
    }
}

impl Span {
    /// Waits for what it found.
    ///
    /// # Errors
    /// When it failed.
    pub fn end(mut self) -> Result<Measured> {
        if let Some(stdin) = self.child.stdin.take() {
            drop(stdin);
        }
        let line = self.line()?;
        serde_json::from_str(&line).with_context(|| format!("the load says {line:?}"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        // It has ended, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
