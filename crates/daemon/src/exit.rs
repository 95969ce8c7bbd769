//! How a process fails: one line on stderr, and an exit code that says whose move it is.

use std::{error::Error, process::ExitCode};

/// Why a process ends before its time.
#[derive(Debug)]
pub enum Failure {
    /// A flag or a variable makes no sense: exit code 2, before anything is bound.
    Usage(Box<dyn Error + Send + Sync>),
    /// Anything else: exit code 1.
    Other(Box<dyn Error + Send + Sync>),
}

impl Failure {
    /// A flag or a variable makes no sense.
    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Usage(error.into())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Says what failed, with its causes, and gives the exit code.
#[must_use]
pub fn exit(result: Result<(), Failure>) -> ExitCode {
    let (error, code) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, 2),
        Err(Failure::Other(error)) => (error, 1),
    };
    let mut line = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    eprintln!("{line}");
    ExitCode::from(code)
}
