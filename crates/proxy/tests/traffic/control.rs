//! Control's end of Sync, and the questions people ask.

use std::{net::Ipv4Addr, path::Path};

use steppe_api::{
    uds,
    v1::{self, proxy_client::ProxyClient, sync_request, sync_response::Message},
};
use steppe_model::{Client, Endpoint, Listener, ListenerKey, Protocol, Resource, ServiceKey, VirtualPort};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::net::soon;

/// A Sync stream.
pub(crate) struct Control {
    pub(crate) client: ProxyClient<Channel>,
    requests: mpsc::Sender<v1::SyncRequest>,
    responses: Streaming<v1::SyncResponse>,
    version: u64,
    /// What the proxy said it had in force.
    pub(crate) inventory: Vec<v1::Resource>,
}

/// Ids and reasons.
pub(crate) type Rejections = Vec<(String, String)>;

impl Control {
    /// Connects and gives an empty snapshot.
    pub(crate) async fn connect(socket: &Path) -> Self {
        let mut control = Self::open(socket).await.unwrap();
        control.snapshot(&[]).await;
        control
    }

    /// Connects and listens to the inventory.
    pub(crate) async fn open(socket: &Path) -> Result<Self, Status> {
        let mut client = ProxyClient::new(soon(uds::connect(socket, None)).await.unwrap());
        let (requests, receiver) = mpsc::channel(1024);
        let responses = soon(client.sync(ReceiverStream::new(receiver))).await?.into_inner();
        let mut control = Self { client, requests, responses, version: 0, inventory: vec![] };
        loop {
            match control.response().await? {
                Message::Inventory(part) => control.inventory.extend(part.resources),
                Message::InventoryEnd(_) => return Ok(control),
                other => panic!("the inventory comes first, not {other:?}"),
            }
        }
    }

    pub(crate) async fn response(&mut self) -> Result<Message, Status> {
        let response = soon(self.responses.message()).await?.expect("the stream goes on");
        Ok(response.message.expect("a message"))
    }

    pub(crate) async fn send(&mut self, message: sync_request::Message) {
        self.version += 1;
        let request = v1::SyncRequest { version: self.version, message: Some(message) };
        self.requests.send(request).await.unwrap();
    }

    /// Waits until everything sent is settled.
    pub(crate) async fn settle(&mut self) -> Rejections {
        let mut rejections = vec![];
        loop {
            match self.response().await.unwrap() {
                Message::Ack(ack) if ack.version == self.version => return rejections,
                Message::Ack(_) => {}
                Message::Reject(reject) => rejections.push((reject.id, reject.reason)),
                Message::Draining(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the proxy says that it is about to stop.
    pub(crate) async fn until_draining(&mut self) {
        let response = self.response().await.unwrap();
        assert!(matches!(response, Message::Draining(_)), "{response:?}");
    }

    /// Says that nothing new leads to the proxy.
    pub(crate) async fn relieve(&mut self) {
        self.send(sync_request::Message::Relieved(v1::Relieved {})).await;
    }

    pub(crate) async fn snapshot(&mut self, resources: &[Resource]) -> Rejections {
        self.send(sync_request::Message::SnapshotBegin(v1::SnapshotBegin { epoch: 1 })).await;
        for resource in resources {
            self.send(sync_request::Message::Upsert(resource.into())).await;
        }
        self.send(sync_request::Message::SnapshotEnd(v1::SnapshotEnd {})).await;
        self.settle().await
    }

    pub(crate) async fn upsert_all(&mut self, resources: &[Resource]) -> Rejections {
        for resource in resources {
            self.send(sync_request::Message::Upsert(resource.into())).await;
        }
        self.settle().await
    }

    /// Puts these in force, all of them.
    pub(crate) async fn upsert(&mut self, resources: &[Resource]) {
        assert_eq!(self.upsert_all(resources).await, []);
    }

    pub(crate) async fn remove(&mut self, resource: &Resource) {
        self.send(sync_request::Message::Remove(resource.id().to_string())).await;
        assert_eq!(self.settle().await, []);
    }

    pub(crate) async fn listener_state(&mut self, listener: &Resource) -> v1::ListenerState {
        let all = self.listeners().await;
        let id = listener.id();
        all.into_iter().find(|state| state.id == id.as_str()).expect("the listener is in force")
    }

    pub(crate) async fn listeners(&mut self) -> Vec<v1::ListenerState> {
        let request = v1::ListListenersRequest::default();
        soon(self.client.list_listeners(request)).await.unwrap().into_inner().listeners
    }

    pub(crate) async fn status(&mut self) -> v1::ProxyStatus {
        soon(self.client.get_status(v1::GetProxyStatusRequest {})).await.unwrap().into_inner()
    }

    pub(crate) async fn connections(&mut self, limit: u32) -> v1::ListConnectionsResponse {
        let request = v1::ListConnectionsRequest { service: String::new(), limit };
        soon(self.client.list_connections(request)).await.unwrap().into_inner()
    }

    /// Asks until the answer is as expected.
    pub(crate) async fn until(
        &mut self,
        listener: &Resource,
        expected: impl Fn(&v1::ListenerState) -> bool,
    ) -> v1::ListenerState {
        soon(async {
            loop {
                let state = self.listener_state(listener).await;
                if expected(&state) {
                    return state;
                }
            }
        })
        .await
    }
}

/// A listener for port 80 of a service.
pub(crate) fn listener(
    name: &str,
    address: std::net::SocketAddrV4,
    endpoints: &[std::net::SocketAddrV4],
) -> Listener {
    let service = ServiceKey { user: None, name: name.parse().unwrap(), tag: None };
    let endpoint = |&address| Endpoint { address, weight: 1, node: "here".into() };
    Listener {
        key: ListenerKey { service, port: VirtualPort::new(Protocol::Tcp, 80) },
        address,
        endpoints: endpoints.iter().map(endpoint).collect(),
        routes: vec![],
        proxy_protocol: false,
    }
}

/// The right of `ip` to use `listener`.
pub(crate) fn client(listener: &Resource, ip: Ipv4Addr) -> Resource {
    Resource::Client(Client { listener: listener.id(), ip })
}
