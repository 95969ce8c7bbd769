//! What the agent serves beside `Sync`: what is in force and what it counted.

use std::{collections::HashMap, net::Ipv4Addr, pin::Pin, sync::Arc, time::Instant};

use steppe_api::{
    sync::{SyncServer, SyncStream},
    v1::{self, netfilter_agent_server::NetfilterAgent, port_event::Event},
};
use steppe_model::VirtualPort;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    error::Error,
    firewall::{Firewall, Shared},
    links::{PortChange, PortView},
    netlink::dump::RawElement,
    ruleset::{Parts, SetName},
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
            unknown_dropped_total: firewall.kernel.unknown_packets().map_err(unreadable)?,
        }))
    }

    async fn list_grants(
        &self,
        request: Request<v1::ListGrantsRequest>,
    ) -> Result<Response<v1::ListGrantsResponse>, Status> {
        let wanted = request.into_inner().workload;
        let mut firewall = self.firewall.lock();
        let packets = granted_packets(&mut firewall).map_err(unreadable)?;
        let grants = firewall
            .state
            .grants()
            .filter(|(bound, _)| wanted.is_empty() || bound.workload.id.as_str() == wanted)
            .map(|(bound, grant)| {
                let ip = bound.workload.ip;
                v1::GrantState {
                    id: grant.id().to_string(),
                    packets_total: packets.get(&(ip, grant.vip, grant.port)).copied().unwrap_or(0),
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

fn present(port: PortView) -> Event {
    Event::Present(v1::BridgePort {
        ifindex: port.ifindex,
        name: port.name.as_str().into(),
        bridge: port.bridge.as_str().into(),
        mac: port.mac.to_string(),
        ips: port.ips.iter().map(ToString::to_string).collect(),
    })
}

/// The packets that each grant let through.
fn granted_packets(
    firewall: &mut Firewall,
) -> Result<HashMap<(Ipv4Addr, Ipv4Addr, VirtualPort), u64>, Error> {
    let exact = |element: RawElement<'_>| {
        let mut key = Parts(element.key);
        let (client, vip, protocol, port) = (key.ip()?, key.ip()?, key.protocol()?, key.port()?);
        Some(((client, vip, VirtualPort::new(protocol, port)), element.packets))
    };
    let any = |element: RawElement<'_>| {
        let mut key = Parts(element.key);
        Some(((key.ip()?, key.ip()?, VirtualPort::ANY), element.packets))
    };
    let mut packets: HashMap<_, _> = firewall.kernel.elements(SetName::Grants, exact)?.into_iter().collect();
    packets.extend(firewall.kernel.elements(SetName::GrantsAny, any)?);
    Ok(packets)
}

fn unreadable(error: Error) -> Status {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    Status::internal(format!("{error}{source}"))
}
