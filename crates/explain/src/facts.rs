//! What [`judge`](crate::judge) decides from: the answers, as the processes gave them.

use steppe_api::v1::{
    ControlStatus, GetNetfilterStatusRequest, GetPairRequest, GrantState, ListGrantsRequest,
    ListListenersRequest, ListNetfilterWorkloadsRequest, ListServicePortsRequest, ListenerState, Pair,
    ServicePort, VipState, WorkloadState,
};

use crate::{Answer, Suite};

/// What was asked, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// A container name or id (or the beginning of one), an alloc's beginning, `job/group/task`, an address, or `host`.
    pub workload: String,
    /// `[USER/]NAME[#TAG][:PORT[/udp]]`, or a virtual IP with or without a port.
    pub service: String,
}

/// What control answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What it planned between the two.
    pub pair: Pair,
    /// How it is doing.
    pub status: ControlStatus,
}

/// What the netfilter-agent has in the kernel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firewall {
    /// Every workload, bound to its bridge port.
    pub workloads: Vec<WorkloadState>,
    /// Every grant.
    pub grants: Vec<GrantState>,
    /// Every port of a virtual IP that leads to a listener, to endpoints, or both.
    pub service_ports: Vec<ServicePort>,
    /// Every virtual IP.
    pub vips: Vec<VipState>,
    /// New connections go to the endpoints, past the proxy.
    pub takeover: bool,
}

/// Everything that is known about one workload and one service.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// What was asked.
    pub query: Query,
    /// control's answer.
    pub control: Answer<Plan>,
    /// The netfilter-agent's answer.
    pub netfilter: Answer<Firewall>,
    /// The proxy's answer: its listeners.
    pub proxy: Answer<Vec<ListenerState>>,
}

/// Asks control and the agents, all at once. Each has two seconds, and may be down.
pub async fn gather(suite: &Suite, query: Query) -> Facts {
    let asked = GetPairRequest { workload: query.workload.clone(), service: query.service.clone() };
    let control = async {
        let (pair, status) = tokio::try_join!(suite.pair(asked), suite.ready_control())?;
        Ok(Plan { pair, status })
    };
    let netfilter = async {
        let (workloads, grants, ports, status) = tokio::try_join!(
            suite.bound_workloads(ListNetfilterWorkloadsRequest {}),
            suite.grants(ListGrantsRequest::default()),
            suite.service_ports(ListServicePortsRequest {}),
            suite.netfilter_status(GetNetfilterStatusRequest {}),
        )?;
        Ok(Firewall {
            workloads: workloads.workloads,
            grants: grants.grants,
            service_ports: ports.service_ports,
            vips: ports.vips,
            takeover: status.takeover,
        })
    };
    let proxy = async { Ok(suite.listeners(ListListenersRequest::default()).await?.listeners) };
    let (control, netfilter, proxy) = tokio::join!(control, netfilter, proxy);
    Facts { query, control, netfilter, proxy }
}
