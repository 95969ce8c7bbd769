//! control's end of Sync, for an agent that is measured alone.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use steppe_api::{
    uds,
    v1::{
        self, dns_client::DnsClient, netfilter_agent_client::NetfilterAgentClient, proxy_client::ProxyClient,
        sync_request, sync_response::Message,
    },
};
use steppe_model::Resource;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

const PATIENCE: Duration = Duration::from_secs(60);
const QUEUE: usize = 1024;

/// Which agent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    Proxy,
    Netfilter,
    Dns,
}

/// A Sync stream. What was pushed stays in force when it ends.
#[derive(Debug)]
pub struct Sync {
    runtime: Runtime,
    requests: mpsc::Sender<v1::SyncRequest>,
    responses: Streaming<v1::SyncResponse>,
    version: u64,
}

impl Sync {
    /// Opens the stream and waits for the end of the inventory.
    ///
    /// # Errors
    /// When the agent is not there, or says something else.
    pub fn open(agent: Agent, socket: &Path) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (requests, receiver) = mpsc::channel(QUEUE);
        let open = async {
            let channel = uds::connect(socket, None).await.context("the agent's socket")?;
            let requests = ReceiverStream::new(receiver);
            let response = match agent {
                Agent::Proxy => ProxyClient::new(channel).sync(requests).await?,
                Agent::Netfilter => NetfilterAgentClient::new(channel).sync(requests).await?,
                Agent::Dns => DnsClient::new(channel).sync(requests).await?,
            };
            anyhow::Ok(response.into_inner())
        };
        let responses = runtime.block_on(async { timeout(PATIENCE, open).await })??;
        let mut sync = Self { runtime, requests, responses, version: 0 };
        while !matches!(sync.response()?, Message::InventoryEnd(_)) {}
        Ok(sync)
    }

    /// Pushes a snapshot: these, and nothing else.
    ///
    /// # Errors
    /// When one of them is rejected.
    pub fn snapshot(&mut self, resources: &[Resource]) -> Result<()> {
        self.send(sync_request::Message::SnapshotBegin(v1::SnapshotBegin { epoch: 1 }))?;
        resources
            .iter()
            .try_for_each(|resource| self.send(sync_request::Message::Upsert(resource.into())))?;
        self.send(sync_request::Message::SnapshotEnd(v1::SnapshotEnd {}))?;
        self.settle()
    }

    fn send(&mut self, message: sync_request::Message) -> Result<()> {
        self.version += 1;
        let request = v1::SyncRequest { version: self.version, message: Some(message) };
        let requests = self.requests.clone();
        self.runtime.block_on(async { timeout(PATIENCE, requests.send(request)).await })??;
        Ok(())
    }

    /// Puts one in force.
    ///
    /// # Errors
    /// When it is rejected.
    pub fn upsert(&mut self, resource: &Resource) -> Result<()> {
        self.send(sync_request::Message::Upsert(resource.into()))?;
        self.settle()
    }

    /// Takes one away.
    ///
    /// # Errors
    /// When that is rejected.
    pub fn remove(&mut self, resource: &Resource) -> Result<()> {
        self.send(sync_request::Message::Remove(resource.id().to_string()))?;
        self.settle()
    }

    /// Waits until everything sent is in force.
    fn settle(&mut self) -> Result<()> {
        loop {
            match self.response()? {
                Message::Ack(ack) => {
                    ensure!(ack.version <= self.version, "acknowledged what was not sent");
                    if ack.version == self.version {
                        return Ok(());
                    }
                }
                Message::Reject(reject) => bail!("{} is rejected: {}", reject.id, reject.reason),
                other => bail!("unexpected: {other:?}"),
            }
        }
    }

    fn response(&mut self) -> Result<Message> {
        let responses = &mut self.responses;
        let response = self.runtime.block_on(async { timeout(PATIENCE, responses.message()).await })??;
        response.and_then(|response| response.message).context("the stream ended")
    }
}
