//! Nomad's answers turned into facts.
//! <https://developer.hashicorp.com/nomad/api-docs/allocations>, <https://developer.hashicorp.com/nomad/api-docs/services>.

use std::{
    collections::{BTreeMap, HashMap},
    net::Ipv4Addr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use steppe_model::Protocol;

use super::{
    interpolate::Env,
    job::{Job, Reader},
};
use crate::{
    observe::{Alloc, AllocNetwork, AllocPort, Health, Instance, Life, SourceName},
    sources::SourceError,
};

/// Of `/v1/agent/self`: `stats.client.node_id`.
pub(super) fn node_id(body: &[u8]) -> Result<Option<Arc<str>>, SourceError> {
    let answer: Value = serde_json::from_slice(body)?;
    Ok(answer["stats"]["client"]["node_id"].as_str().filter(|id| !id.is_empty()).map(Into::into))
}

/// Of `/v1/node/:id`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    #[serde(default)]
    datacenter: String,
    #[serde(default)]
    node_class: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    attributes: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    meta: BTreeMap<String, String>,
}

/// What a node gives to interpolation.
pub(super) fn node_env(body: &[u8]) -> Result<Env, SourceError> {
    let node: Node = serde_json::from_slice(body)?;
    let mut env = Env::default();
    env.set("node.unique.id", &node.id);
    env.set("node.unique.name", &node.name);
    env.set("node.datacenter", &node.datacenter);
    env.set("node.class", &node.node_class);
    env.set("NOMAD_DC", &node.datacenter);
    node.attributes.iter().for_each(|(name, value)| env.set(&format!("attr.{name}"), value));
    node.meta.iter().for_each(|(name, value)| env.set(&format!("meta.{name}"), value));
    Ok(env)
}

/// Of `/v1/namespaces` (<https://developer.hashicorp.com/nomad/api-docs/namespaces#list-namespaces>): their names.
pub(super) fn namespaces(body: &[u8]) -> Result<Vec<String>, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Namespace {
        name: String,
    }
    let answer: Option<Vec<Namespace>> = serde_json::from_slice(body)?;
    Ok(answer.unwrap_or_default().into_iter().map(|namespace| namespace.name).collect())
}

/// Of `/v1/services` (<https://developer.hashicorp.com/nomad/api-docs/services#list-services>): the names of Nomad's own services.
pub(super) fn service_names(body: &[u8]) -> Result<Vec<String>, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct OfNamespace {
        #[serde(default, deserialize_with = "null_is_empty")]
        services: Vec<Named>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Named {
        service_name: String,
    }
    let answer: Option<Vec<OfNamespace>> = serde_json::from_slice(body)?;
    let all = answer.unwrap_or_default().into_iter().flat_map(|of| of.services);
    Ok(all.map(|named| named.service_name).collect())
}

/// Of `/v1/jobs` (<https://developer.hashicorp.com/nomad/api-docs/jobs#list-jobs>): the jobs that are not stopped, each with the index
/// at which its text was last changed.
pub(super) fn jobs(body: &[u8]) -> Result<BTreeMap<Arc<str>, u64>, SourceError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        #[serde(rename = "ID")]
        id: Arc<str>,
        #[serde(default)]
        stop: bool,
        #[serde(default)]
        job_modify_index: u64,
    }
    let answer: Option<Vec<Listed>> = serde_json::from_slice(body)?;
    let running = answer.unwrap_or_default().into_iter().filter(|job| !job.stop);
    Ok(running.map(|job| (job.id, job.job_modify_index)).collect())
}

/// Of `/v1/job/:id` (<https://developer.hashicorp.com/nomad/api-docs/jobs#read-job>): the names of its services, as far as they follow
/// from the job alone.
pub(super) fn services_of_job(body: &[u8], id: &str, namespace: &str) -> Result<Vec<String>, SourceError> {
    let job: Job = serde_json::from_slice(body)?;
    let of_group = |group| {
        let mut env = Env::default();
        env.set_job(id, namespace);
        Reader { job: &job, group, job_id: id, canary: false, env }.read().1
    };
    Ok(job.groups().flat_map(of_group).map(|service| service.name.to_string()).collect())
}

/// Of `/v1/service/:name`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Registration {
    #[serde(rename = "ID")]
    id: Arc<str>,
    service_name: Arc<str>,
    namespace: Arc<str>,
    #[serde(rename = "NodeID")]
    node_id: Arc<str>,
    #[serde(default, deserialize_with = "null_is_empty")]
    tags: Vec<String>,
    #[serde(default)]
    address: Arc<str>,
    #[serde(default)]
    port: i64,
}

/// The instances of one service in one namespace. A service of Nomad's own is there only while its checks pass, or has none.
pub(super) fn instances(body: &[u8]) -> Result<Vec<Instance>, SourceError> {
    let answer: Option<Vec<Registration>> = serde_json::from_slice(body)?;
    let mut instances: Vec<_> = answer.unwrap_or_default().into_iter().map(instance).collect();
    instances.sort_by(|a, b| (&a.node, &a.id).cmp(&(&b.node, &b.id)));
    Ok(instances)
}

fn instance(registration: Registration) -> Instance {
    Instance {
        source: SourceName::Nomad,
        namespace: Some(registration.namespace),
        id: registration.id,
        service: registration.service_name,
        node: registration.node_id,
        node_address: "".into(),
        address: registration.address,
        port: u16::try_from(registration.port).unwrap_or(0),
        tags: registration.tags,
        meta: BTreeMap::new(),
        weight: 1,
        health: Health::Passing,
    }
}

