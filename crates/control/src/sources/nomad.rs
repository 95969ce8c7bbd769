//! Nomad as a source: the allocations of this node with what their jobs ask for, Nomad's own services, and where allocations on
//! other nodes are that services belong to.
//!
//! Everything comes by blocking queries to the local agent, one for the node and one for each wanted service and namespace; not by
//! the event stream, which would carry the whole cluster's events to every host, and no job in an allocation's.

mod addresses;
mod answers;
mod config;
mod elsewhere;
mod interpolate;
mod job;
mod store;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::AtomicU64},
};

use steppe_model::ServiceName;
use tokio::{
    sync::{Semaphore, mpsc, watch as state},
    time::{Instant, sleep_until},
};
use tracing::warn;

pub use config::NomadConfig;

use self::{
    addresses::Addresses,
    elsewhere::Questions,
    watch::{News, Query, Report, Watch},
};
use super::{Source, SourceError, Unheard};
use crate::observe::{Alloc, Instance, Observation, SourceName};

/// Nomad's agent lets one address have 100 connections (`limits.http_max_conns_per_client`), and people use it too.
const CONNECTIONS: usize = 80;
/// Reports that wait to be told on.
const REPORTS: usize = 64;

/// What control tells the source.
#[derive(Debug)]
pub struct NomadInputs {
    /// Services whose instances are told.
    pub wanted: state::Receiver<BTreeSet<ServiceName>>,
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
        let addresses = Addresses::new(config.cni_networks.clone(), inputs.ports_known);
        let mut follower = Follower {
            questions: Questions::new(config.clone()),
            config,
            wanted: inputs.wanted,
            turns: Arc::new(Semaphore::new(CONNECTIONS)),
            watches: BTreeMap::new(),
            reports,
            addresses,
            allocs: Vec::new(),
            told_allocs: None,
            namespaces: BTreeSet::new(),
            native: true,
            told_services: BTreeMap::new(),
            state: Told::Nothing,
            sink,
        };
        let Unheard = follower.follow(inbox, inputs.wanted_allocs, inputs.reread).await;
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
    failure: Option<String>,
    /// What a service's watch was last told.
    instances: Option<Vec<Instance>>,
}

struct Follower {
    config: NomadConfig,
    wanted: state::Receiver<BTreeSet<ServiceName>>,
    turns: Arc<Semaphore>,
    watches: BTreeMap<Query, Watched>,
    reports: mpsc::Sender<Report>,
    questions: Questions,
    addresses: Addresses,
    /// The last answer, before addresses.
    allocs: Vec<Alloc>,
    told_allocs: Option<Vec<Arc<Alloc>>>,
    namespaces: BTreeSet<Arc<str>>,
    /// Whether the servers know services of their own.
    native: bool,
    told_services: BTreeMap<ServiceName, Vec<Instance>>,
    state: Told,
    sink: mpsc::Sender<Observation>,
}

impl Follower {
    async fn follow(
        &mut self,
        mut inbox: mpsc::Receiver<Report>,
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
        let names = self.wanted.borrow_and_update().clone();
        let mut queries = BTreeSet::from([Query::Allocs, Query::Namespaces]);
        if self.native {
            for name in names {
                let of = |namespace: &Arc<str>| Query::Service(name.clone(), namespace.clone());
                queries.extend(self.namespaces.iter().map(of));
            }
        }
        self.watches.retain(|query, _| queries.contains(query));
        for query in queries {
            let (config, turns, reports) = (&self.config, &self.turns, &self.reports);
            self.watches.entry(query).or_insert_with_key(|query| Watched {
                watch: Watch::start(query.clone(), config.clone(), turns.clone(), reports.clone()),
                failure: None,
                instances: None,
            });
        }
    }

