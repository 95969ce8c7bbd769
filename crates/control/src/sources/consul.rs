//! Consul as a source: what is registered on this node, and the instances of the services that are wanted.
//!
//! Everything comes by blocking queries to the local agent
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>), one for the node and one for each wanted
//! service, and each fails and recovers alone. Names are compared as Consul's catalogue does it, without regard to
//! case: `web` finds what is registered as `Web`.

mod answers;
mod config;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::ServiceName;
use tokio::sync::{mpsc, watch as state};
use tracing::warn;

pub(in crate::sources) use config::CONSUL;
pub use config::ConsulConfig;

use self::watch::{Outcome, Own, Query, Report, Turns, Watch};
use super::{Source, Unheard, http::Client};
use crate::observe::{Observation, SourceName};

/// Consul's agent lets one address have 200 connections (`limits.http_max_conns_per_client`), and Nomad, health checks
/// and people use the same address; so we keep to half of them.
const CONNECTIONS: usize = 100;
/// Reports that wait to be told on.
const REPORTS: usize = 64;

/// The Consul agent of this host.
#[derive(Debug)]
pub struct ConsulSource {
    client: Arc<Client>,
    wanted: state::Receiver<BTreeSet<ServiceName>>,
}

impl ConsulSource {
    /// `wanted` are the services whose instances are told.
    #[must_use]
    pub fn new(config: ConsulConfig, wanted: state::Receiver<BTreeSet<ServiceName>>) -> Self {
        Self { client: config.client, wanted }
    }
}

impl Source for ConsulSource {
    fn name(&self) -> SourceName {
        SourceName::Consul
    }

    async fn run(self, sink: mpsc::Sender<Observation>) {
        let (reports, inbox) = mpsc::channel(REPORTS);
        let follower = Follower {
            client: self.client,
            wanted: self.wanted,
            turns: Turns::new(CONNECTIONS),
            own: Own::new(None),
            watches: BTreeMap::new(),
            reports,
            state: Told::Nothing,
            sink,
        };
        let Unheard = follower.follow(inbox).await;
    }
}

/// What was last told of the source itself.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Live,
    Failed(String),
}

/// A watch, and how it does.
#[derive(Debug)]
struct Watched {
    watch: Watch,
    answered: bool,
    failure: Option<String>,
}

struct Follower {
    client: Arc<Client>,
    wanted: state::Receiver<BTreeSet<ServiceName>>,
    turns: Turns,
    own: Own,
    watches: BTreeMap<Query, Watched>,
    reports: mpsc::Sender<Report>,
    state: Told,
    sink: mpsc::Sender<Observation>,
}

impl Follower {
    async fn follow(mut self, mut inbox: mpsc::Receiver<Report>) -> Unheard {
        self.watch_wanted();
        let mut wishes_end = false;
        loop {
            let told = tokio::select! {
                Some(report) = inbox.recv() => self.take_in(report).await,
                changed = self.wanted.changed(), if !wishes_end => {
                    wishes_end = changed.is_err();
                    self.watch_wanted();
                    self.tell_state().await
                }
                () = self.sink.closed() => Err(Unheard),
            };
            if let Err(unheard) = told {
                return unheard;
            }
        }
    }

    /// Starts the watches that are missing and ends those that aren't wanted any more.
    fn watch_wanted(&mut self) {
        let services = self.wanted.borrow_and_update().clone().into_iter().map(Query::Service);
        let wanted: BTreeSet<_> = std::iter::once(Query::Node).chain(services).collect();
        self.turns.share_among(wanted.len());
        self.watches.retain(|query, _| wanted.contains(query));
        for query in wanted {
            let (client, turns, own, reports) = (&self.client, &self.turns, &self.own, &self.reports);
            self.watches.entry(query).or_insert_with_key(|query| Watched {
                watch: Watch::start(
                    query.clone(),
                    client.clone(),
                    turns.clone(),
                    own.clone(),
                    reports.clone(),
                ),
                answered: false,
                failure: None,
            });
        }
    }

    async fn take_in(&mut self, report: Report) -> Result<(), Unheard> {
        // A watch that has been ended may have left a report behind.
        let watched = self.watches.get_mut(&report.query).filter(|w| w.watch.number() == report.number);
        let Some(watched) = watched else { return Ok(()) };
        let fact = match report.outcome {
            Outcome::Failed(error) => {
                watched.failure = Some(error);
                None
            }
            Outcome::Same => {
                watched.failure = None;
                None
            }
            Outcome::Changed(fact) => {
                watched.failure = None;
                watched.answered = true;
                Some(fact)
            }
        };
        if let Some(fact) = fact {
            self.sink.send(fact).await?;
        }
        self.tell_state().await
    }

    /// Live means that this node's registrations were told and that no watch is failing.
    async fn tell_state(&mut self) -> Result<(), Unheard> {
        let failure =
            self.watches.iter().find_map(|(query, watched)| Some((query, watched.failure.as_ref()?)));
        let now = match failure {
            Some((query, error)) => Told::Failed(match query {
                Query::Node => error.clone(),
                Query::Service(name) => format!("service {name}: {error}"),
            }),
            None if self.watches.get(&Query::Node).is_some_and(|watched| watched.answered) => Told::Live,
            None => return Ok(()),
        };
        if now == self.state {
            return Ok(());
        }
        let fact = match &now {
            Told::Failed(error) => {
                warn!(%error, "consul failed; what it said before still counts, and it is tried again");
                Observation::Failed(SourceName::Consul, error.clone())
            }
            Told::Live | Told::Nothing => Observation::Live(SourceName::Consul),
        };
        self.sink.send(fact).await?;
        self.state = now;
        Ok(())
    }
}
