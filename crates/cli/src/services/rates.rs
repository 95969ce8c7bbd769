//! Counters, and how fast they grow.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use steppe_api::v1::ServiceKey;

use super::Agents;

/// How long is counted: long enough for a rate, short enough for a person.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

/// A service's counters, or how much they grow in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Numbers {
    /// Connections that the proxy accepted; unknown with the proxy down.
    pub(super) connections: Option<u64>,
    /// Packets for the virtual IP that were refused; unknown with the netfilter-agent down.
    pub(super) refused: Option<u64>,
}

type Counters = HashMap<ServiceKeyText, Numbers>;
type ServiceKeyText = String;

/// One or two readings of all counters.
#[derive(Debug)]
pub(super) struct Sampler {
    first: Counters,
    since: Instant,
    second: Option<(Counters, Duration)>,
}

impl Sampler {
    pub(super) fn new(agents: &Agents) -> Self {
        Self { first: read(agents), since: Instant::now(), second: None }
    }

    /// A later reading: from now on the numbers are rates.
    pub(super) fn again(&mut self, agents: &Agents) {
        self.second = Some((read(agents), self.since.elapsed()));
    }

    pub(super) fn has_rates(&self) -> bool {
        self.second.is_some()
    }

    pub(super) fn of(&self, service: &ServiceKey) -> Numbers {
        let key = steppe_explain::key(service);
        let first = self.first.get(&key).copied().unwrap_or_default();
        match &self.second {
            None => first,
            Some((second, elapsed)) => {
                let second = second.get(&key).copied().unwrap_or_default();
                Numbers {
                    connections: rate(first.connections, second.connections, *elapsed),
                    refused: rate(first.refused, second.refused, *elapsed),
                }
            }
        }
    }
}

/// A counter that shrank was started anew in between: all of it is growth.
fn rate(first: Option<u64>, second: Option<u64>, elapsed: Duration) -> Option<u64> {
    let (first, second) = (first.unwrap_or(0), second?);
    let growth = second.checked_sub(first).unwrap_or(second);
    Some((growth as f64 / elapsed.as_secs_f64().max(f64::EPSILON)).round() as u64)
}

fn read(agents: &Agents) -> Counters {
    let mut counters = Counters::new();
    for state in agents.proxy.iter().flat_map(|answer| &answer.listeners) {
        let Some(service) = state.listener.as_ref().and_then(|listener| listener.service.as_ref()) else {
            continue;
        };
        let numbers = counters.entry(steppe_explain::key(service)).or_default();
        numbers.connections = Some(numbers.connections.unwrap_or(0).saturating_add(state.accepted_total));
    }
    for state in agents.netfilter.iter().flat_map(|answer| &answer.vips) {
        let Some(service) = &state.service else { continue };
        let numbers = counters.entry(steppe_explain::key(service)).or_default();
        numbers.refused = Some(numbers.refused.unwrap_or(0).saturating_add(state.refused_total));
    }
    counters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_by_time() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(Some(10), Some(128), second), Some(118));
        assert_eq!(rate(Some(10), Some(110), second * 2), Some(50));
        assert_eq!(rate(None, Some(3), second), Some(3));
        assert_eq!(rate(Some(100), Some(7), second), Some(7));
        assert_eq!(rate(Some(1), None, second), None);
        assert_eq!(rate(Some(0), Some(u64::MAX), Duration::ZERO), Some(u64::MAX));
    }
}
