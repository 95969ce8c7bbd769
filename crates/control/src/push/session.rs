//! The connection to one agent: opens `Sync`, hands its events to the core and the core's requests to it, and begins
//! again when it ends.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use steppe_api::{
    uds,
    v1::{
        self, dns_client::DnsClient, netfilter_agent_client::NetfilterAgentClient, proxy_client::ProxyClient,
        sync_response::Message,
    },
};
use steppe_model::{Resource, ResourceId};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming, transport::Channel};
use tracing::{debug, info, warn};

use crate::agent::AgentName;

/// How long to wait before the next try: a connect to a unix socket costs next to nothing, and traffic may wait for it.
const RETRY: Duration = Duration::from_millis(100);

/// The messages of an agent may be as large as a full part of its inventory.
const MESSAGE_LIMIT: usize = 16 << 20;

/// Where an agent is, and who it must be.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its name.
    pub agent: AgentName,
    /// Its socket.
    pub socket: PathBuf,
    /// The uid that it must run as.
    pub uid: u32,
}

/// What happens on the connection to an agent.
#[derive(Debug)]
pub enum LinkEvent {
    /// It told what it has in force. Requests go into the sender; dropping it ends the stream.
    Connected(Vec<Resource>, mpsc::UnboundedSender<v1::SyncRequest>),
    /// Everything up to this version is settled.
    Acknowledged(u64),
    /// A resource could not be put in force.
    Rejected {
        /// The acknowledgement that will cover it.
        version: u64,
        /// The resource.
        id: ResourceId,
        /// Why.
        reason: String,
    },
    /// It is about to stop, and goes on until it is relieved.
    Draining,
    /// The stream ended, or could not be opened.
    Disconnected(String),
}

#[derive(Debug, Error)]
enum LinkError {
    #[error("{0}")]
    Connect(String),
    #[error("{}", .0.message())]
    Rpc(#[from] Status),
    #[error("the agent closed the stream")]
    Closed,
}

/// Keeps a connection to the agent, and tells what happens on it.
pub async fn keep_connected(peer: Peer, events: mpsc::Sender<(AgentName, LinkEvent)>) {
    let mut last_error = None;
    let mut was_there = false;
    loop {
        let mut is_there = false;
        let Err(error) = converse(&peer, &events, &mut is_there).await;
        was_there |= is_there;
        let error = error.to_string();
        // What was said before need not be said again.
        if is_there || last_error.as_ref() != Some(&error) {
            let agent = peer.agent.process().name();
            // Of dns there are one or two, and not three.
            if !was_there && AgentName::DNS.contains(&peer.agent) {
                debug!(agent, error, "not connected");
            } else {
                warn!(agent, error, "not connected");
            }
            last_error = Some(error.clone());
            if events.send((peer.agent, LinkEvent::Disconnected(error))).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Connects to the process that listens at `socket`, if it runs as `uid`.
pub(crate) async fn connect(socket: &Path, uid: u32) -> Result<Channel, String> {
    uds::connect(socket, Some(uid)).await.map_err(|error| {
        // tonic's own text is "transport error"; the cause says what to check.
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        format!("{}: {cause}", socket.display())
    })
}

async fn converse(
    peer: &Peer,
    events: &mpsc::Sender<(AgentName, LinkEvent)>,
    is_there: &mut bool,
) -> Result<std::convert::Infallible, LinkError> {
    let channel = connect(&peer.socket, peer.uid).await.map_err(LinkError::Connect)?;
    let (requests, outgoing) = mpsc::unbounded_channel();
    let mut responses = open_sync(peer.agent, channel, UnboundedReceiverStream::new(outgoing)).await?;
    let inventory = read_inventory(&mut responses).await?;
    info!(agent = peer.agent.process().name(), in_force = inventory.len(), "connected");
    *is_there = true;
    let tell = |event| events.send((peer.agent, event));
    tell(LinkEvent::Connected(inventory, requests)).await.map_err(|_| LinkError::Closed)?;
    loop {
        let response = responses.message().await?.ok_or(LinkError::Closed)?;
        let event = match response.message {
            Some(Message::Ack(ack)) => LinkEvent::Acknowledged(ack.version),
            Some(Message::Reject(v1::Reject { version, id, reason })) => {
                LinkEvent::Rejected { version, id: ResourceId::new(&id), reason }
            }
            Some(Message::Draining(_)) => LinkEvent::Draining,
            // A later version of the agent may say more than this one understands.
            Some(Message::Inventory(_) | Message::InventoryEnd(_)) | None => continue,
        };
        tell(event).await.map_err(|_| LinkError::Closed)?;
    }
}

async fn open_sync(
    agent: AgentName,
    channel: Channel,
    outgoing: UnboundedReceiverStream<v1::SyncRequest>,
) -> Result<Streaming<v1::SyncResponse>, Status> {
    let response = match agent {
        AgentName::Proxy => {
            ProxyClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT).sync(outgoing).await?
        }
        AgentName::NetfilterAgent => {
            NetfilterAgentClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT).sync(outgoing).await?
        }
        AgentName::Dns | AgentName::DnsA | AgentName::DnsB => {
            DnsClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT).sync(outgoing).await?
        }
    };
    Ok(response.into_inner())
}

async fn read_inventory(responses: &mut Streaming<v1::SyncResponse>) -> Result<Vec<Resource>, LinkError> {
    let mut inventory = Vec::new();
    loop {
        match responses.message().await?.ok_or(LinkError::Closed)?.message {
            Some(Message::Inventory(part)) => {
                for wire in part.resources {
                    match Resource::try_from(wire) {
                        Ok(resource) => inventory.push(resource),
                        // It will not be named in the snapshot, and so the agent drops it.
                        Err(error) => warn!(%error, "an agent holds something that makes no sense"),
                    }
                }
            }
            Some(Message::InventoryEnd(_)) => return Ok(inventory),
            // An agent says that it drains after its inventory.
            Some(Message::Ack(_) | Message::Reject(_) | Message::Draining(_)) | None => {}
        }
    }
}
