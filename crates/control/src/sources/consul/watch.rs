//! One question that is asked for as long as somebody wants to know.

use std::{
    collections::BTreeSet,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use steppe_model::ServiceName;
use tokio::{
    sync::{Semaphore, mpsc, watch as state},
    task::AbortHandle,
    time::{Instant, sleep},
};
use tracing::warn;

use super::{CONSUL, answers};
use crate::{
    observe::{Instance, Observation, SourceName},
    sources::{
        SourceError, Unheard,
        backoff::Backoff,
        http::{
            Answer, Client,
            pace::{self, Bucket, Index},
        },
        warn_once::WarnOnce,
    },
};

/// Consul's own default; it goes up to 10 minutes.
const WAIT: Duration = Duration::from_secs(300);
/// The node's query is also how a hanging agent is found out: within 42 s, with what `pace::time_out` adds.
const NODE_WAIT: Duration = Duration::from_secs(30);
/// With more questions than connections they take turns.
const CROWDED_WAIT: Duration = Duration::from_secs(2);
/// Learning the node's name is a question to the agent itself.
const SELF_WITHIN: Duration = Duration::from_secs(10);
/// How long the catalogue may lack what the agent has: an agent tells its servers all that it has within some seconds
/// after it has found them. If it is longer, the servers don't take it (an ACL, say), and the catalogue is right.
const OUT_OF_STEP: Duration = Duration::from_secs(15);
/// How soon it is looked again whether they are in step.
const STEP: Duration = Duration::from_millis(200);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// The registrations on the agent's own node.
    Node,
    /// The instances of a service on all nodes.
    Service(ServiceName),
}

/// What a watch has to say.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) query: Query,
    /// The watch's number.
    pub(super) number: u64,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// The first answer, or another than the last.
    Changed(Observation),
    /// It answers again, and nothing has changed.
    Same,
    Failed(String),
}

/// Connections to the agent, shared by all watches.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    connections: Arc<Semaphore>,
    many: usize,
    crowded: state::Sender<bool>,
}

/// The name of the agent's node, once it is known, for all watches.
pub(super) type Own = state::Sender<Option<Arc<str>>>;

impl Turns {
    pub(super) fn new(connections: usize) -> Self {
        let (crowded, _) = state::channel(false);
        Self { connections: Arc::new(Semaphore::new(connections)), many: connections, crowded }
    }

    /// So many watches there are now.
    pub(super) fn share_among(&self, watches: usize) {
        let crowded = watches > self.many;
        let changed = self.crowded.send_if_modified(|now| std::mem::replace(now, crowded) != crowded);
        if crowded && changed {
            warn!(
                watches,
                connections = self.many,
                "more services are wanted than connections to Consul's agent are used: changes can take some seconds"
            );
        }
    }

    /// Runs a query when it is its turn, which says how long it may wait; asks again when that becomes less.
    async fn take<T, F: Future<Output = T>>(&self, longest: Duration, query: impl Fn(Duration) -> F) -> T {
        let mut crowded = self.crowded.subscribe();
        loop {
            // The semaphore is never closed.
            let _permit = self.connections.acquire().await;
            if *crowded.borrow_and_update() {
                return query(longest.min(CROWDED_WAIT)).await;
            }
            tokio::select! {
                answer = query(longest) => return answer,
                _ = crowded.wait_for(|crowded| *crowded) => {}
            }
        }
    }
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    task: AbortHandle,
    number: u64,
}

impl Watch {
    pub(super) fn start(
        query: Query,
        client: Arc<Client>,
        turns: Turns,
        own: Own,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let asker = Asker { query, number, client, turns, own, reports, odd: WarnOnce::default() };
        let task = tokio::spawn(async move {
            let Unheard = asker.ask_for_ever().await;
        });
        Self { task: task.abort_handle(), number }
    }

    /// Tells it from an earlier watch of the same query.
    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Asker {
    query: Query,
    number: u64,
    client: Arc<Client>,
    turns: Turns,
    own: Own,
    reports: mpsc::Sender<Report>,
    odd: WarnOnce,
}

/// What stands between two questions.
#[derive(Default)]
struct Standing {
    index: Index,
    node: Option<Arc<str>>,
}

impl Asker {
    async fn ask_for_ever(mut self) -> Unheard {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        let mut bucket = Bucket::default();
        let mut standing = Standing::default();
        let mut last: Option<(Option<Arc<str>>, Vec<Instance>)> = None;
        let mut out_of_step: Option<Instant> = None;
        let mut failing = false;
        let mut paid = Instant::now();
        loop {
            let mut asked = self.ask(&mut standing).await;
            if let Ok((instances, _)) = &asked
                && out_of_step.is_none_or(|since| since.elapsed() < OUT_OF_STEP)
                && let Err(error) =
                    self.in_step(last.as_ref().map_or(&[], |(_, known)| known), instances).await
            {
                asked = Err(error);
            }
            let told = match asked {
                Ok((instances, bytes)) => {
                    backoff.reset();
                    out_of_step = None;
                    let now = (standing.node.clone(), instances);
                    let told = if last.as_ref() != Some(&now) {
                        let fact = self.fact(&now.0, &now.1);
                        last = Some(now);
                        self.report(Outcome::Changed(fact)).await
                    } else if failing {
                        self.report(Outcome::Same).await
                    } else {
                        Ok(())
                    };
                    failing = false;
                    let pause = bucket.pay(paid.elapsed(), bytes);
                    paid = Instant::now();
                    sleep(pause).await;
                    told
                }
                Err(error) => {
                    failing = true;
                    // Whatever answers next may be another agent, with other indexes and another node.
                    standing = Standing::default();
                    let told = self.report(Outcome::Failed(error.to_string())).await;
                    let pause = if matches!(error, SourceError::OutOfStep(_)) {
                        out_of_step.get_or_insert_with(Instant::now);
                        STEP
                    } else {
                        out_of_step = None;
                        backoff.next(fastrand::f64())
                    };
                    sleep(pause).await;
                    told
                }
            };
            if let Err(unheard) = told {
                return unheard;
            }
        }
    }

