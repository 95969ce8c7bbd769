//! Follows the bridge ports that the netfilter-agent sees.

use std::time::Duration;

use steppe_api::v1::{self, netfilter_agent_client::NetfilterAgentClient, port_event::Event};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::warn;

use crate::{
    plan::{BridgePort, PortChange},
    push::session::{Peer, connect},
};

const RETRY: Duration = Duration::from_millis(100);

/// Tells every change of bridge ports, after a full listing at each new connection. Runs until `changes` is closed.
pub async fn follow(peer: Peer, changes: mpsc::Sender<PortChange>) {
    while !changes.is_closed() {
        // The Sync connection to the same agent reports what goes wrong.
        let _ = watch(&peer, &changes).await;
        tokio::time::sleep(RETRY).await;
    }
}

async fn watch(peer: &Peer, changes: &mpsc::Sender<PortChange>) -> Result<(), Status> {
    let channel = connect(&peer.socket, peer.uid).await.map_err(Status::unavailable)?;
    let mut client = NetfilterAgentClient::new(channel);
    let mut events = client.watch_ports(v1::WatchPortsRequest {}).await?.into_inner();
    let mut listing = Some(Vec::new());
    while let Some(event) = events.message().await? {
        let change = match (event.event, &mut listing) {
            (Some(Event::Present(wire)), listing) => match (BridgePort::try_from(wire), listing) {
                (Ok(port), Some(ports)) => {
                    ports.push(port);
                    continue;
                }
                (Ok(port), None) => PortChange::Present(port),
                (Err(error), _) => {
                    warn!(error, "the netfilter-agent told of a bridge port that makes no sense");
                    continue;
                }
            },
            (Some(Event::Gone(ifindex)), Some(ports)) => {
                ports.retain(|port: &BridgePort| port.ifindex != ifindex);
                continue;
            }
            (Some(Event::Gone(ifindex)), None) => PortChange::Gone(ifindex),
            (Some(Event::Listed(_)), listing) => PortChange::Listed(listing.take().unwrap_or_default()),
            (None, _) => continue,
        };
        if changes.send(change).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

impl TryFrom<v1::BridgePort> for BridgePort {
    type Error = String;

    fn try_from(wire: v1::BridgePort) -> Result<Self, String> {
        let ips = wire.ips.iter().map(|ip| ip.parse().map_err(|_| format!("`{ip}` is no IPv4 address")));
        Ok(Self {
            ifindex: wire.ifindex,
            name: wire.name.into(),
            bridge: wire.bridge.into(),
            mac: wire.mac.parse().map_err(|error| format!("{}: {error}", wire.mac))?,
            ips: ips.collect::<Result<_, _>>()?,
        })
    }
}
