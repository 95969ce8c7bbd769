//! Logs: `tracing` on stderr, filtered by `RUST_LOG`.

use std::{
    env::{self, VarError},
    io::{IsTerminal as _, stderr},
};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt};

use crate::Failure;

const VARIABLE: &str = "RUST_LOG";

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The logging flags.
#[derive(Debug, Clone, Args)]
pub struct Logging {
    /// How log lines look; RUST_LOG chooses which there are (default: info)
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

impl Logging {
    /// Starts logging. Call it once, before anything that logs.
    ///
    /// # Errors
    /// When `RUST_LOG` makes no sense.
    pub fn start(&self) -> Result<(), Failure> {
        let filter = filter(env::var(VARIABLE))?;
        let builder = fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
        match self.log_format {
            LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
            LogFormat::Json => builder.json().init(),
        }
        Ok(())
    }
}

/// What `RUST_LOG` lets through. A typing mistake in it must not cost the very lines that somebody looks for.
fn filter(variable: Result<String, VarError>) -> Result<EnvFilter, Failure> {
    let wrong = |text: &str, why: &str| {
        Failure::usage(format!(
            "{VARIABLE}: `{text}`: {why}; write error, warn, info, debug or trace, or several TARGET=LEVEL, such as \
             info,steppe_control=debug"
        ))
    };
    match variable {
        Err(VarError::NotPresent) => Ok(EnvFilter::new("info")),
        Err(VarError::NotUnicode(text)) => Err(wrong(&text.to_string_lossy(), "it is no text")),
        Ok(text) if text.trim().is_empty() => Ok(EnvFilter::new("info")),
        Ok(text) => EnvFilter::try_new(&text).map_err(|error| wrong(&text, &error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        for good in ["", "debug", "info,steppe_control=debug,h2=off"] {
            assert!(filter(Ok(good.into())).is_ok(), "{good}");
        }
        assert!(filter(Err(VarError::NotPresent)).is_ok());
        for bad in ["steppe=loud", "a=b=c"] {
            assert!(matches!(filter(Ok(bad.into())), Err(Failure::Usage(_))), "{bad}");
        }
    }
}
