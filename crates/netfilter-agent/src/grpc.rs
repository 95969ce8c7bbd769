//! What the agent serves beside `Sync`: what is in force and what it counted.

mod doors;

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Instant};

use steppe_api::{
    sync::{SyncServer, SyncStream},
    v1::{self, netfilter_agent_server::NetfilterAgent, port_event::Event},
};
use steppe_model::Grant;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    docker_user::Standing,
    error::Error,
    firewall::{Firewall, Shared},
    kernel::Kernel,
    links::{PortChange, PortView},
    netlink::dump::RawElement,
    ruleset::{Parts, SetName, UNKNOWN_COUNTER, Value},
    state::{Bound, grant_key},
};

/// The agent's gRPC service.
#[derive(Clone)]
pub(crate) struct Service {
    firewall: Shared,
    sync: Arc<SyncServer<Shared>>,
    started: Instant,
}

impl Service {
    /// Serves this firewall; desired state comes from `control_uid` alone.
    pub(crate) fn new(firewall: Shared, control_uid: u32) -> Self {
        let sync = Arc::new(SyncServer::new(firewall.clone(), control_uid));
        Self { firewall, sync, started: Instant::now() }
    }
}

#[tonic::async_trait]
impl NetfilterAgent for Service {
    type SyncStream = SyncStream;
    type WatchPortsStream = Pin<Box<dyn Stream<Item = Result<v1::PortEvent, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<SyncStream>, Status> {
        self.sync.sync(request)
    }

    async fn get_status(
        &self,
        _: Request<v1::GetNetfilterStatusRequest>,
    ) -> Result<Response<v1::NetfilterStatus>, Status> {
        let about = self.sync.about(env!("CARGO_PKG_VERSION"), self.started.elapsed());
        let mut firewall = self.firewall.lock();
        let totals = firewall.totals;
        Ok(Response::new(v1::NetfilterStatus {
            about: Some(about),
            elements: firewall.state.elements() as u64,
            transactions_total: totals.transactions,
            failed_total: totals.failed,
            restored_total: totals.restored,
            owned: firewall.kernel.owned(),
            unknown_dropped_total: firewall.kernel.counted(UNKNOWN_COUNTER).map_err(unreadable)?,
            takeover: firewall.state.takeover(),
            docker_user_rule: docker_user_rule(firewall.docker_user).into(),
        }))
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        let wanted = request.into_inner().workload;
        let mut firewall = self.firewall.lock();
        let Firewall { state, kernel, .. } = &mut *firewall;
        let grants: Vec<_> =
            if wanted.is_empty() { state.grants().collect() } else { state.grants_of(&wanted).collect() };
        let packets = granted_packets(kernel, &grants, wanted.is_empty()).map_err(unreadable)?;
        let grants = grants
            .into_iter()
            .map(|(bound, grant)| {
                let ip = bound.workload.ip;
                v1::GrantState {
                    id: grant.id().to_string(),
                    packets_total: packets.get(&grant_key(ip, grant.vip, grant.port)).copied().unwrap_or(0),
                    grant: Some((&grant).into()),
                    ip: ip.to_string(),
                }
            })
            .collect();
        Ok(Response::new(v1::ListGrantsResponse { grants }))
    }

    async fn list_service_ports(
        &self,
        _: Request<v1::ListServicePortsRequest>,
    ) -> Result<Response<v1::ListServicePortsResponse>, Status> {
        let mut firewall = self.firewall.lock();
        let refused = firewall
            .kernel
            .elements(SetName::Vips, |element| Some((Parts(element.key).ip()?, element.packets)));
        let refused: HashMap<_, _> = refused.map_err(unreadable)?.into_iter().collect();
        let service_ports = firewall.state.service_ports().map(|port| (&port).into()).collect();
        let vips = firewall
            .state
            .vips()
            .map(|(vip, service)| v1::VipState {
                service: Some(service.into()),
                vip: vip.to_string(),
                refused_total: refused.get(&vip).copied().unwrap_or(0),
            })
            .collect();
        Ok(Response::new(v1::ListServicePortsResponse { service_ports, vips }))
    }

