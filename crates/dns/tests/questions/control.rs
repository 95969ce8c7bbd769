//! Control's end of Sync, and the questions people ask.

use std::{net::Ipv4Addr, path::Path};

use steppe_api::{
    uds,
    v1::{self, dns_client::DnsClient, sync_request, sync_response::Message},
};
use steppe_model::{Asker, Member, Resource};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};

use crate::net::DEADLINE;

/// A Sync stream.
pub(crate) struct Control {
    pub(crate) client: DnsClient<Channel>,
    requests: mpsc::Sender<v1::SyncRequest>,
    responses: Streaming<v1::SyncResponse>,
    version: u64,
    /// What dns said it had in force.
    pub(crate) inventory: Vec<v1::Resource>,
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(DEADLINE, what).await.expect("this should have happened by now")
}

pub(crate) async fn people(socket: &Path) -> DnsClient<Channel> {
    DnsClient::new(soon(uds::connect(socket, None)).await.unwrap())
}

impl Control {
    /// Connects and listens to the inventory.
    pub(crate) async fn connect(socket: &Path) -> Self {
        let mut client = people(socket).await;
        let (requests, receiver) = mpsc::channel(1024);
        let responses = soon(client.sync(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        let mut control = Self { client, requests, responses, version: 0, inventory: vec![] };
        loop {
            match control.response().await {
                Message::Inventory(part) => control.inventory.extend(part.resources),
                Message::InventoryEnd(_) => return control,
                other => panic!("the inventory comes first, not {other:?}"),
            }
        }
    }

    async fn response(&mut self) -> Message {
        let response = soon(self.responses.message()).await.unwrap().expect("the stream goes on");
        response.message.expect("a message")
    }

    async fn send(&mut self, message: sync_request::Message) {
        self.version += 1;
        let request = v1::SyncRequest { version: self.version, message: Some(message) };
        self.requests.send(request).await.unwrap();
    }

    /// Waits until everything sent is settled.
    async fn settle(&mut self) -> Vec<(String, String)> {
        let mut rejections = vec![];
        loop {
            match self.response().await {
                Message::Ack(ack) if ack.version == self.version => return rejections,
                Message::Ack(_) => {}
                Message::Reject(reject) => rejections.push((reject.id, reject.reason)),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until dns says that it is about to stop.
    pub(crate) async fn until_draining(&mut self) {
        let response = self.response().await;
        assert!(matches!(response, Message::Draining(_)), "{response:?}");
    }

    pub(crate) async fn snapshot(&mut self, resources: &[Resource]) {
        self.send(sync_request::Message::SnapshotBegin(v1::SnapshotBegin { epoch: 1 })).await;
        for resource in resources {
            self.send(sync_request::Message::Upsert(resource.into())).await;
        }
        self.send(sync_request::Message::SnapshotEnd(v1::SnapshotEnd {})).await;
        assert_eq!(self.settle().await, []);
    }

    pub(crate) async fn upsert(&mut self, resources: &[Resource]) -> Vec<(String, String)> {
        for resource in resources {
            self.send(sync_request::Message::Upsert(resource.into())).await;
        }
        self.settle().await
    }

    pub(crate) async fn remove(&mut self, resource: &Resource) {
        self.send(sync_request::Message::Remove(resource.id().to_string())).await;
        assert_eq!(self.settle().await, []);
    }

    pub(crate) async fn status(&mut self) -> v1::DnsStatus {
        soon(self.client.get_status(v1::GetDnsStatusRequest {})).await.unwrap().into_inner()
    }

    /// How many questions ended like this.
    pub(crate) async fn count(&mut self, result: v1::QuestionResult) -> u64 {
        let results = self.status().await.results;
        results.iter().find(|count| count.result() == result).unwrap().total
    }
}

/// Somebody who may name these services, on the network of `user` if that is not empty.
pub(crate) fn asker(ip: Ipv4Addr, user: &str, names: &[(&str, &str)]) -> Resource {
    let port = v1::NamedPort { protocol: v1::Protocol::Tcp.into(), port: 80 };
    let name = |(name, vip): &(&str, &str)| v1::AskedName {
        name: (*name).into(),
        vip: (*vip).into(),
        ports: vec![port],
    };
    let wire = v1::Asker {
        ip: ip.to_string(),
        workload: format!("workload-{}", ip.octets()[3]),
        user: user.into(),
        network: user.into(),
        names: names.iter().map(name).collect(),
    };
    Resource::Asker(Asker::try_from(wire).unwrap())
}

/// Somebody on the network of `user`.
pub(crate) fn member(user: &str, ip: &str, name: &str) -> Resource {
    let wire = v1::Member { network: user.into(), ip: ip.into(), names: vec![name.into()] };
    Resource::Member(Member::try_from(wire).unwrap())
}
