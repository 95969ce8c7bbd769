//! Consul's answers turned into facts.
//! <https://developer.hashicorp.com/consul/api-docs/catalog>, <https://developer.hashicorp.com/consul/api-docs/health>.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Deserializer};

use crate::{
    observe::{Health, Instance, SourceName},
    sources::{SourceError, text::first_line},
};

/// Of `/v1/agent/self`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentSelf {
    config: AgentConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentConfig {
    node_name: String,
}

/// Of `/v1/agent/services`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentService {
    service: String,
}

/// Of `/v1/catalog/node/:node`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CatalogNode {
    node: Node,
    #[serde(deserialize_with = "null_is_empty")]
    services: HashMap<String, Service>,
}

/// Of `/v1/health/service/:service`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    #[serde(deserialize_with = "null_is_empty")]
    checks: Vec<Check>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node: Arc<str>,
    #[serde(default)]
    address: Arc<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: Arc<str>,
    service: Arc<str>,
    #[serde(default)]
    address: Arc<str>,
    #[serde(default)]
    port: i64,
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    meta: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    weights: Weights,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: i64,
    warning: i64,
}

/// What Consul itself takes when none are registered.
impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID", default)]
    id: String,
    #[serde(default)]
    name: String,
    status: String,
    #[serde(default)]
    output: String,
}

/// Go writes an empty list or map as `null`.
fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The name of the agent's node.
pub(super) fn node_name(body: &[u8]) -> Result<Arc<str>, SourceError> {
    let answer: AgentSelf = serde_json::from_slice(body)?;
    Ok(answer.config.node_name.into())
}

/// The services that are registered with the agent itself, by their ids: `/v1/agent/services`.
pub(super) fn agent_services(body: &[u8]) -> Result<HashMap<String, String>, SourceError> {
    let answer: HashMap<String, AgentService> = serde_json::from_slice(body)?;
    Ok(answer.into_iter().map(|(id, AgentService { service })| (id, service)).collect())
}

/// The registrations of one node. `null` is Consul's answer when the node isn't in the catalogue.
pub(super) fn registrations(body: &[u8]) -> Result<Vec<Instance>, SourceError> {
    let Some(answer) = serde_json::from_slice::<Option<CatalogNode>>(body)? else { return Ok(Vec::new()) };
    let CatalogNode { node, services } = answer;
    let instances = services.into_values().map(|service| instance(&node, service, Verdict::Passing));
    Ok(sorted(instances.collect()))
}

/// Consul's own check of a node, by gossip.
const SERF_HEALTH: &str = "serfHealth";

/// The instances of one service. That the agent's `own` node is dead can't be, for this is its agent's answer: it was away, and
/// the catalogue has not noticed yet that it is back.
pub(super) fn instances(body: &[u8], own: Option<&str>) -> Result<Vec<Instance>, SourceError> {
    let answer: Vec<Entry> = serde_json::from_slice(body)?;
    let instances = answer.into_iter().map(|Entry { node, service, mut checks }| {
        if own == Some(&*node.node) {
            checks.retain(|check| check.id != SERF_HEALTH);
        }
        let verdict = verdict(&checks);
        instance(&node, service, verdict)
    });
    Ok(sorted(instances.collect()))
}

/// The worst of an instance's checks, its node's included.
enum Verdict {
    Passing,
    Warning,
    Critical(Arc<str>),
}

/// As Consul's DNS judges unless it is told `only_passing`: only a critical check, which maintenance is too, takes an
/// instance out. A status that Consul does not have today counts as critical.
fn verdict(checks: &[Check]) -> Verdict {
    let bad = checks.iter().find(|check| !matches!(check.status.as_str(), "passing" | "warning"));
    if let Some(check) = bad {
        let said = first_line(&check.output);
        let text = if said.is_empty() { first_line(&check.name) } else { said };
        return Verdict::Critical(text.into());
    }
    if checks.iter().any(|check| check.status == "warning") { Verdict::Warning } else { Verdict::Passing }
}

/// A port that can't be one counts as none: the plan says so where it matters.
fn instance(node: &Node, service: Service, verdict: Verdict) -> Instance {
    let weight = match verdict {
        Verdict::Warning => service.weights.warning,
        Verdict::Passing | Verdict::Critical(_) => service.weights.passing,
    };
    Instance {
        source: SourceName::Consul,
        namespace: None,
        id: service.id,
        service: service.service,
        node: node.node.clone(),
        node_address: node.address.clone(),
        address: service.address,
        port: u16::try_from(service.port).unwrap_or(0),
        tags: service.tags,
        meta: service.meta,
        weight: u32::try_from(weight).unwrap_or(1),
        health: match verdict {
            Verdict::Passing | Verdict::Warning => Health::Passing,
            Verdict::Critical(text) => Health::Critical(text),
        },
    }
}

/// In one order, so that equal answers are equal.
fn sorted(mut instances: Vec<Instance>) -> Vec<Instance> {
    instances.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
    instances
}

#[cfg(test)]
mod tests;
