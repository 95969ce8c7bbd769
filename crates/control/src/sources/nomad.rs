//! Nomad as a source: the allocations of this node with what their jobs ask for, Nomad's own services, and where allocations on
//! other nodes are that services belong to.
//!
//! Everything comes by blocking queries to the local agent, one for the node and one for each service that is wanted of a user; not by
//! the event stream, which would carry the whole cluster's events to every host, and no job in an allocation's.

mod addresses;
mod answers;
mod config;
mod elsewhere;
mod interpolate;
mod job;
mod store;
mod tenants;
mod watch;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use steppe_model::{ServiceName, UserName};
use tokio::{
    sync::{mpsc, watch as state},
    time::{Instant, sleep_until},
};
use tracing::warn;

pub use config::NomadConfig;

use self::{
    addresses::Addresses,
    config::NOMAD,
    elsewhere::Questions,
    tenants::Tenants,
    watch::{Asker, Found, Query},
};
use super::{
    Source, SourceError, Unheard,
    condition::Condition,
    http::{
        Turns,
        watch::{Outcome, Report, Watch},
    },
};
use crate::observe::{Alloc, Instance, Observation, SourceName};

/// Nomad's agent lets one address have 100 connections (`limits.http_max_conns_per_client`), and people use it too.
const CONNECTIONS: usize = 80;
/// Reports that wait to be told on.
const REPORTS: usize = 64;

/// What control tells the source.
#[derive(Debug)]
pub struct NomadInputs {
    /// Services whose instances are told, each with the users whose it may be: they are looked for in those namespaces alone.
    pub wanted: state::Receiver<BTreeMap<ServiceName, BTreeSet<UserName>>>,
    /// Users whose services are told.
    pub services_of: state::Receiver<BTreeSet<UserName>>,
    /// Allocations on other nodes that are told.
    pub wanted_allocs: state::Receiver<BTreeSet<Arc<str>>>,
    /// Counts the changes of bridge ports that control has taken in: it is read before an address is.
    pub ports_known: Arc<AtomicU64>,
    /// Wishes to read an allocation's address again.
    pub reread: mpsc::Receiver<Arc<str>>,
}

/// The Nomad client of this host.
#[derive(Debug)]
pub struct NomadSource {
    config: NomadConfig,
    inputs: NomadInputs,
}

impl NomadSource {
    /// A source that asks as `config` says.
    #[must_use]
    pub fn new(config: NomadConfig, inputs: NomadInputs) -> Self {
        Self { config, inputs }
    }
}

impl Source for NomadSource {
    fn name(&self) -> SourceName {
        SourceName::Nomad
    }

    async fn run(self, sink: mpsc::Sender<Observation>) {
        let (reports, inbox) = mpsc::channel(REPORTS);
        let Self { config, inputs } = self;
        let tenants = Tenants::new(config.clone(), inputs.services_of, sink.clone());
        let addresses = Addresses::new(config.cni_networks.clone(), inputs.ports_known);
        let mut follower = Follower {
            questions: Questions::new(config.clone()),
            config,
            wanted: inputs.wanted,
            turns: Turns::new(NOMAD.title, CONNECTIONS),
            watches: BTreeMap::new(),
            reports,
            addresses,
            allocs: None,
            told_allocs: None,
            native: true,
            told_services: BTreeMap::new(),
            condition: Condition::new(SourceName::Nomad),
            sink,
        };
        let follow = follower.follow(inbox, inputs.wanted_allocs, inputs.reread);
        // Both end when nobody listens any more.
        tokio::join!(follow, tenants.follow());
    }
}

/// A watch, and how it does.
#[derive(Debug)]
struct Watched {
    watch: Watch,
    failure: Option<String>,
    /// What a service's watch was last told; nothing where the token may not look.
    instances: Option<Vec<Instance>>,
}

