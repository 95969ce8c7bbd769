//! A process that gave no answer: why, and what to do about it.

use std::{fmt, path::PathBuf};

use steppe_daemon::{GROUP_GID, Process};

use crate::client::DEADLINE;

/// What a process answered, or why it did not.
pub type Answer<T> = Result<T, Away>;

/// A process that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Which one.
    pub process: Process,
    /// Where it was asked.
    pub socket: PathBuf,
    /// Why there is no answer.
    pub kind: AwayKind,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwayKind {
    /// There is no socket: it never ran, or runs with another run directory.
    NoSocket,
    /// There is a socket, and nobody listens on it.
    NobodyListens,
    /// The socket may not be opened by who runs this.
    Denied,
    /// No answer within [`DEADLINE`].
    Slow,
    /// It answered with an error, which is given.
    Failed(String),
    /// It does not know the question: it is of an earlier release.
    Older,
    /// It has not planned anything yet in this life: what it would answer says nothing.
    NotReady {
        /// What it waits for.
        waits_for: String,
        /// What to do about that.
        fix: String,
    },
}

impl Away {
    /// Whether it surely does not run: with the others it may run, and can't be asked.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.kind, AwayKind::NoSocket | AwayKind::NobodyListens)
    }

    /// Why, without the name of the process: `nobody listens on /run/steppe/proxy.sock`.
    #[must_use]
    pub fn reason(&self) -> String {
        let socket = self.socket.display();
        match &self.kind {
            AwayKind::NoSocket => format!("there is no {socket}"),
            AwayKind::NobodyListens => format!("nobody listens on {socket}"),
            AwayKind::Denied => format!("permission denied on {socket}"),
            AwayKind::Slow => format!("no answer on {socket} within {} s", DEADLINE.as_secs()),
            AwayKind::Failed(error) => format!("it answers with an error: {error}"),
            AwayKind::Older => "it does not know the question: it is of an earlier release".to_owned(),
            AwayKind::NotReady { waits_for, .. } => format!("it waits for {waits_for}"),
        }
    }

    /// In two words, for a first line: `control is down`.
    #[must_use]
    pub fn short(&self) -> String {
        let name = self.process.name();
        match self.kind {
            AwayKind::NoSocket | AwayKind::NobodyListens => format!("{name} is down"),
            AwayKind::Denied => format!("{name} may not be asked"),
            AwayKind::Slow => format!("{name} does not answer"),
            AwayKind::Failed(_) => format!("{name} answers with an error"),
            AwayKind::Older => format!("{name} is older than this"),
            AwayKind::NotReady { .. } => format!("{name} has not planned yet"),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        let name = self.process.name();
        match &self.kind {
            AwayKind::NobodyListens => start(name),
            AwayKind::NoSocket => {
                format!("{}; if it runs with another --run-dir, name that here too", start(name))
            }
            AwayKind::NotReady { fix, .. } => fix.clone(),
            AwayKind::Denied => {
                format!("ask as root, or as a member of the group `steppe` (gid {GROUP_GID})")
            }
            AwayKind::Older => format!("upgrade steppe-{name} to the release of `steppe`"),
            AwayKind::Slow => format!("see the log of steppe-{name}, then restart it"),
            AwayKind::Failed(_) => {
                format!("see the log of steppe-{name}, and that it is of the same release as `steppe`")
            }
        }
    }
}

fn start(name: &str) -> String {
    format!("start steppe-{name} (systemctl start steppe-{name}, or nomad job run system.hcl)")
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.short(), self.reason())
    }
}

impl std::error::Error for Away {}
