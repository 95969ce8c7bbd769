//! Services and their instances.

use std::time::Instant;

use steppe_api::v1;
use steppe_model::{ServiceKey, VirtualPort};

use super::millis;
use crate::{
    core::Core,
    observe::Health,
    plan::{Path, PlannedPort, PlannedService, Provider, path},
};

/// The services that this host's workloads ask for.
#[must_use]
pub fn services(core: &Core, now: Instant) -> Vec<v1::Service> {
    core.planner.services().iter().map(|(key, planned)| service(key, planned, now)).collect()
}

/// One service.
pub(super) fn service(key: &ServiceKey, planned: &PlannedService, now: Instant) -> v1::Service {
    let empty_for = planned.empty_since.map(|since| millis(now.saturating_duration_since(since)));
    v1::Service {
        key: Some(key.into()),
        vip: planned.vip.map(|vip| vip.to_string()).unwrap_or_default(),
        ports: planned.ports.iter().map(|(port, planned)| granted_port(*port, planned)).collect(),
        instances: planned.providers.iter().map(instance).collect(),
        grants: planned.consumers.values().filter(|verdict| verdict.is_ok()).count() as u64,
        // 0 means that it has one.
        empty_for_ms: empty_for.map_or(0, |ms| ms.max(1)),
        path: match path(&planned.providers) {
            Path::Proxy => v1::ServicePath::Proxy,
            Path::Kernel => v1::ServicePath::Kernel,
        }
        .into(),
        stand_in: !planned.are_own,
    }
}

fn granted_port(port: VirtualPort, planned: &PlannedPort) -> v1::GrantedPort {
    v1::GrantedPort {
        protocol: v1::Protocol::from(port.protocol).into(),
        port: port.number_or_zero().into(),
        listener: planned.listener.filter(|_| planned.routing.leads()).map(Into::into),
        problem: planned.routing.problem.clone().unwrap_or_default(),
    }
}

fn instance(provider: &Provider) -> v1::Instance {
    let problem = match (&provider.address, &provider.health) {
        (Err(why), _) => (*why).to_owned(),
        (Ok(_), Health::Critical(output)) => output.to_string(),
        (Ok(_), Health::Passing) => String::new(),
    };
    v1::Instance {
        id: provider.id.to_string(),
        node: provider.node.to_string(),
        address: provider.address.ok().map(Into::into),
        container_port: provider.container_port.unwrap_or_default().into(),
        healthy: provider.health == Health::Passing,
        problem,
        tags: provider.tags.clone(),
        weight: provider.settings.weight.into(),
        workload: provider.workload.as_deref().unwrap_or_default().into(),
        source: provider.source.as_str().into(),
    }
}
