//! Logs: `tracing` on stderr, filtered by `RUST_LOG`.

use std::io::{IsTerminal as _, stderr};

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt};

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
    pub fn start(&self) {
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let builder = fmt().with_env_filter(filter).with_writer(stderr).with_target(false);
        match self.log_format {
            LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
            LogFormat::Json => builder.json().init(),
        }
    }
}