    async fn list_doors(
        &self,
        _: Request<v1::ListDoorsRequest>,
    ) -> Result<Response<v1::ListDoorsResponse>, Status> {
        doors::list(&mut self.firewall.lock()).map(Response::new).map_err(unreadable)
    }

    async fn list_networks(
        &self,
        _: Request<v1::ListNetfilterNetworksRequest>,
    ) -> Result<Response<v1::ListNetfilterNetworksResponse>, Status> {
        Ok(Response::new(doors::networks(&self.firewall.lock().state)))
    }

    async fn list_workloads(
        &self,
        _: Request<v1::ListNetfilterWorkloadsRequest>,
    ) -> Result<Response<v1::ListNetfilterWorkloadsResponse>, Status> {
        let firewall = self.firewall.lock();
        let workloads = firewall
            .state
            .workloads()
            .map(|bound| v1::WorkloadState {
                id: bound.workload.id.to_string(),
                workload: Some((&bound.workload).into()),
                port_name: bound.port.as_str().into(),
            })
            .collect();
        Ok(Response::new(v1::ListNetfilterWorkloadsResponse { workloads }))
    }

    async fn watch_ports(
        &self,
        _: Request<v1::WatchPortsRequest>,
    ) -> Result<Response<Self::WatchPortsStream>, Status> {
        let (ports, changes) = self.firewall.lock().watch_ports();
        let listed = ports.into_iter().map(present).chain([Event::Listed(v1::PortsListed {})]);
        let changes = ReceiverStream::new(changes).map(|change| match change {
            PortChange::Present(port) => present(port),
            PortChange::Gone(ifindex) => Event::Gone(ifindex),
        });
        let events =
            tokio_stream::iter(listed).chain(changes).map(|event| Ok(v1::PortEvent { event: Some(event) }));
        Ok(Response::new(Box::pin(events)))
    }
}

fn docker_user_rule(standing: Standing) -> v1::DockerUserRule {
    match standing {
        Standing::NotNeeded => v1::DockerUserRule::NotNeeded,
        Standing::InPlace => v1::DockerUserRule::InPlace,
        Standing::NoChain => v1::DockerUserRule::NoChain,
        Standing::Failed => v1::DockerUserRule::Failed,
    }
}

fn present(port: PortView) -> Event {
    Event::Present(v1::BridgePort {
        ifindex: port.ifindex,
        name: port.name.as_str().into(),
        bridge: port.bridge.as_str().into(),
        mac: port.mac.to_string(),
        ips: port.ips.iter().map(ToString::to_string).collect(),
    })
}

/// The packets that each grant let through: of all grants by a listing, of some by their keys.
fn granted_packets(
    kernel: &mut Kernel,
    grants: &[(&Bound, Grant)],
    all: bool,
) -> Result<HashMap<(SetName, Value), u64>, Error> {
    let mut packets = HashMap::with_capacity(grants.len());
    for set in [SetName::Grants, SetName::GrantsAny] {
        let take = |element: RawElement<'_>| Some((Value::new(element.key)?, element.packets));
        let counted = if all {
            kernel.elements(set, take)?
        } else {
            let keys =
                grants.iter().map(|(bound, grant)| grant_key(bound.workload.ip, grant.vip, grant.port));
            let keys: Vec<Value> = keys.filter(|(at, _)| *at == set).map(|(_, key)| key).collect();
            kernel.some_elements(set, &keys, take)?
        };
        packets.extend(counted.into_iter().map(|(key, packets)| ((set, key), packets)));
    }
    Ok(packets)
}

fn unreadable(error: Error) -> Status {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    Status::internal(format!("{error}{source}"))
}
