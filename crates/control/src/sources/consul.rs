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
    num::NonZeroUsize,
    sync::Arc,
};

use steppe_model::ServiceName;
use tokio::sync::{mpsc, watch as state};

pub(in crate::sources) use config::CONSUL;
pub use config::ConsulConfig;

use self::watch::{Asker, Found, Own, Query};
use super::{
    Source, Unheard,
    condition::Condition,
    http::{
        Client, Turns,
        watch::{Outcome, Report, Watch},
    },
};
use crate::observe::{Observation, SourceName};

/// Reports that wait to be told on.
const REPORTS: usize = 64;

/// The Consul agent of this host.
#[derive(Debug)]
pub struct ConsulSource {
    client: Arc<Client>,
    wanted: state::Receiver<BTreeSet<ServiceName>>,
    connections: NonZeroUsize,
}

impl ConsulSource {
    /// `wanted` are the services whose instances are told. With more of them than `connections` they take turns.
    #[must_use]
    pub fn new(
        config: ConsulConfig,
        wanted: state::Receiver<BTreeSet<ServiceName>>,
        connections: NonZeroUsize,
    ) -> Self {
        Self { client: config.client, wanted, connections }
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
            turns: Turns::new(CONSUL.title, self.connections.get()),
            own: Own::new(None),
            watches: BTreeMap::new(),
            failures: BTreeMap::new(),
            reports,
            condition: Condition::new(SourceName::Consul),
            sink,
        };
        let Unheard = follower.follow(inbox).await;
    }
}

/// A watch, and how it does.
#[derive(Debug)]
struct Watched {
    watch: Watch,
    answered: bool,
}

struct Follower {
    client: Arc<Client>,
    wanted: state::Receiver<BTreeSet<ServiceName>>,
    turns: Turns,
    own: Own,
    watches: BTreeMap<Query, Watched>,
    /// Why watches fail, of those that do.
    failures: BTreeMap<Query, String>,
    reports: mpsc::Sender<Report<Query, Found>>,
    condition: Condition,
    sink: mpsc::Sender<Observation>,
}

impl Follower {
    async fn follow(mut self, mut inbox: mpsc::Receiver<Report<Query, Found>>) -> Unheard {
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
        // The node's has a connection of its own.
        self.turns.share_among(wanted.len() - 1);
        self.watches.retain(|query, _| wanted.contains(query));
        self.failures.retain(|query, _| wanted.contains(query));
        for query in wanted {
            self.watches.entry(query).or_insert_with_key(|query| {
                let asker =
                    Asker::new(query.clone(), self.client.clone(), self.turns.clone(), self.own.clone());
                Watched { watch: Watch::start(query.clone(), asker, self.reports.clone()), answered: false }
            });
        }
    }

    async fn take_in(&mut self, report: Report<Query, Found>) -> Result<(), Unheard> {
        // A watch that has been ended may have left a report behind.
        let watched = self.watches.get_mut(&report.query).filter(|w| w.watch.number() == report.number);
        let Some(watched) = watched else { return Ok(()) };
        self.failures.remove(&report.query);
        match report.outcome {
            Outcome::Failed(error) => drop(self.failures.insert(report.query, error.to_string())),
            Outcome::Same => {}
            Outcome::Changed(Found { node, instances }) => {
                watched.answered = true;
                let fact = match report.query {
                    Query::Node => Observation::Registrations { node: node.unwrap_or_default(), instances },
                    Query::Service(name) => Observation::Instances(SourceName::Consul, name, instances),
                };
                self.sink.send(fact).await?;
            }
        }
        self.tell_state().await
    }

    /// Live means that this node's registrations were told and that no watch is failing.
    async fn tell_state(&mut self) -> Result<(), Unheard> {
        let failure = self.failures.first_key_value().map(|(query, error)| match query {
            Query::Node => error.clone(),
            Query::Service(name) => format!("service {name}: {error}"),
        });
        let is_listed = self.watches.get(&Query::Node).is_some_and(|watched| watched.answered);
        self.condition.tell(is_listed, failure, &self.sink).await
    }
}
