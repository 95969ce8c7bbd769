//! What can go wrong with a source.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::http::Dialect;
use super::text::{no_answer, with_causes};

/// Why a source can't start, or why it failed for now.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A variable of the environment makes no sense.
    #[error("{variable}: {problem}; {write}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with its value.
        problem: String,
        /// What to write instead.
        write: &'static str,
    },
    /// A file that a variable names can't be used.
    #[error("{variable}={}: {problem}", path.display())]
    File {
        /// The variable's name.
        variable: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The HTTP client can't be made from the given certificates.
    #[error("{}'s client: {} (check {}, {} and {})", .0.title, with_causes(.1), .0.ca_cert, .0.client_cert, .0.client_key)]
    Client(&'static Dialect, #[source] reqwest::Error),
    /// Docker refused, or can't be reached.
    #[error("{}", no_answer("Docker's daemon", .0))]
    Docker(#[from] bollard::errors::Error),
    /// The HTTP client for Docker can't be made.
    #[error("Docker's client: {}", with_causes(.0))]
    DockerClient(#[source] reqwest::Error),
    /// This host's own addresses can't be read.
    #[error("this host's addresses and routes: {0}")]
    Host(#[source] io::Error),
    /// No answer within the time that a healthy server needs many times over.
    #[error("no answer within {0} s")]
    Timeout(u64),
    /// Docker's stream of events has ended: its daemon stops or restarts.
    #[error("the stream of events has ended")]
    StreamEnded,
    /// The agent can't be reached, or the answer broke off.
    #[error("{}", no_answer(&format!("{}'s agent", .0.title), .1))]
    Http(&'static Dialect, #[source] reqwest::Error),
    /// It answered with another status than 200.
    #[error("{status} {line}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// The first line of the body.
        line: String,
    },
    /// The answer is larger than anything that is meant.
    #[error("an answer of more than {0} MiB")]
    TooLarge(usize),
    /// The answer lacks what every answer has.
    #[error("{}: is {} the address of a {} agent?", .1, .0.address, .0.title)]
    Lacks(&'static Dialect, &'static str),
    /// The answer is not the JSON that the API's documentation promises.
    #[error("an answer that is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A server answered that is cut off from its leader: it may know nothing.
    #[error("the {} servers have no leader", .0.title)]
    NoLeader(&'static Dialect),
    /// The agent was away, and its servers forgot what is registered with it; it tells them anew in a moment.
    #[error("the catalogue lacks service {0}, which this node's agent has: they are out of step")]
    OutOfStep(String),
    /// The token sees nothing of what was asked.
    #[error("Consul's ACLs held back the whole answer: the token needs service:read and node:read")]
    Filtered,
}
