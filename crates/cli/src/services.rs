//! `steppe services`.

mod rates;
mod view;

use serde::Serialize;
use steppe_api::v1::{
    ListListenersRequest, ListListenersResponse, ListServicePortsRequest, ListServicePortsResponse,
    ListServicesRequest,
};
use steppe_explain::{Answer, Suite};

use crate::status::NobodyAnswers;
use rates::{Numbers, Sampler};

/// The services of this host.
#[derive(Debug, Serialize)]
pub(crate) struct Services {
    services: Vec<Row>,
    /// Whether [`Row::numbers`] are rates; totals since the listener's and the VIP's start otherwise.
    #[serde(skip)]
    rates: bool,
    /// What could not be asked, and what to do about it.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    user: String,
    service: String,
    tag: String,
    vip: String,
    ports: Vec<String>,
    path: &'static str,
    /// Instances that get connections; unknown with the proxy and control down.
    up: Option<usize>,
    all: Option<usize>,
    /// Workloads that are granted it; unknown with control and the netfilter-agent down.
    grants: Option<u64>,
    #[serde(flatten)]
    numbers: Numbers,
    /// Why it leads nowhere; empty when it does lead somewhere.
    problem: String,
}

/// What the agents have in force.
#[derive(Debug, Clone)]
struct Agents {
    proxy: Answer<ListListenersResponse>,
    netfilter: Answer<ListServicePortsResponse>,
}

async fn agents(suite: &Suite) -> Agents {
    let (proxy, netfilter) = tokio::join!(
        suite.listeners(ListListenersRequest::default()),
        suite.service_ports(ListServicePortsRequest {})
    );
    Agents { proxy, netfilter }
}

/// Asks for the services, and counts for a second if `rates` are wanted.
///
/// # Errors
/// When neither control nor the netfilter-agent answers: there is nobody else who knows of services.
pub(crate) async fn gather(suite: &Suite, rates: bool) -> Result<Services, NobodyAnswers> {
    let control = async { tokio::try_join!(suite.services(ListServicesRequest {}), suite.ready_control()) };
    let (control, first, grants) =
        tokio::join!(control, agents(suite), suite.grants(steppe_api::v1::ListGrantsRequest::default()));
    let control = control.map(|(services, _)| services);
    if let (Err(away), Err(_)) = (&control, &first.netfilter) {
        return Err(NobodyAnswers::from(away.clone()));
    }
    let mut sampler = Sampler::new(&first);
    if rates {
        tokio::time::sleep(rates::INTERVAL).await;
        sampler.again(&agents(suite).await);
    }
    Ok(view::services(control, &first, grants, &sampler))
}
