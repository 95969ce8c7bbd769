//! What can go wrong with a source.

use std::path::PathBuf;

use thiserror::Error;

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
    #[error("Consul's client: {} (check CONSUL_CACERT, CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY)", with_causes(.0))]
    Client(#[source] reqwest::Error),
    /// Docker refused, or can't be reached.
    #[error("{}", no_answer("Docker's daemon", .0))]
    Docker(#[from] bollard::errors::Error),
    /// No answer within the time that a healthy server needs many times over.
    #[error("no answer within {0} s")]
    Timeout(u64),
    /// Docker's stream of events has ended: its daemon stops or restarts.
    #[error("the stream of events has ended")]
    StreamEnded,
    /// Consul can't be reached, or the answer broke off.
    #[error("{}", no_answer("Consul's agent", .0))]
    Http(#[from] reqwest::Error),
    /// Consul answered with another status than 200.
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
    /// The answer lacks what every answer of Consul's catalogue has.
    #[error("{0}: is CONSUL_HTTP_ADDR the address of a Consul agent?")]
    NotConsul(&'static str),
    /// The answer is not the JSON that the API's documentation promises.
    #[error("an answer that is not understood: {0}")]
    Json(#[from] serde_json::Error),
    /// A server answered that is cut off from its leader: it may know nothing.
    #[error("the Consul servers have no leader")]
    NoLeader,
    /// The agent was away, and its servers forgot what is registered with it; it tells them anew in a moment.
    #[error("the catalogue lacks service {0}, which this node's agent has: they are out of step")]
    OutOfStep(String),
    /// The token sees nothing of what was asked.
    #[error("Consul's ACLs held back the whole answer: the token needs service:read and node:read")]
    Filtered,
}
