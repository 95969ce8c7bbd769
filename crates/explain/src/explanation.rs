//! The judgement: a verdict, and the links that lead to it.

use serde::Serialize;

/// May the workload reach the service, and does it?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It may, and everything for it is in force.
    Yes,
    /// It may not.
    Refused,
    /// The question makes no sense.
    Usage,
    /// It may, and something is broken.
    Broken,
    /// What would be needed to know could not be asked.
    Unknown,
}

impl Verdict {
    /// The exit code of `steppe explain`.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Broken => 3,
            Self::Unknown => 4,
        }
    }
}

/// What is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// In a few words, for the first line: `no grant`.
    pub summary: String,
    /// What to do; done, it makes the traffic flow, if this is all that is broken.
    pub fix: String,
}

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It does not keep anything from working now; what it says is worth knowing all the same.
    Watched(Fault),
    /// Policy says no: the links behind it are of no interest.
    Refused(Fault),
    /// Broken.
    Broken(Fault),
    /// It can't be seen, or waits for another link.
    Unknown(Fault),
}

/// One link of the chain from a workload to a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// Such as `grant`.
    pub name: &'static str,
    /// How it is.
    #[serde(flatten)]
    pub state: State,
    /// What was seen.
    pub text: String,
}

impl Link {
    /// A link that is as it should be.
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, state: State::Ok, text: text.into() }
    }

    /// A link that works, and has something to be known about it.
    pub(crate) fn watched(
        name: &'static str,
        summary: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Watched(Fault::new(summary, fix)), text: text.into() }
    }

    /// A link where policy says no.
    pub(crate) fn refused(
        name: &'static str,
        summary: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Refused(Fault::new(summary, fix)), text: text.into() }
    }

    /// A broken link.
    pub(crate) fn broken(
        name: &'static str,
        summary: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Broken(Fault::new(summary, fix)), text: text.into() }
    }

    /// A link that can't be judged.
    pub(crate) fn unknown(
        name: &'static str,
        summary: impl Into<String>,
        text: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { name, state: State::Unknown(Fault::new(summary, fix)), text: text.into() }
    }

    /// What is wrong with it, if it is not ok.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        match &self.state {
            State::Ok => None,
            State::Watched(fault) | State::Refused(fault) | State::Broken(fault) | State::Unknown(fault) => {
                Some(fault)
            }
        }
    }
}

impl Fault {
    fn new(summary: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { summary: summary.into(), fix: fix.into() }
    }
}

/// Why a workload may or may not reach a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The answer.
    pub verdict: Verdict,
    /// Who: `api 3f2a19c0 (172.26.64.9, alice)`; as it was asked for when it is not known.
    pub workload: String,
    /// What: `alice/web:80`; as it was asked for when it is not known.
    pub service: String,
    /// Why the answer is not yes, in a few words.
    pub reason: Option<String>,
    /// From the grant to the endpoints.
    pub links: Vec<Link>,
}
