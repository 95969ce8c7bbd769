//! What the proxy knows, as messages.

use std::{collections::HashSet, net::Ipv4Addr, sync::atomic::Ordering, time::Instant};

use steppe_api::v1;

use crate::{
    agent::Entry,
    watch::{ConnectionInfo, Ended},
};

pub(super) fn listener_state(entry: &Entry, clients: &HashSet<Ipv4Addr>, now: Instant) -> v1::ListenerState {
    let counters = &entry.service.counters;
    let targets = entry.service.targets.load();
    let mut clients: Vec<_> = clients.iter().collect();
    clients.sort_unstable();
    let endpoints = entry
        .endpoints()
        .map(|(endpoint, draining)| v1::EndpointState {
            address: Some(endpoint.address.into()),
            node: endpoint.node.to_string(),
            active: endpoint.active.load(Ordering::Relaxed),
            connected_total: endpoint.connected.get(),
            failed_total: endpoint.failed.get(),
            ejected_for_ms: targets.ejected_for_ms(endpoint, now),
            last_error: endpoint.last_error(),
            draining,
        })
        .collect();
    v1::ListenerState {
        id: entry.service.id.to_string(),
        listener: Some((&entry.listener).into()),
        clients: clients.into_iter().map(ToString::to_string).collect(),
        accepted_total: counters.accepted.get(),
        active: counters.active.load(Ordering::Relaxed),
        refused_total: counters.refused.get(),
        failed_total: counters.failed.get(),
        retried_total: counters.retried.get(),
        endpoints,
    }
}

pub(super) fn event(ended: Ended, missed: u64) -> v1::ConnectionEvent {
    v1::ConnectionEvent { connection: Some(ended.connection.into()), ended: ended.how.into(), missed }
}

impl From<ConnectionInfo> for v1::Connection {
    fn from(info: ConnectionInfo) -> Self {
        Self {
            id: info.id,
            listener: info.listener.to_string(),
            client: Some(info.client.into()),
            endpoint: info.endpoint.map(Into::into),
            age_ms: info.age.as_millis().try_into().unwrap_or(u64::MAX),
            bytes_to_endpoint: info.bytes_to_endpoint,
            bytes_to_client: info.bytes_to_client,
        }
    }
}
