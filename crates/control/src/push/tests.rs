//! By subject. What they share: services as the planner makes them, and a [`Bench`] with three agents.

mod bench;
mod names;
mod properties;
mod rejections;
mod rules;
mod taking_over;
mod workloads;

use steppe_api::v1::sync_request::Message;
use steppe_model::{Client, Grant, Listener, ListenerKey, ServiceKey, ServicePort, VirtualPort, WorkloadId};

use self::bench::Bench;
use super::*;
use crate::agent::AgentName::{Dns, DnsA, DnsB, NetfilterAgent, Proxy};

/// Those that a [`Bench`] has.
const AGENTS: [AgentName; 3] = [Proxy, NetfilterAgent, Dns];

fn key(n: u8) -> ServiceKey {
    ServiceKey { user: None, name: format!("s{n}").parse().unwrap(), tag: None }
}

/// A service with its listener, rule, client and grant, as the planner makes them.
fn service(n: u8, weight: u8) -> Vec<(Resource, Vec<ResourceId>)> {
    let port = VirtualPort::new(steppe_model::Protocol::Tcp, 80);
    let endpoint =
        steppe_model::Endpoint { address: "10.0.0.1:1".parse().unwrap(), weight, node: "n".into() };
    let listener = Listener {
        key: ListenerKey { service: key(n), port },
        address: format!("169.254.77.54:1000{n}").parse().unwrap(),
        endpoints: vec![endpoint],
        routes: Vec::new(),
        proxy_protocol: false,
    };
    let vip = [247, 0, 0, n + 1].into();
    let client = Client { listener: listener.id(), ip: [172, 17, 0, 2].into() };
    let rule =
        ServicePort { service: key(n), vip, port, listener: Some(listener.address), endpoints: Vec::new() };
    let grant = Grant { workload: WorkloadId::new("w"), vip, port };
    let (needs_listener, needs_client) = (vec![client.id(), listener.id()], vec![client.id()]);
    vec![
        (Resource::Listener(listener), vec![]),
        (Resource::Client(client), vec![]),
        (Resource::ServicePort(rule), needs_listener),
        (Resource::Grant(grant), needs_client),
    ]
}

fn workload() -> Resource {
    Resource::Workload(steppe_model::Workload {
        id: WorkloadId::new("w"),
        ip: [172, 17, 0, 2].into(),
        mac: "02:42:ac:11:00:02".parse().unwrap(),
        bridge: "docker0".into(),
        port_ifindex: 7,
        name: "w".into(),
        user: None,
        guarded: false,
    })
}

/// The asker that names these services, as the planner makes it.
fn asker(services: &[u8]) -> (Resource, Vec<ResourceId>) {
    let mut requires = vec![workload().id()];
    let named = services.iter().map(|n| {
        let vip = [247, 0, 0, n + 1].into();
        let port = VirtualPort::new(steppe_model::Protocol::Tcp, 80);
        requires.push(Grant { workload: WorkloadId::new("w"), vip, port }.id());
        steppe_model::AskedName { name: format!("s{n}").parse().unwrap(), vip, ports: vec![port] }
    });
    let names = named.collect();
    let asker = steppe_model::Asker {
        ip: [172, 17, 0, 2].into(),
        workload: "w".into(),
        user: None,
        network: None,
        names,
    };
    (Resource::Asker(asker), requires)
}

/// The ids that are upserted.
fn kinds(requests: &[v1::SyncRequest]) -> Vec<String> {
    let kind = |request: &v1::SyncRequest| match request.message.clone() {
        Some(Message::Upsert(wire)) => Some(Resource::try_from(wire).unwrap().id().to_string()),
        _ => None,
    };
    requests.iter().filter_map(kind).collect()
}
