//! One question that is asked for as long as somebody wants to know: a blocking query
//! (<https://developer.hashicorp.com/nomad/api-docs#blocking-queries>).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use steppe_model::ServiceName;
use tokio::{
    sync::{Semaphore, mpsc},
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{
    answers,
    config::{NOMAD, NomadConfig},
    interpolate::Env,
};
use crate::sources::{
    SourceError, Unheard,
    backoff::Backoff,
    http::{
        Answer,
        pace::{self, Bucket, Index},
    },
};

/// Nomad's own default (<https://developer.hashicorp.com/nomad/api-docs#blocking-queries>).
const WAIT: Duration = Duration::from_secs(300);
/// The node's query is also how a hanging agent is found out. Five thousand hosts ask 84 times a second with it.
const NODE_WAIT: Duration = Duration::from_secs(60);
/// Time for what does not wait.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);
pub(super) const FIRST_BACKOFF: Duration = Duration::from_millis(100);
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(10);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// The allocations of the agent's own node.
    Allocs,
    /// The namespaces that the token may see.
    Namespaces,
    /// The instances of one of Nomad's own services in a namespace: the API takes no `*` here (a server of 1.3 answers it with
    /// nothing).
    Service(ServiceName, Arc<str>),
}

impl Query {
    /// The capability that a token needs for it.
    fn needs(&self) -> &'static str {
        match self {
            Self::Allocs => "node:read, agent:read, and read-job in each namespace",
            Self::Namespaces => "read-job in each namespace",
            Self::Service(..) => "read-job in its namespace",
        }
    }
}

/// What a watch has to say.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) query: Query,
    /// The watch's number.
    pub(super) number: u64,
    pub(super) outcome: Result<News, SourceError>,
}

/// An answer.
#[derive(Debug)]
pub(super) struct News {
    pub(super) body: Vec<u8>,
    /// What the own node gives to interpolation; empty for other questions.
    pub(super) env: Env,
}

/// A running watch; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    task: AbortHandle,
    pub(super) number: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    pub(super) fn start(
        query: Query,
        config: NomadConfig,
        turns: Arc<Semaphore>,
        reports: mpsc::Sender<Report>,
    ) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let asker = Asker { query, number, config, turns, reports, index: Index::default(), node: None };
        let task = tokio::spawn(async move {
            let Unheard = asker.ask_for_ever().await;
        });
        Self { task: task.abort_handle(), number }
    }
}

struct Asker {
    query: Query,
    number: u64,
    config: NomadConfig,
    turns: Arc<Semaphore>,
    reports: mpsc::Sender<Report>,
    index: Index,
    node: Option<(Arc<str>, Env)>,
}

impl Asker {
    async fn ask_for_ever(mut self) -> Unheard {
        let mut backoff = Backoff::new(FIRST_BACKOFF, LONGEST_BACKOFF);
        let mut bucket = Bucket::default();
        let mut paid = Instant::now();
        loop {
            let (outcome, pause) = match self.ask().await {
                Ok(None) => (None, Duration::ZERO),
                Ok(Some(news)) => {
                    backoff.reset();
                    let pause = bucket.pay(paid.elapsed(), news.body.len());
                    paid = Instant::now();
                    (Some(Ok(news)), pause)
                }
                Err(error) => {
                    // Whatever answers next may be another agent, with other indexes and another node.
                    self.index = Index::default();
                    self.node = None;
                    (Some(Err(self.explained(error))), backoff.next(fastrand::f64()))
                }
            };
            if let Some(outcome) = outcome {
                let report = Report { query: self.query.clone(), number: self.number, outcome };
                if self.reports.send(report).await.is_err() {
                    return Unheard;
                }
            }
            sleep(pause).await;
        }
    }

    /// Asks once. `None` when the index went back: a server that has just started may know nothing yet, so the answer counts only
    /// if the leader gives it.
    async fn ask(&mut self) -> Result<Option<News>, SourceError> {
        let (node, env) = match (&self.query, &self.node) {
            (Query::Allocs, Some(known)) => known.clone(),
            (Query::Allocs, None) => self.node.insert(own_node(&self.config).await?).clone(),
            _ => ("".into(), Env::default()),
        };
        let (segments, longest) = match &self.query {
            Query::Allocs => (vec!["node", &node, "allocations"], NODE_WAIT),
            Query::Namespaces => (vec!["namespaces"], WAIT),
            Query::Service(name, _) => (vec!["service", name.as_str()], WAIT),
        };
        let namespace = match &self.query {
            Query::Service(_, namespace) => Some(&**namespace),
            _ => None,
        };
        let wait = pace::wait(longest, fastrand::f64());
        let blocking = match self.index.value() {
            0 => String::new(),
            at => format!("stale=&index={at}&wait={}ms", wait.as_millis()),
        };
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        let within = pace::time_out(self.index, wait);
        let Answer { index, body, .. } = get(&self.config, &segments, namespace, &blocking, within).await?;
        let answered = index.ok_or(SourceError::Lacks(&NOMAD, "an answer without X-Nomad-Index"))?;
        let after = self.index.after(answered);
        let went_back = after == Index::default();
        self.index = after;
        Ok((!went_back).then_some(News { body, env }))
    }

    fn explained(&self, error: SourceError) -> SourceError {
        match error {
            SourceError::Status { status: 403, line } => SourceError::Status {
                status: 403,
                line: format!("{line}: the token needs {}", self.query.needs()),
            },
            other => other,
        }
    }
}

/// One GET to Nomad.
pub(super) async fn get(
    config: &NomadConfig,
    segments: &[&str],
    namespace: Option<&str>,
    more: &str,
    within: Duration,
) -> Result<Answer, SourceError> {
    let pairs = [("region", config.region.as_deref()), ("namespace", namespace)];
    let mut query = more.to_owned();
    for (name, value) in pairs.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let encoded: String = value.bytes().map(encode).collect();
        query.push_str(&format!("{}{name}={encoded}", if query.is_empty() { "" } else { "&" }));
    }
    config.client.get(segments, &query, within).await
}

/// RFC 3986 §2.1.
fn encode(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    }
}

/// The id of the agent's own node, and what it gives to interpolation.
async fn own_node(config: &NomadConfig) -> Result<(Arc<str>, Env), SourceError> {
    let answer = get(config, &["agent", "self"], None, "", AT_ONCE).await?;
    let id = answers::node_id(&answer.body)?
        .ok_or(SourceError::Lacks(&NOMAD, "an agent that is no client, or not yet"))?;
    let answer = get(config, &["node", &id], None, "", AT_ONCE).await?;
    Ok((id, answers::node_env(&answer.body)?))
}
