//! How each source is doing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::observe::{Observation, SourceName};

/// Whether a source can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Not listed in full yet.
    Starting,
    /// It answers.
    Live,
    /// It fails; what it last said is kept.
    Stale,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceHealth {
    /// Whether it can be believed.
    pub state: SourceState,
    /// Why it failed last; empty when it never did.
    pub last_error: String,
    failing_since: Option<Instant>,
}

impl SourceHealth {
    /// How old the newest of what it said may be: nothing while it is live.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.failing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// The sources that are on.
#[derive(Debug)]
pub struct SourcesBoard(BTreeMap<SourceName, SourceHealth>);

impl SourcesBoard {
    /// None of them has answered.
    pub fn new(sources: impl IntoIterator<Item = SourceName>) -> Self {
        let starting =
            SourceHealth { state: SourceState::Starting, last_error: String::new(), failing_since: None };
        Self(sources.into_iter().map(|name| (name, starting.clone())).collect())
    }

    /// Takes note of what a source tells.
    pub fn note(&mut self, observation: &Observation, now: Instant) {
        match observation {
            // A full listing is one, also when something else of that source fails.
            Observation::Containers(_) => self.listed(SourceName::Docker),
            Observation::Registrations { .. } => self.listed(SourceName::Consul),
            Observation::Allocs(_) => self.listed(SourceName::Nomad),
            Observation::Live(name) => {
                if let Some(health) = self.0.get_mut(name) {
                    health.state = SourceState::Live;
                    health.failing_since = None;
                }
            }
            Observation::Failed(name, error) => {
                if let Some(health) = self.0.get_mut(name) {
                    if health.state == SourceState::Live {
                        health.state = SourceState::Stale;
                    }
                    health.failing_since.get_or_insert(now);
                    health.last_error.clone_from(error);
                }
            }
            _ => {}
        }
    }

    fn listed(&mut self, name: SourceName) {
        if let Some(health) = self.0.get_mut(&name).filter(|health| health.state == SourceState::Starting) {
            health.state = match health.failing_since {
                None => SourceState::Live,
                Some(_) => SourceState::Stale,
            };
        }
    }

    /// Whether each has been listed in full.
    #[must_use]
    pub fn all_listed(&self) -> bool {
        self.0.values().all(|health| health.state != SourceState::Starting)
    }

    /// Whether this source is on.
    #[must_use]
    pub fn has(&self, name: SourceName) -> bool {
        self.0.contains_key(&name)
    }

    /// The sources that are on.
    pub fn iter(&self) -> impl Iterator<Item = (SourceName, &SourceHealth)> {
        self.0.iter().map(|(name, health)| (*name, health))
    }
}
