//! The users that Nomad knows, which are its namespaces, and the services of those of them that have a member on this host: their
//! members may reach these without naming them.
//!
//! A service of Nomad's own is in Nomad's list of them; one that Nomad registers in Consul is known from its job alone, since Consul
//! knows no namespaces. A job is read again only when it was changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use steppe_model::{ServiceName, UserName};
use tokio::sync::{mpsc, watch as state};
use tracing::warn;

use super::{
    answers,
    config::{NOMAD, NomadConfig},
    is_no_native,
    watch::{AT_ONCE, DENIED, WAIT, ask, get, heard},
};
use crate::{
    observe::{Observation, SourceName},
    sources::{
        SourceError, Unheard,
        http::{
            Turns,
            pace::{self, Index},
            watch::{Heard, Outcome, Question, Report, Watch},
        },
    },
};

/// With those for allocations and services they are fewer than Nomad's agent lets one address have.
const CONNECTIONS: usize = 12;
/// Reports that wait to be told on.
const REPORTS: usize = 16;
/// Services of one user that are told: each costs every member of its network a grant.
const SERVICES: usize = 1_024;
/// The namespace that is there without anybody having made it.
const DEFAULT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Query {
    /// The namespaces.
    Users,
    /// Nomad's own services in one.
    Services(UserName),
    /// The jobs in one.
    Jobs(UserName),
}

/// By the job's id: the index at which it was last changed, and the names of its services.
type Jobs = BTreeMap<Arc<str>, (u64, BTreeSet<ServiceName>)>;

#[derive(Debug, Clone, PartialEq)]
enum Found {
    Users(BTreeSet<UserName>),
    Services(BTreeSet<ServiceName>),
    Jobs(Jobs),
}

struct Asker {
    query: Query,
    config: NomadConfig,
    turns: Turns,
}

impl Question for Asker {
    type Found = Found;

    async fn ask(&mut self, index: Index, known: Option<&Found>) -> Result<Heard<Found>, SourceError> {
        let (segments, user) = match &self.query {
            Query::Users => (["namespaces"], None),
            Query::Services(user) => (["services"], Some(user.as_str())),
            Query::Jobs(user) => (["jobs"], Some(user.as_str())),
        };
        let asked = |longest| ask(&self.config, &segments, user, index, longest);
        let answer = self.turns.take(WAIT, asked).await?;
        let found = match &self.query {
            Query::Users => Found::Users(users(answers::namespaces(&answer.body)?)),
            Query::Services(_) => Found::Services(names(answers::service_names(&answer.body)?)),
            Query::Jobs(user) => {
                let before = match known {
                    Some(Found::Jobs(before)) => Some(before),
                    _ => None,
                };
                Found::Jobs(self.read_jobs(user, answers::jobs(&answer.body)?, before).await?)
            }
        };
        heard(&answer, index, found)
    }

    fn failed(&mut self, error: &SourceError) -> Option<Duration> {
        is_nothing(error).then(|| pace::wait(DENIED, fastrand::f64()))
    }
}

impl Asker {
    /// Reads the jobs that are new or were changed.
    async fn read_jobs(
        &self,
        user: &UserName,
        jobs: BTreeMap<Arc<str>, u64>,
        before: Option<&Jobs>,
    ) -> Result<Jobs, SourceError> {
        let mut read = BTreeMap::new();
        for (id, changed) in jobs {
            let known = before.and_then(|before| before.get(&id)).filter(|(at, _)| *at == changed);
            let services = match known {
                Some((_, services)) => services.clone(),
                None => match get(&self.config, &["job", &id], Some(user.as_str()), "", AT_ONCE).await {
                    Ok(answer) => names(answers::services_of_job(&answer.body, &id, user.as_str())?),
                    // It went meanwhile.
                    Err(SourceError::Status { status: 404, .. }) => continue,
                    Err(error) => return Err(error),
                },
            };
            read.insert(id, (changed, services));
        }
        Ok(read)
    }
}

/// Nothing is to be seen: the token may not look, or this Nomad is too old for the question.
fn is_nothing(error: &SourceError) -> bool {
    matches!(error, SourceError::Status { status: 403, .. }) || is_no_native(error)
}

fn users(namespaces: Vec<String>) -> BTreeSet<UserName> {
    namespaces.iter().filter(|name| *name != DEFAULT).filter_map(|name| name.parse().ok()).collect()
}

fn names(names: Vec<String>) -> BTreeSet<ServiceName> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

struct Watched {
    watch: Watch,
    /// The last answer; empty where nothing is to be seen.
    found: Option<Found>,
    /// It was said that it fails.
    is_failing: bool,
}

