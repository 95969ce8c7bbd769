//! What Nomad is asked, and what its answers are worth
//! (<https://developer.hashicorp.com/nomad/api-docs#blocking-queries>).

use std::{sync::Arc, time::Duration};

use steppe_model::{ServiceName, UserName};

use super::{
    answers,
    config::{NOMAD, NomadConfig},
    interpolate::Env,
};
use crate::{
    observe::{Alloc, Instance},
    sources::{
        SourceError,
        http::{
            Answer, Turns,
            pace::{self, Index},
            watch::{Heard, Question},
        },
    },
};

/// Nomad's own default (<https://developer.hashicorp.com/nomad/api-docs#blocking-queries>).
pub(super) const WAIT: Duration = Duration::from_secs(300);
/// The node's query is also how a hanging agent is found out. Five thousand hosts ask 84 times a second with it.
const NODE_WAIT: Duration = Duration::from_secs(60);
/// Time for what does not wait.
pub(super) const AT_ONCE: Duration = Duration::from_secs(10);
/// A namespace that the token may not read is asked again as seldom: somebody must change a policy first, and whoever may write a
/// job can name any namespace.
pub(super) const DENIED: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// The allocations of the agent's own node.
    Allocs,
    /// The instances of one of Nomad's own services in a user's namespace: the API takes no `*` here (a server of 1.3 answers it
    /// with nothing).
    Service(ServiceName, UserName),
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    Allocs(Vec<Alloc>),
    Instances(Vec<Instance>),
}

/// A query, asked of an agent.
pub(super) struct Asker {
    query: Query,
    config: NomadConfig,
    turns: Turns,
    /// The agent's own node, and what it gives to interpolation.
    node: Option<(Arc<str>, Env)>,
}

impl Question for Asker {
    type Found = Found;

    async fn ask(&mut self, index: Index, _: Option<&Found>) -> Result<Heard<Found>, SourceError> {
        let (answer, found) = match self.query.clone() {
            Query::Allocs => {
                let (node, env) = self.own_node().await?;
                // It never waits for a turn: it must find out when the agent hangs.
                let asked = ask(&self.config, &["node", &node, "allocations"], None, index, NODE_WAIT).await;
                let answer = needs(asked, "node:read, and namespace:read-job for each namespace")?;
                let allocs = answers::allocs(&answer.body, &env)?;
                (answer, Found::Allocs(allocs))
            }
            Query::Service(name, user) => {
                let segments = ["service", name.as_str()];
                let of_user = |longest| ask(&self.config, &segments, Some(user.as_str()), index, longest);
                let answer = needs(self.turns.take(WAIT, of_user).await, "namespace:read-job")?;
                let instances = answers::instances(&answer.body)?;
                (answer, Found::Instances(instances))
            }
        };
        heard(&answer, index, found)
    }

    fn failed(&mut self, error: &SourceError) -> Option<Duration> {
        self.node = None;
        let is_denied = matches!(error, SourceError::Status { status: 403, .. });
        (is_denied && self.query != Query::Allocs).then(|| pace::wait(DENIED, fastrand::f64()))
    }
}

impl Asker {
    pub(super) fn new(query: Query, config: NomadConfig, turns: Turns) -> Self {
        Self { query, config, turns, node: None }
    }

    async fn own_node(&mut self) -> Result<(Arc<str>, Env), SourceError> {
        if let Some(known) = &self.node {
            return Ok(known.clone());
        }
        let answer = needs(get(&self.config, &["agent", "self"], None, "", AT_ONCE).await, "agent:read")?;
        let id = answers::node_id(&answer.body)?
            .ok_or(SourceError::Lacks(&NOMAD, "an agent that is no client, or not yet"))?;
        let answer = needs(get(&self.config, &["node", &id], None, "", AT_ONCE).await, "node:read")?;
        Ok(self.node.insert((id, answers::node_env(&answer.body)?)).clone())
    }
}

/// Asks for what is newer than `index`.
pub(super) async fn ask(
    config: &NomadConfig,
    segments: &[&str],
    namespace: Option<&str>,
    index: Index,
    longest: Duration,
) -> Result<Answer, SourceError> {
    let wait = pace::wait(longest, fastrand::f64());
    let blocking = match index.value() {
        // The leader answers.
        0 => String::new(),
        at => format!("stale=&index={at}&wait={}ms", wait.as_millis()),
    };
    get(config, segments, namespace, &blocking, pace::time_out(index, wait)).await
}

/// What an answer to a question for what is newer than `index` is worth.
pub(super) fn heard<F>(answer: &Answer, index: Index, found: F) -> Result<Heard<F>, SourceError> {
    let answered = answer.index.ok_or(SourceError::Lacks(&NOMAD, "an answer without X-Nomad-Index"))?;
    // A server that has just started may know nothing yet, so its answer counts only if the leader gives it.
    let counts = answered >= index.value();
    Ok(Heard { found: counts.then_some(found), index: answered, bytes: answer.body.len() })
}

/// Names what a token lacks that was refused.
fn needs(answer: Result<Answer, SourceError>, capability: &str) -> Result<Answer, SourceError> {
    answer.map_err(|error| match error {
        SourceError::Status { status: 403, line } => {
            SourceError::Status { status: 403, line: format!("{line}: NOMAD_TOKEN needs {capability}") }
        }
        other => other,
    })
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
