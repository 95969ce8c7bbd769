//! The suite at a glance.

use std::time::Instant;

use steppe_api::v1;
use steppe_model::UserName;

use super::millis;
use crate::{
    agent::AgentName,
    core::Core,
    observe::Network,
    plan::Ignored,
    push::Link,
    source_health::{SourceHealth, SourceState},
};

/// How control is doing, and what it sees of the others.
#[must_use]
pub fn status(core: &Core, now: Instant) -> v1::ControlStatus {
    let services = core.planner.services();
    // Whoever asks for nothing needs none: what runs on the host's network, Steppe itself included, is no cause for worry.
    let without_address = core.planner.workloads().filter(|(workload, attached)| {
        workload.grants().next().is_some() && !attached.iter().any(|a| a.port.is_ok())
    });
    let not_attached =
        core.planner.workloads().filter(|(workload, _)| core.planner.not_attached(workload).is_some());
    v1::ControlStatus {
        about: Some(v1::About {
            version: env!("CARGO_PKG_VERSION").into(),
            uptime_seconds: now.saturating_duration_since(core.started).as_secs(),
            in_force_version: 0,
            synced: core.push.is_open(),
        }),
        node: core.planner.node().to_string(),
        agents: shown_agents(core).map(|agent| agent_status(core, agent, now)).collect(),
        sources: core.sources.iter().map(|(name, health)| source(name.as_str(), health, now)).collect(),
        workloads: core.planner.workloads().count() as u64,
        workloads_without_address: without_address.count() as u64,
        services: services.len() as u64,
        services_empty: services.values().filter(|service| service.empty_since.is_some()).count() as u64,
        ignored: core.planner.ignored().map(|left_out| ignored(&left_out)).collect(),
        takeover_in_force: core.push.is_taken_over(),
        workloads_not_attached: not_attached.count() as u64,
        moved_networks: core.planner.networks().filter_map(moved).collect(),
        missing_networks: core.planner.without_network().map(missing).collect(),
        waits_for: core.waits_for().unwrap_or_default(),
    }
}

/// The agents that there should be. dns is one process or two: those that were there, and `dns` when none was.
fn shown_agents(core: &Core) -> impl Iterator<Item = AgentName> {
    let is_up = |agent| core.push.state(agent).is_up();
    let was_there = |agent| core.push.state(agent).was_there();
    let [alone, pair @ ..] = AgentName::DNS;
    // Whichever is there now has taken the place of the other.
    let is_pair = !is_up(alone) && pair.into_iter().any(was_there);
    let dns = AgentName::DNS.into_iter().filter(move |agent| match *agent == alone {
        true => !is_pair,
        false => is_up(*agent) || (is_pair && was_there(*agent)),
    });
    AgentName::TRAFFIC.into_iter().chain(dns)
}

fn moved(network: &Network) -> Option<v1::MovedNetwork> {
    let reason = network.moved.as_ref()?.to_string();
    Some(v1::MovedNetwork { user: network.user.to_string(), subnet: network.subnet.to_string(), reason })
}

fn missing((user, why): (&UserName, &str)) -> v1::MissingNetwork {
    v1::MissingNetwork { user: user.to_string(), reason: why.to_owned() }
}

fn agent_status(core: &Core, agent: AgentName, now: Instant) -> v1::AgentStatus {
    let state = core.push.state(agent);
    let (link, since) = state.link();
    let (sent_version, acked_version) = state.versions();
    let (state_name, error) = match link {
        Link::Down(why) => (v1::AgentState::Down, why.clone()),
        Link::Syncing => (v1::AgentState::Syncing, String::new()),
        Link::Live => (v1::AgentState::Live, String::new()),
    };
    let rejected = core.push.rejections(agent).iter();
    v1::AgentStatus {
        name: agent.process().name().into(),
        state: state_name.into(),
        error,
        for_ms: millis(now.saturating_duration_since(since)),
        sent_version,
        acked_version,
        behind_ms: millis(state.behind(now)),
        rejected: rejected
            .map(|(id, reason)| v1::Reject { version: 0, id: id.to_string(), reason: reason.clone() })
            .collect(),
        draining: state.is_draining(),
    }
}

fn source(name: &str, health: &SourceHealth, now: Instant) -> v1::SourceStatus {
    let state = match health.state {
        SourceState::Starting => v1::SourceState::Starting,
        SourceState::Live => v1::SourceState::Live,
        SourceState::Stale => v1::SourceState::Stale,
    };
    v1::SourceStatus {
        name: name.into(),
        state: state.into(),
        age_ms: millis(health.age(now)),
        last_error: health.last_error.clone(),
    }
}

fn ignored(ignored: &Ignored) -> v1::Ignored {
    v1::Ignored {
        origin: ignored.origin.to_string(),
        text: ignored.text.to_string(),
        reason: ignored.reason.to_string(),
    }
}