pub(super) struct Tenants {
    config: NomadConfig,
    services_of: state::Receiver<BTreeSet<UserName>>,
    turns: Turns,
    watches: BTreeMap<Query, Watched>,
    told: BTreeMap<UserName, BTreeSet<ServiceName>>,
    sink: mpsc::Sender<Observation>,
}

impl Tenants {
    pub(super) fn new(
        config: NomadConfig,
        services_of: state::Receiver<BTreeSet<UserName>>,
        sink: mpsc::Sender<Observation>,
    ) -> Self {
        let turns = Turns::new(NOMAD.title, CONNECTIONS);
        Self { config, services_of, turns, watches: BTreeMap::new(), told: BTreeMap::new(), sink }
    }

    pub(super) async fn follow(mut self) -> Unheard {
        let (reports, mut inbox) = mpsc::channel(REPORTS);
        self.services_of.mark_changed();
        let mut wishes = true;
        loop {
            let told = tokio::select! {
                changed = self.services_of.changed(), if wishes => {
                    wishes = changed.is_ok();
                    self.watch_wanted(&reports);
                    Ok(())
                }
                Some(report) = inbox.recv() => self.take_in(report).await,
                () = self.sink.closed() => Err(Unheard),
            };
            if let Err(unheard) = told {
                return unheard;
            }
        }
    }

    fn watch_wanted(&mut self, reports: &mpsc::Sender<Report<Query, Found>>) {
        let wanted = self.services_of.borrow_and_update().clone();
        self.told.retain(|user, _| wanted.contains(user));
        let of_user = |user: UserName| [Query::Services(user.clone()), Query::Jobs(user)];
        let mut queries: BTreeSet<_> = wanted.into_iter().flat_map(of_user).collect();
        queries.insert(Query::Users);
        self.turns.share_among(queries.len());
        self.watches.retain(|query, _| queries.contains(query));
        for query in queries {
            self.watches.entry(query).or_insert_with_key(|query| {
                let (config, turns) = (self.config.clone(), self.turns.clone());
                let asker = Asker { query: query.clone(), config, turns };
                let watch = Watch::start(query.clone(), asker, reports.clone());
                Watched { watch, found: None, is_failing: false }
            });
        }
    }

    async fn take_in(&mut self, report: Report<Query, Found>) -> Result<(), Unheard> {
        let Report { query, number, outcome } = report;
        let Some(watched) = self.watches.get_mut(&query).filter(|w| w.watch.number() == number) else {
            return Ok(());
        };
        let nothing = || match query {
            Query::Users => Found::Users(BTreeSet::new()),
            Query::Services(_) => Found::Services(BTreeSet::new()),
            Query::Jobs(_) => Found::Jobs(BTreeMap::new()),
        };
        match outcome {
            Outcome::Changed(found) => {
                watched.is_failing = false;
                watched.found = Some(found);
            }
            Outcome::Same => {
                watched.is_failing = false;
                return Ok(());
            }
            Outcome::Failed(error) => {
                // Whether Nomad can be reached at all is the business of the query for this node.
                if !std::mem::replace(&mut watched.is_failing, true) {
                    warn!(%error, "Nomad does not tell {}", title(&query));
                }
                if !is_nothing(&error) {
                    return Ok(());
                }
                watched.found.get_or_insert_with(nothing);
            }
        }
        self.tell(&query).await
    }

    async fn tell(&mut self, query: &Query) -> Result<(), Unheard> {
        let user = match query {
            Query::Users => {
                if let Some(Found::Users(users)) = self.found(query) {
                    self.sink.send(Observation::Users(users.clone())).await?;
                }
                return Ok(());
            }
            Query::Services(user) | Query::Jobs(user) => user,
        };
        let (Some(Found::Services(native)), Some(Found::Jobs(jobs))) =
            (self.found(&Query::Services(user.clone())), self.found(&Query::Jobs(user.clone())))
        else {
            return Ok(());
        };
        let mut services = native.clone();
        services.extend(jobs.values().flat_map(|(_, services)| services).cloned());
        if services.len() > SERVICES {
            warn!(%user, services = services.len(), "of this namespace's services only {SERVICES} are its network's");
            services = services.into_iter().take(SERVICES).collect();
        }
        if self.told.get(user) != Some(&services) {
            self.sink.send(Observation::ServicesOf(user.clone(), services.clone())).await?;
            self.told.insert(user.clone(), services);
        }
        Ok(())
    }

    fn found(&self, query: &Query) -> Option<&Found> {
        self.watches.get(query)?.found.as_ref()
    }
}

fn title(query: &Query) -> String {
    match query {
        Query::Users => {
            format!("its namespaces (the token of {} may be too weak)", SourceName::Nomad.title())
        }
        Query::Services(user) => format!("the services of namespace {user}"),
        Query::Jobs(user) => format!("the jobs of namespace {user}"),
    }
}

#[cfg(test)]
mod tests;
