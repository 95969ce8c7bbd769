//! What Consul is asked, and what its answers are worth.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use steppe_model::ServiceName;
use tokio::{sync::watch as state, time::Instant};

use super::{CONSUL, answers};
use crate::{
    observe::Instance,
    sources::{
        SourceError,
        http::{
            Answer, Client, Turns,
            pace::{self, Index},
            watch::{Heard, Question},
        },
        warn_once::WarnOnce,
    },
};

/// Consul's own default; it goes up to 10 minutes.
const WAIT: Duration = Duration::from_secs(300);
/// The node's query is also how a hanging agent is found out: within 42 s, with what `pace::time_out` adds.
const NODE_WAIT: Duration = Duration::from_secs(30);
/// Learning the node's name is a question to the agent itself.
const SELF_WITHIN: Duration = Duration::from_secs(10);
/// How long the catalogue may lack what the agent has: an agent tells its servers all that it has within some seconds
/// after it has found them. If it is longer, the servers don't take it (an ACL, say), and the catalogue is right.
const OUT_OF_STEP: Duration = Duration::from_secs(15);
/// How soon it is looked again whether they are in step.
const STEP: Duration = Duration::from_millis(200);

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Query {
    /// The registrations on the agent's own node.
    Node,
    /// The instances of a service on all nodes.
    Service(ServiceName),
}

/// What is registered.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    /// The name of the agent's node; `None` where another question was asked.
    pub(super) node: Option<Arc<str>>,
    pub(super) instances: Vec<Instance>,
}

/// The name of the agent's node, once it is known, for all watches.
pub(super) type Own = state::Sender<Option<Arc<str>>>;

/// A query, asked of an agent.
pub(super) struct Asker {
    query: Query,
    client: Arc<Client>,
    turns: Turns,
    own: Own,
    node: Option<Arc<str>>,
    odd: WarnOnce,
    out_of_step: Option<Instant>,
}

impl Question for Asker {
    type Found = Found;

    async fn ask(&mut self, index: Index, known: Option<&Found>) -> Result<Heard<Found>, SourceError> {
        let heard = self.ask_servers(index).await?;
        if let Some(found) = &heard.found
            && self.out_of_step.is_none_or(|since| since.elapsed() < OUT_OF_STEP)
        {
            let known = known.map_or(&[][..], |known| &known.instances);
            self.in_step(known, &found.instances).await?;
        }
        self.out_of_step = None;
        Ok(heard)
    }

    fn failed(&mut self, error: &SourceError) -> Option<Duration> {
        self.node = None;
        if !matches!(error, SourceError::OutOfStep(_)) {
            self.out_of_step = None;
            return None;
        }
        self.out_of_step.get_or_insert_with(Instant::now);
        Some(STEP)
    }
}

impl Asker {
    pub(super) fn new(query: Query, client: Arc<Client>, turns: Turns, own: Own) -> Self {
        Self { query, client, turns, own, node: None, odd: WarnOnce::default(), out_of_step: None }
    }

    async fn ask_servers(&mut self, index: Index) -> Result<Heard<Found>, SourceError> {
        let (what, answer) = match self.query.clone() {
            Query::Node => {
                let node = self.node_name().await?;
                // It never waits for a turn: it must find out when the agent hangs.
                let answer = self.get(&["catalog", "node", &node], index, NODE_WAIT).await?;
                (format!("catalog/node/{node}"), answer)
            }
            Query::Service(name) => {
                let segments = ["health", "service", name.as_str()];
                let answer = self.turns.take(WAIT, |longest| self.get(&segments, index, longest)).await?;
                (segments.join("/"), answer)
            }
        };
        let Answer { index, filtered, body } = answer;
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
                "consul's ACLs hold back a part of {what}: the token needs service:read and node:read"
            ));
        }
        let index = index.ok_or(SourceError::Lacks(&CONSUL, "an answer without X-Consul-Index"))?;
        let found = Found { node: self.node.clone(), instances };
        Ok(Heard { found: Some(found), index, bytes: body.len() })
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

    /// The name of the agent's own node, which is asked for once.
    async fn node_name(&mut self) -> Result<Arc<str>, SourceError> {
        if let Some(known) = &self.node {
            return Ok(known.clone());
        }
        let answer = self.client.get(&["agent", "self"], "", SELF_WITHIN).await?;
        let node = answers::node_name(&answer.body)?;
        self.node = Some(node.clone());
        self.own.send_replace(self.node.clone());
        Ok(node)
    }

    async fn get(&self, segments: &[&str], index: Index, longest: Duration) -> Result<Answer, SourceError> {
        let wait = pace::wait(longest, fastrand::f64());
        let query = match index.value() {
            0 => "stale".to_owned(),
            at => format!("stale&index={at}&wait={}ms", wait.as_millis()),
        };
        self.client.get(segments, &query, pace::time_out(index, wait)).await
    }
}

/// The instances on the node `own` that were known and are not there now.
fn missing(own: &Arc<str>, known: &[Instance], now: &[Instance]) -> Vec<Instance> {
    let left: BTreeSet<_> =
        now.iter().filter(|instance| instance.node == *own).map(|instance| &instance.id).collect();
    known.iter().filter(|known| known.node == *own && !left.contains(&known.id)).cloned().collect()
}
