//! The netfilter-agent, played.

use super::*;

/// The netfilter-agent: container `api` has its grant, and one door watches.
#[derive(Default)]
pub struct Netfilter {
    /// It is of a release that kept no doors.
    pub old: bool,
}

#[async_trait]
impl netfilter_agent_server::NetfilterAgent for Netfilter {
    type SyncStream = Stream<SyncResponse>;
    type WatchPortsStream = Stream<PortEvent>;

    async fn sync(&self, _: Request<tonic::Streaming<SyncRequest>>) -> Reply<Self::SyncStream> {
        Ok(Response::new(nothing()))
    }

    async fn get_status(&self, _: Request<GetNetfilterStatusRequest>) -> Reply<NetfilterStatus> {
        Ok(Response::new(NetfilterStatus { about: about(), ..NetfilterStatus::default() }))
    }

    async fn list_grants(&self, _: Request<ListGrantsRequest>) -> Reply<ListGrantsResponse> {
        let grant = Grant { workload: ID.into(), vip: VIP.into(), protocol: Protocol::Tcp.into(), port: 80 };
        let state = GrantState { id: "g".into(), grant: Some(grant), ip: IP.into(), packets_total: 1 };
        Ok(Response::new(ListGrantsResponse { grants: vec![state] }))
    }

    async fn list_service_ports(
        &self,
        _: Request<ListServicePortsRequest>,
    ) -> Reply<ListServicePortsResponse> {
        let port = ServicePort {
            service: Some(web()),
            vip: VIP.into(),
            protocol: Protocol::Tcp.into(),
            port: 80,
            listener: at("169.254.77.54", 17_007),
            endpoints: Vec::new(),
        };
        let vip = VipState { service: Some(web()), vip: VIP.into(), refused_total: 12 };
        Ok(Response::new(ListServicePortsResponse { service_ports: vec![port], vips: vec![vip] }))
    }

    async fn list_workloads(
        &self,
        _: Request<ListNetfilterWorkloadsRequest>,
    ) -> Reply<ListNetfilterWorkloadsResponse> {
        let workload = Workload {
            ip: IP.into(),
            bridge: "docker0".into(),
            name: "api".into(),
            port_ifindex: 7,
            ..Workload::default()
        };
        let state = WorkloadState { id: ID.into(), workload: Some(workload), port_name: "veth1".into() };
        Ok(Response::new(ListNetfilterWorkloadsResponse { workloads: vec![state] }))
    }

    async fn list_doors(&self, _: Request<ListDoorsRequest>) -> Reply<ListDoorsResponse> {
        if self.old {
            return Err(Status::unimplemented(""));
        }
        let door = |name: DoorName, mode: DoorMode, refused_total| DoorState {
            name: name.into(),
            mode: mode.into(),
            refused_total,
        };
        let tried = DoorCount {
            door: DoorName::Published.into(),
            port: "24011/tcp".into(),
            name: "pg-1".into(),
            user: "bob".into(),
            packets_total: 7,
            ..DoorCount::default()
        };
        let published = PublishedPort {
            protocol: Protocol::Tcp.into(),
            port: 24_011,
            expose: Expose::Proxies.into(),
            name: "pg-1".into(),
            ..PublishedPort::default()
        };
        Ok(Response::new(ListDoorsResponse {
            doors: vec![
                door(DoorName::Dns, DoorMode::Enforce, 1),
                door(DoorName::Published, DoorMode::Audit, 7),
            ],
            counts: vec![tried],
            settings: Some(Doors::default()),
            published: vec![published],
            closed: Vec::new(),
        }))
    }

    async fn list_networks(
        &self,
        _: Request<ListNetfilterNetworksRequest>,
    ) -> Reply<ListNetfilterNetworksResponse> {
        if self.old {
            return Err(Status::unimplemented(""));
        }
        Ok(Response::new(ListNetfilterNetworksResponse::default()))
    }

    async fn watch_ports(&self, _: Request<WatchPortsRequest>) -> Reply<Self::WatchPortsStream> {
        Ok(Response::new(nothing()))
    }
}
