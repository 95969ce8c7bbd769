//! control, played.

use super::*;

/// control: container `api` is granted `web:80`.
#[derive(Clone, Default)]
pub struct Control {
    /// How many services it lists.
    pub services: usize,
    /// It has not planned yet, and knows of nothing.
    pub unready: bool,
}

impl Control {
    fn service(&self) -> Service {
        let port = GrantedPort {
            protocol: Protocol::Tcp.into(),
            port: 80,
            listener: at("169.254.77.54", 17_007),
            ..GrantedPort::default()
        };
        let instance = Instance { healthy: true, address: at("10.0.0.5", 24_011), ..Instance::default() };
        Service {
            key: Some(web()),
            vip: VIP.into(),
            ports: vec![port],
            instances: vec![instance],
            grants: 1,
            empty_for_ms: 0,
            path: ServicePath::Proxy.into(),
            stand_in: false,
        }
    }

    fn workload(&self) -> WorkloadInfo {
        let attachment = Attachment {
            id: ID.into(),
            ip: IP.into(),
            bridge: "docker0".into(),
            port_name: "veth1".into(),
            in_force: true,
            ..Attachment::default()
        };
        WorkloadInfo {
            id: "0123456789abcdef".into(),
            name: "api".into(),
            attachments: vec![attachment],
            grants: vec![self.grant()],
            ..WorkloadInfo::default()
        }
    }

    fn grant(&self) -> GrantInfo {
        GrantInfo {
            text: "web:80".into(),
            origin: "label of container api".into(),
            service: Some(web()),
            protocol: Protocol::Tcp.into(),
            port: 80,
            ..GrantInfo::default()
        }
    }
}

#[async_trait]
impl control_server::Control for Control {
    async fn get_status(&self, _: Request<GetControlStatusRequest>) -> Reply<ControlStatus> {
        let agent = |name: &str| AgentStatus {
            name: name.into(),
            state: AgentState::Live.into(),
            ..AgentStatus::default()
        };
        let docker = SourceStatus {
            name: "docker".into(),
            state: SourceState::Live.into(),
            ..SourceStatus::default()
        };
        let about = about().map(|about| About { synced: !self.unready, ..about });
        Ok(Response::new(ControlStatus {
            about,
            node: "n17".into(),
            agents: vec![agent("proxy"), agent("netfilter-agent")],
            sources: vec![docker],
            workloads: 1,
            services: 1,
            ..ControlStatus::default()
        }))
    }

    async fn list_services(&self, _: Request<ListServicesRequest>) -> Reply<ListServicesResponse> {
        let service = |number| {
            let name = if number == 0 { "web".to_owned() } else { format!("web{number}") };
            Service { key: Some(ServiceKey { name, ..web() }), ..self.service() }
        };
        Ok(Response::new(ListServicesResponse { services: (0..self.services.max(1)).map(service).collect() }))
    }

    async fn list_workloads(&self, _: Request<ListWorkloadsRequest>) -> Reply<ListWorkloadsResponse> {
        Ok(Response::new(ListWorkloadsResponse { workloads: vec![self.workload()] }))
    }

    async fn get_pair(&self, request: Request<GetPairRequest>) -> Reply<Pair> {
        let asked = request.into_inner();
        if self.unready {
            let workload = Some(WorkloadInfo { grants: Vec::new(), ..self.workload() });
            return Ok(Response::new(Pair { workload, asked: Some(web()), ..Pair::default() }));
        }
        let pair = match (&*asked.workload, &*asked.service) {
            ("api", "web:80" | "web") => Pair {
                workload: Some(self.workload()),
                asked: Some(web()),
                protocol: Protocol::Tcp.into(),
                port: 80,
                grant: Some(self.grant()),
                service: Some(self.service()),
                ..Pair::default()
            },
            ("api", "web:x") => {
                Pair { service_problem: "port `x` is not a number".into(), ..Pair::default() }
            }
            ("api", name) => Pair {
                workload: Some(self.workload()),
                asked: Some(ServiceKey { name: name.into(), ..web() }),
                ..Pair::default()
            },
            _ => Pair { workload_problem: "no workload of this host is that".into(), ..Pair::default() },
        };
        Ok(Response::new(pair))
    }
}
