//! What [`judge`](crate::judge) decides from: the answers, as the processes gave them.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use steppe_api::v1::{
    ControlStatus, GetNetfilterStatusRequest, GetPairRequest, GrantState, ListDoorsRequest,
    ListDoorsResponse, ListGrantsRequest, ListListenersRequest, ListNetfilterNetworksRequest,
    ListNetfilterWorkloadsRequest, ListServicePortsRequest, ListenerState, Network, Pair, QueryRequest,
    QueryResponse, ServicePort, VipState, WorkloadState,
};

use crate::{Answer, AwayKind, DEADLINE, Suite, local, names};

/// What was asked, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// A container name or id (or the beginning of one), an alloc's beginning, `job/group/task`, an address, or `host`.
    pub workload: String,
    /// `[USER/]NAME[#TAG][:PORT[/udp]]`, or an address with or without a port.
    pub service: String,
}

/// Steppe's own addresses on this host: the flags of control and the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Where virtual IPs are chosen from.
    pub services: Ipv4Net,
    /// Where the proxy listens.
    pub listener: Ipv4Addr,
    /// Where dns answers.
    pub dns: Ipv4Addr,
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
    /// The doors; `None` where the agent is of a release that had none.
    pub doors: Option<ListDoorsResponse>,
    /// Every network; `None` where the agent is of a release that had none.
    pub networks: Option<Vec<Network>>,
}

/// What dns was asked on behalf of the workload, and what it said.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The name that was asked for, without the zone.
    pub name: String,
    /// The answer.
    pub answer: Answer<QueryResponse>,
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
    /// What dns tells the workload of the service's name; `None` when there was no name or nobody to ask for.
    pub dns: Option<Told>,
    /// Where Steppe is on this host.
    pub addresses: Addresses,
    /// This host's own addresses.
    pub local: Vec<IpAddr>,
}

impl Facts {
    /// Whether an address is a service's, or could be.
    pub(crate) fn is_virtual(&self, ip: IpAddr) -> bool {
        let IpAddr::V4(ip) = ip else { return false };
        let vips = self.netfilter.iter().flat_map(|firewall| &firewall.vips);
        self.addresses.services.contains(&ip) || vips.into_iter().any(|state| state.vip.parse() == Ok(ip))
    }
}

/// What an agent of an earlier release does not know is left out.
fn unless_older<T>(answer: Answer<T>) -> Answer<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(away) if away.kind == AwayKind::Older => Ok(None),
        Err(away) => Err(away),
    }
}

/// Asks control and the agents all at once, then dns. Each has two seconds, and may be down.
pub async fn gather(suite: &Suite, query: Query, addresses: Addresses) -> Facts {
    let asked = GetPairRequest { workload: query.workload.clone(), service: query.service.clone() };
    let control = async {
        let (pair, status) = tokio::try_join!(suite.pair(asked), suite.ready_control())?;
        Ok(Plan { pair, status })
    };
    let netfilter = async {
        let doors = async { unless_older(suite.doors(ListDoorsRequest {}).await) };
        let networks = async { unless_older(suite.networks(ListNetfilterNetworksRequest {}).await) };
        let (workloads, grants, ports, status, doors, networks) = tokio::try_join!(
            suite.bound_workloads(ListNetfilterWorkloadsRequest {}),
            suite.grants(ListGrantsRequest::default()),
            suite.service_ports(ListServicePortsRequest {}),
            suite.netfilter_status(GetNetfilterStatusRequest {}),
            doors,
            networks,
        )?;
        Ok(Firewall {
            workloads: workloads.workloads,
            grants: grants.grants,
            service_ports: ports.service_ports,
            vips: ports.vips,
            takeover: status.takeover,
            doors,
            networks: networks.map(|answer| answer.networks),
        })
    };
    let proxy = async { Ok(suite.listeners(ListListenersRequest::default()).await?.listeners) };
    let (control, netfilter, proxy) = tokio::join!(control, netfilter, proxy);
    let local = local::addresses();
    let mut facts = Facts { query, control, netfilter, proxy, dns: None, addresses, local };
    if let Some((ip, name)) = names::question(&facts) {
        let question = QueryRequest { ip, name: names::full(&name), r#type: String::new() };
        facts.dns = Some(Told { name, answer: suite.dns_query(question, DEADLINE).await });
    }
    facts
}
