//! control's end of the agent's socket.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use steppe_api::{
    uds,
    v1::{
        self, netfilter_agent_client::NetfilterAgentClient, port_event::Event, resource::Kind,
        sync_request::Message as Ask, sync_response::Message as Answer,
    },
};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use tonic::{Streaming, transport::Channel};

use crate::{
    agent::Agent,
    net::{Container, DEADLINE, Host, LISTENER},
};

pub const VIP: &str = "247.1.2.3";

/// Runs a test's asynchronous part.
pub fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test)
}

pub async fn client(agent: &Agent) -> NetfilterAgentClient<Channel> {
    NetfilterAgentClient::new(uds::connect(&agent.socket(), None).await.unwrap())
        .max_decoding_message_size(1 << 28)
}

pub struct Control {
    pub client: NetfilterAgentClient<Channel>,
    requests: mpsc::Sender<v1::SyncRequest>,
    answers: Streaming<v1::SyncResponse>,
    version: u64,
    /// What the agent had in force when the stream began.
    pub inventory: Vec<v1::Resource>,
}

impl Control {
    pub async fn connect(agent: &Agent) -> Self {
        let mut client = client(agent).await;
        let (requests, receiver) = mpsc::channel(1024);
        let mut answers = client.sync(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let mut inventory = Vec::new();
        loop {
            match answers.message().await.unwrap().unwrap().message.unwrap() {
                Answer::Inventory(part) => inventory.extend(part.resources),
                Answer::InventoryEnd(_) => break,
                other => panic!("{other:?} before the end of the inventory"),
            }
        }
        Self { client, requests, answers, version: 0, inventory }
    }

    async fn send(&mut self, message: Ask) {
        self.version += 1;
        let request = v1::SyncRequest { version: self.version, message: Some(message) };
        self.requests.send(request).await.unwrap();
    }

    /// Waits until all is settled; gives what was rejected.
    async fn settled(&mut self) -> Vec<v1::Reject> {
        let mut rejected = Vec::new();
        loop {
            match self.answers.message().await.unwrap().unwrap().message.unwrap() {
                Answer::Reject(reject) => rejected.push(reject),
                Answer::Ack(ack) if ack.version == self.version => return rejected,
                Answer::Ack(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn snapshot(&mut self, resources: Vec<v1::Resource>) -> Vec<v1::Reject> {
        self.send(Ask::SnapshotBegin(v1::SnapshotBegin { epoch: 1 })).await;
        for resource in resources {
            self.send(Ask::Upsert(resource)).await;
        }
        self.send(Ask::SnapshotEnd(v1::SnapshotEnd {})).await;
        self.settled().await
    }

    pub async fn upsert(&mut self, resources: Vec<v1::Resource>) -> Vec<v1::Reject> {
        for resource in resources {
            self.send(Ask::Upsert(resource)).await;
        }
        self.settled().await
    }

    pub async fn remove(&mut self, id: &str) -> Vec<v1::Reject> {
        self.send(Ask::Remove(id.into())).await;
        self.settled().await
    }

    pub async fn status(&mut self) -> v1::NetfilterStatus {
        self.client.get_status(v1::GetNetfilterStatusRequest {}).await.unwrap().into_inner()
    }

    pub async fn workloads(&mut self) -> Vec<v1::WorkloadState> {
        let request = v1::ListNetfilterWorkloadsRequest {};
        self.client.list_workloads(request).await.unwrap().into_inner().workloads
    }

    pub async fn grants(&mut self) -> Vec<v1::GrantState> {
        self.client.list_grants(v1::ListGrantsRequest::default()).await.unwrap().into_inner().grants
    }

    pub async fn vips(&mut self) -> Vec<v1::VipState> {
        let request = v1::ListServicePortsRequest {};
        self.client.list_service_ports(request).await.unwrap().into_inner().vips
    }

    /// Waits until the agent knows a container's port with its address.
    pub async fn port_of(&mut self, container: &Container) -> v1::BridgePort {
        let mut events = self.client.watch_ports(v1::WatchPortsRequest {}).await.unwrap().into_inner();
        let ip = container.ip.to_string();
        let search = async {
            while let Some(event) = events.next().await {
                match event.unwrap().event.unwrap() {
                    Event::Present(port) if port.name == container.port && port.ips.contains(&ip) => {
                        return port;
                    }
                    _ => {}
                }
            }
            panic!("the stream of ports ended");
        };
        tokio::time::timeout(DEADLINE, search).await.expect("the agent does not see the container's port")
    }
}

/// Asks again until it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let ask = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, ask).await.unwrap_or_else(|_| panic!("not so in time: {what}"));
}

pub fn workload_id(container: &Container) -> String {
    format!("{}@{}", container.port, container.bridge)
}

pub fn workload(host: &Host, container: &Container) -> v1::Resource {
    let workload = v1::Workload {
        ip: container.ip.to_string(),
        mac: container.mac.clone(),
        bridge: container.bridge.clone(),
        port_ifindex: host.ifindex(&container.port),
        name: "api[0] of a job".into(),
        user: "alice".into(),
        guarded: false,
    };
    v1::Resource { id: workload_id(container), kind: Some(Kind::Workload(workload)) }
}

fn web() -> v1::ServiceKey {
    v1::ServiceKey { user: "alice".into(), name: "web".into(), tag: String::new() }
}

/// [`VIP`] stands for `web`.
pub fn virtual_ip() -> v1::Resource {
    let content = v1::VirtualIp { service: Some(web()), vip: VIP.into() };
    v1::Resource { id: VIP.into(), kind: Some(Kind::VirtualIp(content)) }
}

/// A port of `web` at [`VIP`]; port 0 is every TCP port.
pub fn service_port(protocol: v1::Protocol, port: u16, listener: u16) -> v1::Resource {
    service_port_with(protocol, port, Some(listener), &[])
}

/// One that leads also, or only, to endpoints of these weights on the kernel path.
pub fn service_port_with(
    protocol: v1::Protocol,
    port: u16,
    listener: Option<u16>,
    endpoints: &[(SocketAddr, u32)],
) -> v1::Resource {
    let address =
        |address: SocketAddr| v1::SocketAddress { ip: address.ip().to_string(), port: address.port().into() };
    let endpoint = |(at, weight): &(SocketAddr, u32)| v1::Endpoint {
        address: Some(address(*at)),
        weight: *weight,
        node: "n17".into(),
    };
    let content = v1::ServicePort {
        service: Some(web()),
        vip: VIP.into(),
        protocol: protocol.into(),
        port: port.into(),
        listener: listener.map(|port| address((LISTENER, port).into())),
        endpoints: endpoints.iter().map(endpoint).collect(),
    };
    let id = format!("{VIP}:{}", port_text(protocol, port));
    v1::Resource { id, kind: Some(Kind::ServicePort(content)) }
}

/// The proxy is away.
pub fn takeover() -> v1::Resource {
    v1::Resource { id: "takeover".into(), kind: Some(Kind::Takeover(v1::Takeover {})) }
}

pub fn grant(container: &Container, protocol: v1::Protocol, port: u16) -> v1::Resource {
    grant_to(&workload_id(container), VIP.parse().unwrap(), protocol, port)
}

pub fn grant_to(workload: &str, vip: Ipv4Addr, protocol: v1::Protocol, port: u16) -> v1::Resource {
    let content = v1::Grant {
        workload: workload.into(),
        vip: vip.to_string(),
        protocol: protocol.into(),
        port: port.into(),
    };
    let id = format!("{workload} > {vip}:{}", port_text(protocol, port));
    v1::Resource { id, kind: Some(Kind::Grant(content)) }
}

fn port_text(protocol: v1::Protocol, port: u16) -> String {
    let protocol = if protocol == v1::Protocol::Tcp { "tcp" } else { "udp" };
    if port == 0 { format!("*/{protocol}") } else { format!("{port}/{protocol}") }
}
