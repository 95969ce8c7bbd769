//! What the probe's lines say about connections that were tried again and again.

use std::collections::BTreeMap;

use steppe_testbed::{Attempt, Outcome};

/// Attempts, one after the other.
#[derive(Debug)]
pub struct Attempts(Vec<Attempt>);

impl Attempts {
    /// Reads lines of `probe connect`. The last may still be being written: what can't be read is left out.
    pub fn read(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// How often each instance answered.
    pub fn served(&self) -> BTreeMap<&str, usize> {
        let mut served = BTreeMap::new();
        for name in self.0.iter().filter_map(|attempt| attempt.outcome.name()) {
            *served.entry(name).or_default() += 1;
        }
        served
    }

    /// Those that nobody answered.
    pub fn failed(&self) -> impl Iterator<Item = &Attempt> {
        self.0.iter().filter(|attempt| !attempt.outcome.is_ok())
    }

    /// The first that was answered, with those before and after it.
    pub fn at_first_success(&self) -> Option<(&[Attempt], &Attempt, &[Attempt])> {
        let first = self.0.iter().position(|attempt| attempt.outcome.is_ok())?;
        Some((&self.0[..first], &self.0[first], &self.0[first + 1..]))
    }

    /// The only one.
    pub fn one(&self) -> Option<&Attempt> {
        match &self.0[..] {
            [attempt] => Some(attempt),
            _ => None,
        }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Whether it was answered by a reset, and how many milliseconds it took.
pub fn refusal(attempt: &Attempt) -> Option<f64> {
    (attempt.outcome == Outcome::Refused).then(|| attempt.took().as_secs_f64() * 1e3)
}
