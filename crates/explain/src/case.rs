//! One question with everything that is known about it, and the look-ups that several links need.

use steppe_api::v1::{
    Attachment, EndpointState, GrantState, GrantedPort, Instance, ListenerState, Pair, Protocol, Service,
    ServiceKey, ServicePath, ServicePort, SourceState, SourceStatus, WorkloadInfo, WorkloadState,
};

use crate::{
    Answer, Facts, Firewall,
    text::{self, key, key_and_port},
};

/// A workload and a service, both known.
pub(crate) struct Case<'a> {
    pub(crate) facts: &'a Facts,
    /// What was planned; made from what the agents have in force when control is away.
    pub(crate) pair: &'a Pair,
    pub(crate) workload: &'a WorkloadInfo,
    pub(crate) service: &'a ServiceKey,
    /// As on the wire.
    pub(crate) protocol: i32,
    /// 0 for every port.
    pub(crate) port: u32,
    /// What is looked for in the plan and in the agents: the grant's protocol and port, else those asked for. A grant for
    /// every port (0) has a rule and a listener of its own, whatever ports other grants name.
    way: (i32, u32),
}

impl<'a> Case<'a> {
    /// `None` when the workload or the service is not known.
    pub(crate) fn new(facts: &'a Facts, pair: &'a Pair) -> Option<Self> {
        let workload = pair.workload.as_ref()?;
        let service = pair.asked.as_ref()?;
        let granted = pair.grant.as_ref();
        // Whoever asks without a port means the port of the grant.
        let (protocol, port) = match granted {
            Some(grant) if pair.port == 0 => (grant.protocol, grant.port),
            _ => (pair.protocol, pair.port),
        };
        let protocol = if protocol == 0 { Protocol::Tcp.into() } else { protocol };
        let way = granted.map_or((protocol, port), |grant| (grant.protocol, grant.port));
        Some(Self { facts, pair, workload, service, protocol, port, way })
    }

    /// `api 3f2a19c0 (172.26.64.9, alice)`
    pub(crate) fn workload_text(&self) -> String {
        text::workload(self.workload, self.attachment())
    }

    /// `alice/web:80`
    pub(crate) fn service_text(&self) -> String {
        key_and_port(self.service, self.protocol, self.port)
    }

    /// What a `connect_to` of this workload says to mean this service: its own user need not be named.
    pub(crate) fn connect_to(&self) -> String {
        let mut service = self.service.clone();
        if service.user == self.workload.user {
            service.user.clear();
        }
        key_and_port(&service, self.protocol, self.port)
    }

    /// The service's name as its provider registers it.
    pub(crate) fn service_name(&self) -> &str {
        &self.service.name
    }

    /// The service's key as text.
    pub(crate) fn key_text(&self) -> String {
        key(self.service)
    }

    /// Whether the plan had to be made from what the agents have in force.
    pub(crate) fn is_recovered(&self) -> bool {
        self.facts.control.is_err()
    }

