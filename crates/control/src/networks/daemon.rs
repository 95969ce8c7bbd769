//! What Docker is asked for users' networks.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bollard::{
    Docker,
    errors::Error as DockerError,
    models::EventMessage,
    query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder},
};
use futures::{StreamExt as _, stream::BoxStream};
use serde_json::{Map, Value, json};
use steppe_model::UserName;

use super::{
    host, name,
    subnet::{self, Choice},
    world::{BRIDGE, KEEP, MOVED, USER, World},
};
use crate::sources::{DockerConfig, SourceError, answer, connect, first_line, is_missing};

/// Making a network is the slowest: Docker runs iptables a dozen times.
const CREATE: Duration = Duration::from_secs(30);

/// A connection to Docker's daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) docker: Docker,
    http: reqwest::Client,
}

/// Something that Docker did not do, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Docker: {0}")]
pub(super) struct Refused(pub(super) String);

impl Daemon {
    pub(super) async fn connect(config: &DockerConfig) -> Result<Self, SourceError> {
        let docker = connect(config).await?;
        // Fails only if one is installed already, which is as good. It is never used, and reqwest insists on it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let http = reqwest::Client::builder()
            .unix_socket(config.socket.as_path())
            .tls_certs_only([])
            .timeout(CREATE)
            .build();
        Ok(Self { docker, http: http.map_err(SourceError::DockerClient)? })
    }

    /// What happens to networks from now on. The request goes out with the first poll, so Docker is told what "now" is.
    pub(super) fn events(&self) -> BoxStream<'static, Result<EventMessage, DockerError>> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let filters = HashMap::from([
            ("type".to_owned(), list(&["network"])),
            ("event".to_owned(), list(&["create", "destroy", "connect", "disconnect"])),
        ]);
        let since = format!("{}.{:09}", now.as_secs(), now.subsec_nanos());
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.docker.events(Some(options)).boxed()
    }

    /// Everything as it is now.
    pub(super) async fn look(&self) -> Result<World, SourceError> {
        let networks = answer(self.docker.list_networks(None)).await?;
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let containers = answer(self.docker.list_containers(Some(options))).await?;
        let (taken, interfaces) = host::read().map_err(SourceError::Host)?;
        Ok(World::new(networks, containers, taken, interfaces))
    }

    /// Makes a user's network.
    pub(super) async fn create(&self, user: &UserName, choice: &Choice, kept: bool) -> Result<(), Refused> {
        // bollard's request lacks `CheckDuplicate`, without which Docker before 25 makes a second network of the same name, and
        // then starts no container on either.
        let url = format!("http://docker/v{}/networks/create", self.docker.client_version());
        let body = body(user, choice, kept).to_string();
        let request = self.http.post(url).header("Content-Type", "application/json").body(body);
        let failed = |error: reqwest::Error| Refused(first_line(&error.without_url().to_string()));
        let response = request.send().await.map_err(failed)?;
        if response.status().is_success() {
            return Ok(());
        }
        let text = response.text().await.map_err(failed)?;
        let message = serde_json::from_str::<Value>(&text).ok();
        let message = message.as_ref().and_then(|message| message["message"].as_str()).unwrap_or(&text);
        Err(Refused(first_line(message)))
    }

    /// Removes the network with this id. Docker does so only when no container that runs is attached.
    pub(super) async fn remove(&self, id: &str) -> Result<(), Refused> {
        match answer(self.docker.remove_network(id)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(refused(error)),
        }
    }
}

/// Why Docker refused, in its own words.
pub(super) fn refused(error: SourceError) -> Refused {
    match error {
        SourceError::Docker(DockerError::DockerResponseServerError { message, .. }) => {
            Refused(first_line(&message))
        }
        other => Refused(other.to_string()),
    }
}

fn body(user: &UserName, choice: &Choice, kept: bool) -> Value {
    let mut labels = Map::new();
    labels.insert(USER.to_owned(), user.as_str().into());
    if kept {
        labels.insert(KEEP.to_owned(), "true".into());
    }
    if let Some(moved) = &choice.moved {
        labels.insert(MOVED.to_owned(), (**moved).into());
    }
    let subnet = choice.subnet;
    json!({
        "Name": name::network(user),
        "CheckDuplicate": true,
        "Driver": "bridge",
        // Docker from 25 on gives internal networks no default route, and a virtual IP needs one.
        "Internal": false,
        "EnableIPv6": false,
        "IPAM": {
            "Driver": "default",
            "Config": [{
                "Subnet": subnet.to_string(),
                "Gateway": subnet::gateway(subnet).to_string(),
                "IPRange": subnet::dockers_half(subnet).to_string(),
            }],
        },
        "Options": { BRIDGE: &*name::bridge(user) },
        "Labels": labels,
    })
}

/// The ids of networks that events tell of, and whether any was made or removed.
pub(super) fn told_by(events: &[EventMessage]) -> (BTreeSet<&str>, bool) {
    let touched = events.iter().filter_map(|event| event.actor.as_ref()?.id.as_deref()).collect();
    let is_change = |event: &EventMessage| matches!(event.action.as_deref(), Some("create" | "destroy"));
    (touched, events.iter().any(is_change))
}
