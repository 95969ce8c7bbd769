//! Asking the processes of this host, with a deadline on every call.

use std::{
    error::Error,
    io::{self, ErrorKind},
    path::PathBuf,
    time::Duration,
};

use steppe_api::{
    uds,
    v1::{
        ControlStatus, GetControlStatusRequest, GetNetfilterStatusRequest, GetPairRequest,
        GetProxyStatusRequest, ListDoorsRequest, ListDoorsResponse, ListGrantsRequest, ListGrantsResponse,
        ListListenersRequest, ListListenersResponse, ListNetfilterNetworksRequest,
        ListNetfilterNetworksResponse, ListNetfilterWorkloadsRequest, ListNetfilterWorkloadsResponse,
        ListServicePortsRequest, ListServicePortsResponse, ListServicesRequest, ListServicesResponse,
        ListUserNetworksRequest, ListUserNetworksResponse, ListWorkloadsRequest, ListWorkloadsResponse,
        NetfilterStatus, Pair, ProxyStatus, control_client::ControlClient,
        netfilter_agent_client::NetfilterAgentClient, networks_client::NetworksClient,
        proxy_client::ProxyClient,
    },
};
use steppe_daemon::{Process, RunDir};
use tonic::{Code, Response, Status, transport::Channel};

use crate::{Answer, Away, AwayKind, readiness};

mod dns;
mod networks;

pub use dns::DNS;
pub use networks::Declined;

/// How long a process may take to connect and answer one question. A person waits.
pub const DEADLINE: Duration = Duration::from_secs(2);
/// A listing of a large host is larger than tonic's 4 MiB.
const LARGEST_ANSWER: usize = 256 << 20;

/// The processes of one run directory.
#[derive(Debug, Clone)]
pub struct Suite {
    run_dir: RunDir,
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident: $process:ident $client:ident.$call:ident($request:ty) -> $answer:ty;)*) => {
        impl Suite {
            $(
                $(#[$doc])*
                ///
                /// # Errors
                /// [`Away`], when there is no answer within [`DEADLINE`].
                pub async fn $name(&self, request: $request) -> Answer<$answer> {
                    self.ask(Process::$process, async |channel| {
                        $client::new(channel).max_decoding_message_size(LARGEST_ANSWER).$call(request).await
                    })
                    .await
                }
            )*
        }
    };
}

questions! {
    /// The whole suite, as control sees it.
    control_status: Control ControlClient.get_status(GetControlStatusRequest) -> ControlStatus;
    /// The services that this host's workloads may reach.
    services: Control ControlClient.list_services(ListServicesRequest) -> ListServicesResponse;
    /// The workloads of this host.
    workloads: Control ControlClient.list_workloads(ListWorkloadsRequest) -> ListWorkloadsResponse;
    /// What was planned for one workload and one service.
    pair: Control ControlClient.get_pair(GetPairRequest) -> Pair;
    /// Users' networks.
    user_networks: Control NetworksClient.list_networks(ListUserNetworksRequest) -> ListUserNetworksResponse;
    /// The firewall's status.
    netfilter_status: NetfilterAgent NetfilterAgentClient.get_status(GetNetfilterStatusRequest) -> NetfilterStatus;
    /// The grants in the kernel.
    grants: NetfilterAgent NetfilterAgentClient.list_grants(ListGrantsRequest) -> ListGrantsResponse;
    /// The ports of services in the kernel.
    service_ports: NetfilterAgent NetfilterAgentClient.list_service_ports(ListServicePortsRequest) -> ListServicePortsResponse;
    /// The workloads in the kernel.
    bound_workloads: NetfilterAgent NetfilterAgentClient.list_workloads(ListNetfilterWorkloadsRequest) -> ListNetfilterWorkloadsResponse;
    /// The doors, and whom they refused.
    doors: NetfilterAgent NetfilterAgentClient.list_doors(ListDoorsRequest) -> ListDoorsResponse;
    /// The networks in the kernel.
    networks: NetfilterAgent NetfilterAgentClient.list_networks(ListNetfilterNetworksRequest) -> ListNetfilterNetworksResponse;
    /// The proxy's status.
    proxy_status: Proxy ProxyClient.get_status(GetProxyStatusRequest) -> ProxyStatus;
    /// The proxy's listeners.
    listeners: Proxy ProxyClient.list_listeners(ListListenersRequest) -> ListListenersResponse;
}

impl Suite {
    /// The processes whose sockets are in `run_dir`.
    #[must_use]
    pub fn new(run_dir: PathBuf) -> Self {
        Self { run_dir: RunDir { run_dir } }
    }

    /// As [`Self::control_status`], if control has made a plan: before that it answers as if there were nothing, and
    /// what the agents have in force is the better answer.
    ///
    /// # Errors
    /// [`Away`], also when control has not planned yet.
    pub async fn ready_control(&self) -> Answer<ControlStatus> {
        let status = self.control_status(GetControlStatusRequest {}).await?;
        match readiness::readiness(&status) {
            Ok(()) => Ok(status),
            Err(kind) => {
                let process = Process::Control;
                Err(Away { process, socket: self.run_dir.socket(process), kind })
            }
        }
    }

    async fn ask<T>(
        &self,
        process: Process,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Answer<T> {
        self.ask_within(process, DEADLINE, call).await
    }

    async fn ask_within<T>(
        &self,
        process: Process,
        deadline: Duration,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Answer<T> {
        let socket = self.run_dir.socket(process);
        let conversation = async {
            let channel = uds::connect(&socket, None).await.map_err(|error| why_unconnected(&error))?;
            let answer = call(channel).await.map_err(|status| why_unanswered(&status))?;
            Ok(answer.into_inner())
        };
        let kind = match tokio::time::timeout(deadline, conversation).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(kind)) => kind,
            Err(_) => AwayKind::Slow,
        };
        Err(Away { process, socket, kind })
    }
}

fn why_unconnected(error: &tonic::transport::Error) -> AwayKind {
    match io_kind(error) {
        Some(ErrorKind::NotFound) => AwayKind::NoSocket,
        Some(ErrorKind::ConnectionRefused) => AwayKind::NobodyListens,
        Some(ErrorKind::PermissionDenied) => AwayKind::Denied,
        Some(ErrorKind::TimedOut) => AwayKind::Slow,
        _ => AwayKind::Failed(innermost(error)),
    }
}

fn why_unanswered(status: &Status) -> AwayKind {
    match status.code() {
        Code::PermissionDenied => AwayKind::Denied,
        Code::DeadlineExceeded => AwayKind::Slow,
        Code::Unimplemented => AwayKind::Older,
        // A process that dies while it is asked cuts the connection.
        Code::Unavailable if status.message().is_empty() => AwayKind::Failed("it went away".into()),
        code => AwayKind::Failed(format!("{code:?}: {}", status.message())),
    }
}

/// tonic wraps what the connector said several times.
fn io_kind(error: &(dyn Error + 'static)) -> Option<ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        next = error.source();
    }
    None
}

fn innermost(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = error.to_string();
        next = error.source();
    }
    text
}