    /// The address that counts: the one that the kernel has a grant for, else one that is bound, else any.
    pub(crate) fn attachment(&self) -> Option<&'a Attachment> {
        let attachments = &self.workload.attachments;
        let granted = |attachment: &&Attachment| self.kernel_grant_of(attachment).is_some();
        let bound = |attachment: &&Attachment| attachment.in_force;
        attachments.iter().find(granted).or_else(|| attachments.iter().find(bound)).or(attachments.first())
    }

    /// The service as planned.
    pub(crate) fn planned(&self) -> Option<&'a Service> {
        self.pair.service.as_ref()
    }

    /// The service's virtual IP; empty when it has none yet.
    pub(crate) fn vip(&self) -> &'a str {
        self.planned().map_or("", |service| &service.vip)
    }

    /// The port of the plan that what was asked comes under.
    pub(crate) fn planned_port(&self) -> Option<&'a GrantedPort> {
        let ports = &self.planned()?.ports;
        ports.iter().find(|port| (port.protocol, port.port) == self.way)
    }

    /// Instances that what was asked may lead to.
    pub(crate) fn instances(&self) -> Vec<&'a Instance> {
        let Some(service) = self.planned() else { return Vec::new() };
        let exact = |instance: &Instance| self.port != 0 && instance.container_port == self.port;
        // A workload may have several ports registered under one name: then only the one that was asked for counts.
        let elsewhere = |instance: &Instance| {
            !instance.workload.is_empty()
                && !exact(instance)
                && service.instances.iter().any(|other| other.workload == instance.workload && exact(other))
        };
        service.instances.iter().filter(|instance| !elsewhere(instance)).collect()
    }

    /// Whether it is known that there is nowhere to go: then there need be neither rule nor listener.
    pub(crate) fn is_empty(&self) -> bool {
        let port = self.planned_port();
        let leads = port.is_some_and(|port| port.listener.is_some());
        let is_stuck = port.is_some_and(|port| !port.problem.is_empty());
        let is_usable = |instance: &Instance| instance.healthy && instance.address.is_some();
        !leads && (is_stuck || !self.instances().into_iter().any(is_usable))
    }

    pub(crate) fn firewall(&self) -> Option<&'a Firewall> {
        self.facts.netfilter.as_ref().ok()
    }

    /// Whether the kernel has a workload for one of the addresses; taken for granted when it can't be seen.
    pub(crate) fn is_bound(&self) -> bool {
        self.firewall().is_none()
            || self.workload.attachments.iter().any(|attachment| self.bound(attachment).is_some())
    }

    /// The workload in the kernel's tables.
    pub(crate) fn bound(&self, attachment: &Attachment) -> Option<&'a WorkloadState> {
        let matches = |state: &&WorkloadState| {
            let same_address = state
                .workload
                .as_ref()
                .is_some_and(|workload| workload.ip == attachment.ip && workload.bridge == attachment.bridge);
            state.id == attachment.id || same_address
        };
        self.firewall()?.workloads.iter().find(matches)
    }

    /// The kernel's grant for what was asked.
    pub(crate) fn kernel_grant(&self) -> Option<&'a GrantState> {
        self.workload.attachments.iter().find_map(|attachment| self.kernel_grant_of(attachment))
    }

    fn kernel_grant_of(&self, attachment: &Attachment) -> Option<&'a GrantState> {
        let vip = self.vip();
        self.firewall()?.grants.iter().find(|state| {
            state.grant.as_ref().is_some_and(|grant| {
                grant.workload == attachment.id
                    && grant.vip == vip
                    && (grant.protocol, grant.port) == self.way
            })
        })
    }

    /// The kernel's way from what was asked to a listener, to endpoints, or both.
    pub(crate) fn service_port(&self) -> Option<&'a ServicePort> {
        let vip = self.vip();
        let ports = &self.firewall()?.service_ports;
        ports.iter().find(|port| port.vip == vip && (port.protocol, port.port) == self.way)
    }

    /// Whether the service's connections never see the proxy.
    pub(crate) fn takes_kernel_path(&self) -> bool {
        self.planned().is_some_and(|service| service.path() == ServicePath::Kernel)
    }

    /// Whether the kernel has taken over from the proxy.
    pub(crate) fn is_taken_over(&self) -> bool {
        self.firewall().is_some_and(|firewall| firewall.takeover)
    }

    /// Whether the kernel leads new connections to an endpoint, past the proxy.
    pub(crate) fn is_past_the_proxy(&self) -> bool {
        let listens = self.service_port().is_some_and(|port| port.listener.is_some());
        if listens && !self.is_taken_over() {
            return false;
        }
        // A grant for every port leads to the endpoints of the dialled port before those of the others.
        let covers =
            |number| number == self.way.1 || (self.way.1 == 0 && (self.port == 0 || number == self.port));
        let own =
            |port: &&ServicePort| port.vip == self.vip() && port.protocol == self.way.0 && covers(port.port);
        let ports = self.firewall().into_iter().flat_map(|firewall| &firewall.service_ports);
        ports.filter(own).any(|port| !port.endpoints.is_empty())
    }

    /// The proxy's listener for what was asked.
    pub(crate) fn listener(&self) -> Option<&'a ListenerState> {
        self.facts.proxy.as_ref().ok()?.iter().find(|state| {
            state.listener.as_ref().is_some_and(|listener| {
                listener.service.as_ref() == Some(self.service)
                    && (listener.protocol, listener.port) == self.way
            })
        })
    }

    /// Whether the listener takes one of the workload's addresses.
    pub(crate) fn is_client(&self, listener: &ListenerState) -> bool {
        self.workload.attachments.iter().any(|attachment| listener.clients.contains(&attachment.ip))
    }

    /// What the proxy knows of an instance.
    pub(crate) fn endpoint(&self, instance: &Instance) -> Option<&'a EndpointState> {
        let address = instance.address.as_ref()?;
        self.listener()?.endpoints.iter().find(|endpoint| endpoint.address.as_ref() == Some(address))
    }

    /// What an agent has rejected or not put in force yet of what this needs, in control's words. `dns` stands for its pair as well.
    pub(crate) fn held_up(&self, agent: &str) -> Option<String> {
        let problems: Vec<String> = self
            .pair
            .resources
            .iter()
            .filter(|resource| resource.agent.starts_with(agent))
            .filter(|resource| !resource.in_force && !resource.problem.is_empty())
            .map(|resource| format!("{}: {}", resource.id, resource.problem))
            .collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// Whether control waits for an agent to put something in force that this needs.
    pub(crate) fn is_waiting_for(&self, agent: &str) -> bool {
        self.pair.resources.iter().any(|resource| resource.agent == agent && !resource.in_force)
    }

    /// Whether control, if it runs, is of a release that has such an agent. `dns` stands for its pair as well.
    pub(crate) fn is_known_to_control(&self, agent: &str) -> bool {
        let Answer::Ok(plan) = &self.facts.control else { return true };
        plan.status.agents.iter().any(|known| known.name.starts_with(agent))
    }

    /// Sources that control has not heard in full, or no longer hears.
    pub(crate) fn deaf_sources(&self) -> Vec<&'a SourceStatus> {
        let Answer::Ok(plan) = &self.facts.control else { return Vec::new() };
        deaf(&plan.status.sources)
    }
}

/// Of `sources` those whose word is not complete or not fresh.
pub(crate) fn deaf(sources: &[SourceStatus]) -> Vec<&SourceStatus> {
    sources.iter().filter(|source| source.state() != SourceState::Live).collect()
}

/// `consul is stale (500 No cluster leader)`
pub(crate) fn deaf_text(sources: &[&SourceStatus]) -> String {
    let one = |source: &&SourceStatus| {
        let state = match source.state() {
            SourceState::Stale => "can't be reached",
            _ => "has not given its first listing",
        };
        match source.last_error.as_str() {
            "" => format!("{} {state}", source.name),
            error => format!("{} {state} ({error})", source.name),
        }
    };
    sources.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What to do so that a source answers again.
pub(crate) fn deaf_fix(sources: &[&SourceStatus]) -> String {
    let names: Vec<_> = sources.iter().map(|source| source.name.as_str()).collect();
    let verb = if names.len() == 1 { "answers" } else { "answer" };
    format!("see that {} {verb} steppe-control: `steppe status` shows the last error", names.join(" and "))
}