    /// Asks once, and says also how many bytes the answer took.
    async fn ask(&mut self, standing: &mut Standing) -> Result<(Vec<Instance>, usize), SourceError> {
        if self.query == Query::Node && standing.node.is_none() {
            standing.node = Some(self.node_name().await?);
            self.own.send_replace(standing.node.clone());
        }
        let (segments, longest) = match (&self.query, standing.node.as_deref()) {
            (Query::Service(name), _) => (["health", "service", name.as_str()], WAIT),
            (Query::Node, node) => (["catalog", "node", node.unwrap_or_default()], NODE_WAIT),
        };
        let Answer { index: answered, filtered, body } =
            self.turns.take(longest, |longest| self.get(&segments, standing.index, longest)).await?;
        let instances = match &self.query {
            Query::Node => answers::registrations(&body)?,
            Query::Service(_) => {
                let own = self.own.borrow().clone();
                answers::instances(&body, own.as_deref())?
            }
        };
        // Nothing to be seen is not nothing there.
        if filtered && instances.is_empty() {
            return Err(SourceError::Filtered);
        }
        if filtered {
            self.odd.warn(format!(
                "consul's ACLs hold back a part of {}: the token needs service:read and node:read",
                segments.join("/")
            ));
        }
        let answered = answered.ok_or(SourceError::Lacks(&CONSUL, "an answer without X-Consul-Index"))?;
        standing.index = standing.index.after(answered);
        Ok((instances, body.len()))
    }

    /// An agent that leaves, as Consul's clients do when they are stopped, is forgotten with all that is registered with it, and one
    /// that comes back needs some seconds to tell it again. So an instance of the agent's node is gone only if the agent says so too.
    async fn in_step(&self, known: &[Instance], now: &[Instance]) -> Result<(), SourceError> {
        let missing = match &*self.own.borrow() {
            Some(own) => missing(own, known, now),
            None => return Ok(()),
        };
        if missing.is_empty() {
            return Ok(());
        }
        let answer = self.client.get(&["agent", "services"], "", SELF_WITHIN).await?;
        let agents = answers::agent_services(&answer.body)?;
        // Under the same id another service may be registered now.
        let has = |instance: &Instance| {
            agents.get(&*instance.id).is_some_and(|service| instance.service.eq_ignore_ascii_case(service))
        };
        match missing.iter().find(|instance| has(instance)) {
            Some(instance) => Err(SourceError::OutOfStep(instance.id.to_string())),
            None => Ok(()),
        }
    }

    async fn node_name(&self) -> Result<Arc<str>, SourceError> {
        let answer = self.client.get(&["agent", "self"], "", SELF_WITHIN).await?;
        answers::node_name(&answer.body)
    }

    async fn get(&self, segments: &[&str], index: Index, longest: Duration) -> Result<Answer, SourceError> {
        let wait = pace::wait(longest, fastrand::f64());
        let query = match index.value() {
            0 => "stale".to_owned(),
            at => format!("stale&index={at}&wait={}ms", wait.as_millis()),
        };
        self.client.get(segments, &query, pace::time_out(index, wait)).await
    }

    fn fact(&self, node: &Option<Arc<str>>, instances: &[Instance]) -> Observation {
        let instances = instances.to_vec();
        match &self.query {
            Query::Node => Observation::Registrations { node: node.clone().unwrap_or_default(), instances },
            Query::Service(name) => Observation::Instances(SourceName::Consul, name.clone(), instances),
        }
    }

    async fn report(&self, outcome: Outcome) -> Result<(), Unheard> {
        let report = Report { query: self.query.clone(), number: self.number, outcome };
        Ok(self.reports.send(report).await?)
    }
}

/// The instances on the node `own` that were known and are not there now.
fn missing(own: &Arc<str>, known: &[Instance], now: &[Instance]) -> Vec<Instance> {
    let left: BTreeSet<_> =
        now.iter().filter(|instance| instance.node == *own).map(|instance| &instance.id).collect();
    known.iter().filter(|known| known.node == *own && !left.contains(&known.id)).cloned().collect()
}