    async fn take_in(&mut self, report: Report) -> Result<(), Unheard> {
        let Report { query, number, outcome } = report;
        // A watch that has been ended may have left a report behind.
        let Some(watched) = self.watches.get_mut(&query).filter(|w| w.watch.number == number) else {
            return Ok(());
        };
        let unknown = matches!(outcome, Err(SourceError::Status { status: 404, .. }));
        if unknown && matches!(query, Query::Service(..)) {
            warn!("this Nomad has no services of its own (it is older than 1.3): only Consul's count");
            self.native = false;
            self.watch_wanted();
            return self.tell_services().await;
        }
        let failed_before = watched.failure.take().is_some();
        let read = outcome.and_then(|News { body, env }| {
            match query {
                Query::Allocs => self.allocs = answers::allocs(&body, &env)?,
                Query::Namespaces => self.namespaces = answers::namespaces(&body)?.into_iter().collect(),
                Query::Service(..) => watched.instances = Some(answers::instances(&body)?),
            }
            Ok(())
        });
        if let Err(error) = read {
            watched.failure = Some(error.to_string());
            return Ok(());
        }
        match query {
            Query::Allocs => {
                // Another server may answer now.
                self.native |= failed_before;
                self.addresses.begin(&self.allocs);
                self.told_allocs.get_or_insert_default();
                self.watch_wanted();
                self.tell_allocs().await
            }
            Query::Namespaces => {
                self.watch_wanted();
                self.tell_services().await
            }
            Query::Service(..) => self.tell_services().await,
        }
    }

    /// Tells the allocations if they or their addresses have changed.
    async fn tell_allocs(&mut self) -> Result<(), Unheard> {
        let Some(before) = &self.told_allocs else { return Ok(()) };
        let mut known: BTreeMap<_, _> =
            before.iter().map(|alloc| (alloc.id.clone(), alloc.clone())).collect();
        let now: Vec<_> = self.addresses.fill(&self.allocs);
        let now: Vec<Arc<Alloc>> = now
            .into_iter()
            .map(|alloc| {
                known.remove(&alloc.id).filter(|old| **old == alloc).unwrap_or_else(|| Arc::new(alloc))
            })
            .collect();
        if *before == now && self.state != Told::Nothing {
            return Ok(());
        }
        self.sink.send(Observation::Allocs(now.clone())).await?;
        self.told_allocs = Some(now);
        Ok(())
    }

    /// Tells the services of which every namespace has answered.
    async fn tell_services(&mut self) -> Result<(), Unheard> {
        let wanted = self.wanted.borrow().clone();
        self.told_services.retain(|name, _| wanted.contains(name));
        if self.native && self.namespaces.is_empty() {
            return Ok(());
        }
        for name in wanted {
            let of_name =
                self.watches.iter().filter(|(query, _)| matches!(query, Query::Service(n, _) if *n == name));
            let all: Option<Vec<&Vec<Instance>>> =
                of_name.map(|(_, watched)| watched.instances.as_ref()).collect();
            let Some(all) = all else { continue };
            let now: Vec<_> = all.into_iter().flatten().cloned().collect();
            if self.told_services.get(&name) != Some(&now) {
                self.sink.send(Observation::Instances(SourceName::Nomad, name.clone(), now.clone())).await?;
                self.told_services.insert(name, now);
            }
        }
        Ok(())
    }

    /// Live means that this node's allocations were told and that no watch is failing.
    async fn tell_state(&mut self) -> Result<(), Unheard> {
        let failure =
            self.watches.iter().find_map(|(query, watched)| Some((query, watched.failure.as_ref()?)));
        let now = match failure {
            Some((Query::Service(name, namespace), error)) => {
                Told::Failed(format!("service {name} in namespace {namespace}: {error}"))
            }
            Some((_, error)) => Told::Failed(error.clone()),
            None if self.told_allocs.is_some() => Told::Live,
            None => return Ok(()),
        };
        if now == self.state {
            return Ok(());
        }
        let fact = match &now {
            Told::Failed(error) => {
                warn!(%error, "nomad failed; what it said before still counts, and it is tried again");
                Observation::Failed(SourceName::Nomad, error.clone())
            }
            Told::Live | Told::Nothing => Observation::Live(SourceName::Nomad),
        };
        self.sink.send(fact).await?;
        self.state = now;
        Ok(())
    }
}