struct Follower {
    config: NomadConfig,
    wanted: state::Receiver<BTreeMap<ServiceName, BTreeSet<UserName>>>,
    turns: Turns,
    watches: BTreeMap<Query, Watched>,
    reports: mpsc::Sender<Report<Query, Found>>,
    questions: Questions,
    addresses: Addresses,
    /// The last answer, before addresses; `None` until there was one.
    allocs: Option<Vec<Alloc>>,
    told_allocs: Option<Vec<Arc<Alloc>>>,
    /// Whether the agent knows services of Nomad's own.
    native: bool,
    told_services: BTreeMap<ServiceName, Vec<Instance>>,
    condition: Condition,
    sink: mpsc::Sender<Observation>,
}

impl Follower {
    async fn follow(
        &mut self,
        mut inbox: mpsc::Receiver<Report<Query, Found>>,
        mut wanted_allocs: state::Receiver<BTreeSet<Arc<str>>>,
        mut reread: mpsc::Receiver<Arc<str>>,
    ) -> Unheard {
        self.watch_wanted();
        let (mut wishes, mut allocs, mut rereads) = (true, true, true);
        wanted_allocs.mark_changed();
        loop {
            let look = self.addresses.look_at();
            let told = tokio::select! {
                Some(report) = inbox.recv() => self.take_in(report).await,
                changed = self.wanted.changed(), if wishes => {
                    wishes = changed.is_ok();
                    self.watch_wanted();
                    self.tell_services().await
                }
                changed = wanted_allocs.changed(), if allocs => {
                    allocs = changed.is_ok();
                    self.questions.want(&wanted_allocs.borrow_and_update().clone(), &self.sink);
                    Ok(())
                }
                id = reread.recv(), if rereads => {
                    rereads = id.is_some();
                    if let Some(id) = id {
                        self.addresses.forget(&id);
                    }
                    self.tell_allocs().await
                }
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => self.tell_allocs().await,
                () = self.sink.closed() => Err(Unheard),
            };
            let told = match told {
                Ok(()) => self.tell_state().await,
                unheard => unheard,
            };
            if let Err(unheard) = told {
                return unheard;
            }
        }
    }

    /// Starts the watches that are missing and ends those that aren't wanted any more.
    fn watch_wanted(&mut self) {
        let mut queries = BTreeSet::from([Query::Allocs]);
        if self.native {
            let wanted = self.wanted.borrow();
            let of_name = |(name, users): (&ServiceName, &BTreeSet<UserName>)| {
                let name = name.clone();
                users.clone().into_iter().map(move |user| Query::Service(name.clone(), user))
            };
            queries.extend(wanted.iter().flat_map(of_name));
        }
        // The node's has a connection of its own.
        self.turns.share_among(queries.len() - 1);
        self.watches.retain(|query, _| queries.contains(query));
        for query in queries {
            self.watches.entry(query).or_insert_with_key(|query| {
                let asker = Asker::new(query.clone(), self.config.clone(), self.turns.clone());
                let watch = Watch::start(query.clone(), asker, self.reports.clone());
                Watched { watch, failure: None, instances: None }
            });
        }
    }

    async fn take_in(&mut self, report: Report<Query, Found>) -> Result<(), Unheard> {
        let Report { query, number, outcome } = report;
        // A watch that has been ended may have left a report behind.
        let Some(watched) = self.watches.get_mut(&query).filter(|w| w.watch.number() == number) else {
            return Ok(());
        };
        let was_failing = watched.failure.take().is_some();
        let found = match outcome {
            Outcome::Failed(error) if query != Query::Allocs && is_no_native(&error) => {
                warn!(%error, "this Nomad has no services of its own (it is older than 1.3): only Consul's count");
                self.native = false;
                self.watch_wanted();
                return self.tell_services().await;
            }
            Outcome::Failed(error) => {
                watched.failure = Some(error.to_string());
                let SourceError::Status { status: 403, .. } = error else { return Ok(()) };
                // Nothing is to be seen there: whoever names such a namespace must not hold up the others.
                watched.instances.get_or_insert_default();
                return self.tell_service_of(&query).await;
            }
            Outcome::Changed(found) => Some(found),
            Outcome::Same => None,
        };
        if let Some(Found::Instances(instances)) = found {
            watched.instances = Some(instances);
            return self.tell_service_of(&query).await;
        }
        if query == Query::Allocs && was_failing && !self.native {
            // Another agent may answer now, and a newer one.
            self.native = true;
            self.watch_wanted();
        }
        if let Some(Found::Allocs(allocs)) = found {
            self.addresses.begin(&allocs);
            self.allocs = Some(allocs);
            self.tell_allocs().await?;
            return self.tell_services().await;
        }
        Ok(())
    }