/// An allocation, with its job.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    #[serde(rename = "ID")]
    id: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
    #[serde(default)]
    node_name: Arc<str>,
    #[serde(rename = "JobID")]
    job_id: Arc<str>,
    task_group: Arc<str>,
    job: Option<Job>,
    #[serde(default)]
    desired_status: String,
    #[serde(default)]
    client_status: String,
    deployment_status: Option<Deployment>,
    allocated_resources: Option<Resources>,
    network_status: Option<NetworkStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Deployment {
    #[serde(default)]
    canary: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkStatus {
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Resources {
    #[serde(default)]
    shared: Share,
    #[serde(default, deserialize_with = "null_is_empty")]
    tasks: HashMap<String, Share>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Share {
    #[serde(deserialize_with = "null_is_empty")]
    networks: Vec<Network>,
    #[serde(deserialize_with = "null_is_empty")]
    ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    #[serde(rename = "IP")]
    ip: String,
    #[serde(deserialize_with = "null_is_empty")]
    dynamic_ports: Vec<Port>,
    #[serde(deserialize_with = "null_is_empty")]
    reserved_ports: Vec<Port>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    label: Arc<str>,
    value: i64,
    to: i64,
    #[serde(rename = "HostIP")]
    host_ip: String,
}

/// Go writes an empty list or map as `null`.
pub(super) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// The allocations of a node; `node` is what it gives to interpolation.
pub(super) fn allocs(body: &[u8], node: &Env) -> Result<Vec<Alloc>, SourceError> {
    let answer: Option<Vec<Told>> = serde_json::from_slice(body)?;
    let mut allocs: Vec<_> = answer.unwrap_or_default().into_iter().map(|told| alloc(told, node)).collect();
    allocs.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(allocs)
}

/// One allocation: `/v1/allocation/:id`.
pub(super) fn one_alloc(body: &[u8], node: &Env) -> Result<Alloc, SourceError> {
    Ok(alloc(serde_json::from_slice(body)?, node))
}

fn alloc(told: Told, node: &Env) -> Alloc {
    let canary = told.deployment_status.is_some_and(|status| status.canary);
    let job = told.job.unwrap_or_default();
    let group = job.group(&told.task_group);
    let mut env = node.clone();
    env.set("NOMAD_ALLOC_ID", &told.id);
    env.set("NOMAD_SHORT_ALLOC_ID", told.id.get(..8).unwrap_or(&told.id));
    env.set("NOMAD_ALLOC_NAME", &told.name);
    env.set_job(&told.job_id, &told.namespace);
    if let Some((_, index)) = told.name.rsplit_once('[') {
        env.set("NOMAD_ALLOC_INDEX", index.trim_end_matches(']'));
    }
    let (asks, services) = group
        .map(|group| Reader { job: &job, group, job_id: &told.job_id, canary, env }.read())
        .unwrap_or_default();
    let address = told.network_status.and_then(|status| status.address.parse().ok());
    let ports = told.allocated_resources.map(|resources| ports(resources, group)).unwrap_or_default();
    Alloc {
        network: group.map_or(AllocNetwork::Task, |group| {
            group.network(AllocNetwork::Bridge { address, ports_known: 0 })
        }),
        life: match (told.client_status.as_str(), told.desired_status.as_str()) {
            ("complete" | "failed" | "lost", _) => Life::Dead,
            (_, "stop" | "evict") => Life::Stopping,
            _ => Life::Placed,
        },
        user_in_meta: job.user(),
        user_in_labels: group.and_then(|group| group.labelled_user()),
        id: told.id,
        namespace: told.namespace,
        job: told.job_id,
        group: told.task_group,
        name: told.name,
        node: told.node_name,
        ports,
        asks,
        services,
    }
}

/// Where Nomad tells them: for the whole allocation (from 1.0 on in a list of their own, before among its networks), or, as jobs
/// of old have it, for each task, where the docker driver's `port_map` says which port of the container one leads to.
fn ports(resources: Resources, group: Option<&super::job::Group>) -> Vec<AllocPort> {
    let Resources { shared, tasks } = resources;
    let mut ports = Vec::new();
    if shared.ports.is_empty() {
        ports.extend(shared.networks.into_iter().flat_map(|network| of_network(network, |_| None)));
    } else {
        ports.extend(shared.ports.into_iter().filter_map(|port| alloc_port(port, None)));
    }
    for (task, share) in tasks {
        let map = |label: &str| group?.port_map(&task, label);
        ports.extend(share.networks.into_iter().flat_map(|network| of_network(network, map)));
    }
    ports.sort_by(|a, b| (&a.label, a.host_port, a.host_ip).cmp(&(&b.label, b.host_port, b.host_ip)));
    ports
}

fn of_network(network: Network, map: impl Fn(&str) -> Option<u16>) -> Vec<AllocPort> {
    let Network { ip, dynamic_ports, reserved_ports } = network;
    let all = dynamic_ports.into_iter().chain(reserved_ports);
    let ports = all.filter_map(|mut port| {
        port.host_ip.clone_from(&ip);
        let to = map(&port.label);
        alloc_port(port, to)
    });
    ports.collect()
}

/// A port on an IPv6 address is none of ours.
fn alloc_port(port: Port, to: Option<u16>) -> Option<AllocPort> {
    let host_port = u16::try_from(port.value).ok().filter(|port| *port > 0)?;
    let host_ip = match port.host_ip.as_str() {
        "" => Ipv4Addr::UNSPECIFIED,
        text => text.parse().ok()?,
    };
    // It is -1 for the same as on the host.
    let to = to.or(u16::try_from(port.to).ok().filter(|to| *to > 0)).unwrap_or(host_port);
    Some(AllocPort { label: port.label, host_ip, host_port, to })
}

/// A port's protocol: Nomad's jobs don't say, and the CNI plugins and Docker map both.
pub(super) const PROTOCOL: Protocol = Protocol::Tcp;

#[cfg(test)]
mod tests;
