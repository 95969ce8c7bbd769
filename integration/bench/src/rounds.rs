//! Which cases are measured, and for how long: the same for everybody who measures in rounds.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct Options {
    /// Rounds; each measures everybody once
    #[arg(long, default_value_t = 15)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 1.0)]
    pub seconds: f64,
    /// Only these cases, by the first words of their names; repeat it for several
    #[arg(long)]
    only: Vec<String>,
}

impl Options {
    /// How long each measurement takes.
    pub fn time(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// The cases that are wanted.
    ///
    /// # Errors
    /// When there is none with such a name.
    pub fn choose<C: Copy>(&self, cases: &[C], name: impl Fn(&C) -> &'static str) -> Result<Vec<C>> {
        let wanted = |case: &C| {
            self.only.is_empty() || self.only.iter().any(|only| name(case).starts_with(only.as_str()))
        };
        let chosen: Vec<C> = cases.iter().copied().filter(wanted).collect();
        let names: Vec<_> = cases.iter().map(&name).collect();
        ensure!(!chosen.is_empty(), "no case has such a name: {names:?}");
        Ok(chosen)
    }
}
