//! Processes of the suite, played on unix sockets in a run directory of the test's own.

#![allow(clippy::unwrap_used, reason = "a test's helpers may assume what they set up")]

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use steppe_api::{serve::serve, uds, v1::*};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

type Reply<T> = Result<Response<T>, Status>;
type Stream<T> = ReceiverStream<Result<T, Status>>;

/// A run directory, and the runtime that plays the processes in it.
pub struct Suite {
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Suite {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Another user's `steppe` has to get as far as the sockets.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir, runtime }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn listen(&self, name: &str) -> tokio::net::UnixListener {
        let _inside = self.runtime.enter();
        uds::bind(&self.path().join(name)).unwrap()
    }

    pub fn control(self, control: Control) -> Self {
        let listener = self.listen("control.sock");
        self.runtime.spawn(serve(
            listener,
            control_server::ControlServer::new(control),
            std::future::pending(),
        ));
        self
    }

    pub fn netfilter(self) -> Self {
        let listener = self.listen("netfilter-agent.sock");
        let server = netfilter_agent_server::NetfilterAgentServer::new(Netfilter);
        self.runtime.spawn(serve(listener, server, std::future::pending()));
        self
    }

    pub fn proxy(self) -> Self {
        let listener = self.listen("proxy.sock");
        self.runtime.spawn(serve(listener, proxy_server::ProxyServer::new(TheProxy), std::future::pending()));
        self
    }

    /// One of the processes that answer for names, by the name of its socket.
    pub fn dns(self, name: &str) -> Self {
        let listener = self.listen(name);
        self.runtime.spawn(serve(listener, dns_server::DnsServer::new(Names), std::future::pending()));
        self
    }

    /// A process that takes connections and never says a word.
    pub fn hanging(self, name: &str) -> Self {
        let listener = self.listen(name);
        self.runtime.spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steppe"));
        command.env_clear().arg("--run-dir").arg(self.path()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.command(args).output().unwrap())
    }

    /// Runs as somebody who may not open the sockets.
    pub fn run_as_stranger(&self, args: &[&str]) -> Ran {
        for socket in std::fs::read_dir(self.path()).unwrap() {
            std::fs::set_permissions(socket.unwrap().path(), PermissionsExt::from_mode(0o000)).unwrap();
        }
        let binary = self.path().join("steppe");
        // Not by this process: a child that another test starts meanwhile would have the file open for writing, and it could not be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_steppe")).arg(&binary).status().unwrap();
        assert!(copied.success());
        std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(&binary);
        command.env_clear().arg("--run-dir").arg(self.path()).args(args);
        // Root opens whatever it likes.
        if is_root() {
            const STRANGER: u32 = 60_799;
            command.uid(STRANGER).gid(STRANGER);
        }
        Ran::new(command.output().unwrap())
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// What a run of `steppe` left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn about() -> Option<About> {
    Some(About { version: "1.2.0".into(), uptime_seconds: 60, in_force_version: 7, synced: true })
}

pub fn web() -> ServiceKey {
    ServiceKey { user: String::new(), name: "web".into(), tag: String::new() }
}

fn at(ip: &str, port: u32) -> Option<SocketAddress> {
    Some(SocketAddress { ip: ip.into(), port })
}

const ID: &str = "0123456789ab@docker0:7";
const IP: &str = "172.17.0.5";
const VIP: &str = "247.12.8.41";

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

struct Netfilter;

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
        Ok(Response::new(ListNetfilterNetworksResponse::default()))
    }

    async fn watch_ports(&self, _: Request<WatchPortsRequest>) -> Reply<Self::WatchPortsStream> {
        Ok(Response::new(nothing()))
    }
}

struct TheProxy;

#[async_trait]
impl proxy_server::Proxy for TheProxy {
    type SyncStream = Stream<SyncResponse>;
    type WatchConnectionsStream = Stream<ConnectionEvent>;

    async fn sync(&self, _: Request<tonic::Streaming<SyncRequest>>) -> Reply<Self::SyncStream> {
        Ok(Response::new(nothing()))
    }

    async fn get_status(&self, _: Request<GetProxyStatusRequest>) -> Reply<ProxyStatus> {
        Ok(Response::new(ProxyStatus { about: about(), ..ProxyStatus::default() }))
    }

    async fn list_listeners(&self, _: Request<ListListenersRequest>) -> Reply<ListListenersResponse> {
        let listener = Listener {
            service: Some(web()),
            protocol: Protocol::Tcp.into(),
            port: 80,
            address: at("169.254.77.54", 17_007),
            ..Listener::default()
        };
        let endpoint = EndpointState { address: at("10.0.0.5", 24_011), ..EndpointState::default() };
        let state = ListenerState {
            listener: Some(listener),
            clients: vec![IP.into()],
            accepted_total: 118,
            endpoints: vec![endpoint],
            ..ListenerState::default()
        };
        Ok(Response::new(ListListenersResponse { listeners: vec![state] }))
    }

    async fn list_connections(&self, _: Request<ListConnectionsRequest>) -> Reply<ListConnectionsResponse> {
        Ok(Response::new(ListConnectionsResponse::default()))
    }

    async fn watch_connections(
        &self,
        _: Request<WatchConnectionsRequest>,
    ) -> Reply<Self::WatchConnectionsStream> {
        Ok(Response::new(nothing()))
    }
}

/// dns: `web` is granted to container `api`, and nobody else may name anything.
struct Names;

#[async_trait]
impl dns_server::Dns for Names {
    type SyncStream = Stream<SyncResponse>;
    type WatchQuestionsStream = Stream<QuestionEvent>;

    async fn sync(&self, _: Request<tonic::Streaming<SyncRequest>>) -> Reply<Self::SyncStream> {
        Ok(Response::new(nothing()))
    }

    async fn get_status(&self, _: Request<GetDnsStatusRequest>) -> Reply<DnsStatus> {
        Ok(Response::new(DnsStatus {
            about: about(),
            listening: vec!["169.254.77.53:53".into()],
            upstreams: vec![Upstream::default()],
            ..DnsStatus::default()
        }))
    }

    async fn list_askers(&self, _: Request<ListAskersRequest>) -> Reply<ListAskersResponse> {
        Ok(Response::new(ListAskersResponse::default()))
    }

    async fn list_members(&self, _: Request<ListMembersRequest>) -> Reply<ListMembersResponse> {
        Ok(Response::new(ListMembersResponse::default()))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Reply<QueryResponse> {
        let QueryRequest { ip, name, .. } = request.into_inner();
        let response = if (&*ip, &*name) == (IP, "web") {
            QueryResponse {
                result: QuestionResult::Service.into(),
                rcode: "NOERROR".into(),
                records: vec![format!("web.steppe.internal. 5 IN A {VIP}")],
                ..QueryResponse::default()
            }
        } else {
            QueryResponse {
                result: QuestionResult::NoName.into(),
                rcode: "NXDOMAIN".into(),
                reason: "no such name".into(),
                ..QueryResponse::default()
            }
        };
        Ok(Response::new(response))
    }

    async fn watch_questions(&self, _: Request<WatchQuestionsRequest>) -> Reply<Self::WatchQuestionsStream> {
        Ok(Response::new(nothing()))
    }
}

/// A stream that is at its end.
fn nothing<T>() -> Stream<T> {
    let (_, receiver) = mpsc::channel(1);
    ReceiverStream::new(receiver)
}