    /// Tells the allocations if they or their addresses have changed.
    async fn tell_allocs(&mut self) -> Result<(), Unheard> {
        let Some(allocs) = &self.allocs else { return Ok(()) };
        let told = self.told_allocs.iter().flatten().cloned();
        let mut known: BTreeMap<_, _> = told.map(|alloc| (alloc.id.clone(), alloc)).collect();
        let now = self.addresses.fill(allocs).into_iter().map(|alloc| {
            known.remove(&alloc.id).filter(|old| **old == alloc).unwrap_or_else(|| Arc::new(alloc))
        });
        let now: Vec<_> = now.collect();
        if self.told_allocs.as_ref() != Some(&now) {
            self.sink.send(Observation::Allocs(now.clone())).await?;
            self.told_allocs = Some(now);
        }
        Ok(())
    }

    /// Tells every wanted service that can be told.
    async fn tell_services(&mut self) -> Result<(), Unheard> {
        let wanted: Vec<_> = self.wanted.borrow().keys().cloned().collect();
        self.told_services.retain(|name, _| wanted.binary_search(name).is_ok());
        for name in wanted {
            self.tell_service(&name).await?;
        }
        Ok(())
    }

    /// Tells the service that a query is about.
    async fn tell_service_of(&mut self, query: &Query) -> Result<(), Unheard> {
        match query {
            Query::Service(name, _) => self.tell_service(name).await,
            Query::Allocs => Ok(()),
        }
    }

    /// Tells a wanted service if every namespace has answered and it has changed. The allocations come first.
    async fn tell_service(&mut self, name: &ServiceName) -> Result<(), Unheard> {
        let users = self.wanted.borrow().get(name).cloned();
        let Some(users) = users.filter(|_| self.told_allocs.is_some()) else { return Ok(()) };
        let of_user = |user| self.watches.get(&Query::Service(name.clone(), user))?.instances.as_ref();
        let all: Option<Vec<_>> =
            if self.native { users.into_iter().map(of_user).collect() } else { Some(Vec::new()) };
        let Some(all) = all else { return Ok(()) };
        let now: Vec<_> = all.into_iter().flatten().cloned().collect();
        if self.told_services.get(name) != Some(&now) {
            self.sink.send(Observation::Instances(SourceName::Nomad, name.clone(), now.clone())).await?;
            self.told_services.insert(name.clone(), now);
        }
        Ok(())
    }

    /// Live means that this node's allocations were told and that no watch is failing.
    async fn tell_state(&mut self) -> Result<(), Unheard> {
        let failure = self.watches.iter().find_map(|(query, watched)| {
            let error = watched.failure.as_ref()?;
            Some(match query {
                Query::Allocs => error.clone(),
                Query::Service(name, user) => format!("service {name} in namespace {user}: {error}"),
            })
        });
        self.condition.tell(self.told_allocs.is_some(), failure, &self.sink).await
    }
}

/// Whether the agent, or the server that it asked, does not know the question: services came with 1.3. An agent of an older
/// version has no such path.
fn is_no_native(error: &SourceError) -> bool {
    match error {
        SourceError::Status { status: 404 | 300..=399, .. } => true,
        SourceError::Status { status: 500, line } => line.contains("rpc: can't find"),
        _ => false,
    }
}
