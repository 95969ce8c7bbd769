//! Moves containers from Docker's default bridge to their users' networks.
//!
//! Docker connects first and disconnects then. Before a container starts both only change what it will start with; while it runs the
//! address that its open connections are from ends, and the default route moves. Whatever fails in between is undone: two interfaces
//! would leave the default route where the user's network is not.

mod address;
mod judge;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    models::{
        ContainerInspectResponse, ContainerSummary, EndpointIpamConfig, EndpointSettings,
        NetworkConnectRequest, NetworkDisconnectRequest,
    },
    query_parameters::ListContainersOptionsBuilder,
};
use steppe_model::UserName;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use self::judge::{DEFAULT, Verdict, breaks_when_running, is_on, is_running, judge};
use super::{daemon::refused, name};
use crate::{
    observe::{Attach, Network, Observation},
    sources::{Backoff, DockerConfig, SourceError, answer, connect, is_missing},
};

/// The networks that there are, by user.
pub(super) type Networks = BTreeMap<UserName, Network>;

/// Containers moved at the same time. Docker does much of it one after the other.
const AT_ONCE: usize = 8;
/// How long a container waits for its user's network, which is made within a second.
const NETWORK: Duration = Duration::from_secs(10);
/// Whoever makes a container mostly starts it within milliseconds, and no request of Docker's is refused to one that starts meanwhile.
/// One that must not be moved while it runs is moved only when it has not been started for so long.
const QUIET: Duration = Duration::from_secs(1);
/// How long Docker's daemon may be away before it is said that a container is not attached.
const AWAY: Duration = Duration::from_secs(30);
/// How long an address stays taken once it was used: Docker's list may be older than that.
const SETTLE: Duration = Duration::from_secs(60);
/// Addresses that are tried. More than one is only when somebody else takes one at the same moment.
const TRIES: usize = 8;

/// Moves whoever is asked for. Runs until nobody asks any more.
pub(super) async fn run(
    config: DockerConfig,
    mut asked: mpsc::UnboundedReceiver<Attach>,
    networks: watch::Receiver<Networks>,
    sink: mpsc::Sender<Observation>,
) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let reserved = Arc::new(Reserved::default());
    let mut moves = JoinSet::new();
    let mut moving = BTreeSet::new();
    loop {
        let attach = tokio::select! {
            attach = asked.recv() => attach,
            Some(done) = moves.join_next() => {
                if let Ok(container) = done {
                    moving.remove(&container);
                }
                continue;
            }
        };
        let Some(attach) = attach else { return };
        // It looks for itself how things are.
        if !moving.insert(attach.container.clone()) {
            continue;
        }
        let (config, networks, sink) = (config.clone(), networks.clone(), sink.clone());
        let (places, reserved) = (places.clone(), reserved.clone());
        moves.spawn(async move {
            if let Err(why) = patiently(&config, networks, &places, &reserved, &attach).await {
                warn!(container = %attach.container, user = %attach.user, %why, "not attached");
                let why = Observation::NotAttached(attach.container.clone(), why.into());
                // Nobody listens any more when control ends.
                let _ = sink.send(why).await;
            }
            attach.container
        });
    }
}

/// Moves a container, and tries again while Docker's daemon is away.
async fn patiently(
    config: &DockerConfig,
    mut networks: watch::Receiver<Networks>,
    places: &Semaphore,
    reserved: &Reserved,
    attach: &Attach,
) -> Result<(), String> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
    let start = Instant::now();
    let is_there = |networks: &Networks| networks.contains_key(&attach.user);
    let missing = || format!("the network of {} is not there: steppe network ls says why", attach.user);
    let network = match timeout(NETWORK, networks.wait_for(is_there)).await {
        Ok(Ok(networks)) => networks.get(&attach.user).cloned(),
        Ok(Err(_)) | Err(_) => None,
    };
    let network = network.ok_or_else(missing)?;
    let mut quiet = false;
    loop {
        let moved = async {
            // Never closed.
            let _place = places.acquire().await;
            let mover = Mover { docker: connect(config).await?, network: &network, reserved, attach, quiet };
            mover.run().await
        };
        match moved.await {
            Ok(()) => return Ok(()),
            Err(Failed::Said(why)) => return Err(why),
            Err(Failed::Later) => {
                sleep(QUIET).await;
                quiet = true;
            }
            Err(Failed::Docker(error)) if is_missing(&error) => return Ok(()),
            Err(Failed::Docker(error)) if start.elapsed() > AWAY || is_answer(&error) => {
                return Err(refused(error).to_string());
            }
            Err(Failed::Docker(_)) => sleep(backoff.next(fastrand::f64())).await,
        }
    }
}

/// Whether it is Docker that says no, and not the way to it.
fn is_answer(error: &SourceError) -> bool {
    matches!(error, SourceError::Docker(bollard::errors::Error::DockerResponseServerError { .. }))
}

enum Failed {
    /// It can't be, and why.
    Said(String),
    /// It may start at any moment.
    Later,
    Docker(SourceError),
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Docker(error)
    }
}

struct Mover<'a> {
    docker: Docker,
    network: &'a Network,
    reserved: &'a Reserved,
    attach: &'a Attach,
    /// It has not been started for [`QUIET`].
    quiet: bool,
}

impl Mover<'_> {
    async fn run(&self) -> Result<(), Failed> {
        let network = name::network(&self.network.user);
        let before = self.inspect().await?;
        match judge(&before, &network) {
            Verdict::There => return Ok(()),
            Verdict::Never(why) => return Err(Failed::Said(why)),
            Verdict::Undo(why) => {
                self.undo(&network).await;
                return Err(Failed::Said(why));
            }
            Verdict::Move | Verdict::Finish
                if !self.quiet && !is_running(&before) && breaks_when_running(&before).is_some() =>
            {
                return Err(Failed::Later);
            }
            Verdict::Move => self.connect(&network).await?,
            Verdict::Finish => {}
        }
        // It may have started meanwhile, and then other things hold.
        let between = self.inspect().await?;
        if let Verdict::Never(why) | Verdict::Undo(why) = judge(&between, &network) {
            self.undo(&network).await;
            return Err(Failed::Said(why));
        }
        let disconnected = self.disconnect(DEFAULT).await;
        let after = self.inspect().await?;
        if let Err(error) = disconnected
            && judge(&after, &network) != Verdict::There
        {
            self.undo(&network).await;
            return Err(error.into());
        }
        if judge(&after, &network) != Verdict::There {
            return Err(Failed::Said("somebody else changed its networks at the same time".to_owned()));
        }
        if is_running(&after) && !is_running(&between) && breaks_when_running(&after).is_some() {
            return Err(Failed::Said(
                "it was started while it was attached: stop it, and start it again some seconds later"
                    .to_owned(),
            ));
        }
        let running = is_running(&after);
        info!(container = %self.attach.container, user = %self.network.user, running, "attached to its user's network");
        Ok(())
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse, SourceError> {
        answer(self.docker.inspect_container(&self.attach.container, None)).await
    }

    async fn connect(&self, network: &str) -> Result<(), Failed> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let list = answer(self.docker.list_containers(Some(options))).await?;
        let mut taken = addresses(&list, network, &self.attach.container);
        taken.insert(self.network.gateway);
        let mut last = "no address is left in it".to_owned();
        for _ in 0..TRIES {
            let Some(ip) = self.reserved.choose(self.attach, self.network, &taken) else { break };
            let ipam = EndpointIpamConfig { ipv4_address: Some(ip.to_string()), ..Default::default() };
            let request = NetworkConnectRequest {
                container: self.attach.container.to_string(),
                endpoint_config: Some(EndpointSettings { ipam_config: Some(ipam), ..Default::default() }),
            };
            match answer(self.docker.connect_network(network, request)).await {
                Ok(()) => return Ok(()),
                Err(error) if is_missing(&error) => return Err(error.into()),
                Err(error) if is_answer(&error) => {
                    taken.insert(ip);
                    last = refused(error).to_string();
                    if !last.contains("in use") {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        // Docker 20.10 keeps a note of a connect that failed.
        self.undo(network).await;
        Err(Failed::Said(last))
    }

    async fn disconnect(&self, network: &str) -> Result<(), SourceError> {
        let request =
            NetworkDisconnectRequest { container: self.attach.container.to_string(), force: Some(false) };
        answer(self.docker.disconnect_network(network, request)).await
    }

    /// Takes it off the user's network again, if that leaves it where it was: a request of a control that was killed may still be
    /// carried out, and a container must not end with no network at all.
    async fn undo(&self, network: &str) {
        let is_as_before = self.inspect().await.is_ok_and(|container| is_on(&container, DEFAULT));
        if !is_as_before {
            return;
        }
        if let Err(error) = self.disconnect(network).await.map_err(refused) {
            warn!(container = %self.attach.container, %error, "could not be taken off {network} again");
        }
    }
}

/// The addresses that containers other than `except` have on a network, or will have.
fn addresses(list: &[ContainerSummary], network: &str, except: &str) -> BTreeSet<Ipv4Addr> {
    let others = list.iter().filter(|container| container.id.as_deref() != Some(except));
    let settings =
        others.filter_map(|container| container.network_settings.as_ref()?.networks.as_ref()?.get(network));
    let texts = settings.flat_map(|settings| {
        let wanted = settings.ipam_config.as_ref().and_then(|ipam| ipam.ipv4_address.as_ref());
        [wanted, settings.ip_address.as_ref()]
    });
    texts.flatten().filter_map(|text| text.parse().ok()).collect()
}

/// Addresses that were chosen a moment ago, by container.
#[derive(Debug, Default)]
struct Reserved(Mutex<BTreeMap<Arc<str>, (UserName, Ipv4Addr, Instant)>>);

impl Reserved {
    fn choose(&self, attach: &Attach, network: &Network, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reserved.retain(|_, (.., at)| at.elapsed() < SETTLE);
        let by_others = reserved
            .iter()
            .filter(|(container, (user, ..))| **container != attach.container && *user == attach.user)
            .map(|(_, (_, ip, _))| *ip);
        let taken = taken.iter().copied().chain(by_others).collect();
        let ip = address::choose(&attach.key, network.subnet, &taken)?;
        reserved.insert(attach.container.clone(), (attach.user.clone(), ip, Instant::now()));
        Some(ip)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attach(container: &str) -> Attach {
        Attach { container: container.into(), user: "alice".parse().unwrap(), key: "alloc".into() }
    }

    #[test]
    fn two_containers_of_one_allocation_get_two_addresses() {
        let network = Network {
            id: "n".into(),
            user: "alice".parse().unwrap(),
            bridge: "steppe-alice".into(),
            subnet: "10.208.7.0/24".parse().unwrap(),
            gateway: "10.208.7.1".parse().unwrap(),
            moved: None,
        };
        let reserved = Reserved::default();
        let choose = |container: &str, taken: &[Ipv4Addr]| {
            reserved.choose(&attach(container), &network, &taken.iter().copied().collect()).unwrap()
        };
        let (first, second) = (choose("one", &[]), choose("two", &[]));
        assert_ne!(first, second);
        assert_eq!(choose("one", &[]), first, "its own reservation is not in its way");
        assert!(![first, second].contains(&choose("one", &[first])));
    }

    #[test]
    fn addresses_that_stopped_containers_will_have_are_taken() {
        let list = serde_json::from_value(serde_json::json!([
            { "Id": "a", "NetworkSettings": { "Networks": { "n": {
                "IPAMConfig": { "IPv4Address": "10.208.7.200" }, "IPAddress": "" } } } },
            { "Id": "b", "NetworkSettings": { "Networks": { "n": { "IPAMConfig": null, "IPAddress": "10.208.7.2" } } } },
            { "Id": "c", "NetworkSettings": { "Networks": { "n": { "IPAddress": "10.208.7.3" } } } },
            { "Id": "d", "NetworkSettings": { "Networks": { "other": { "IPAddress": "10.9.9.9" } } } },
            { "Id": "e" },
        ]));
        let list: Vec<ContainerSummary> = list.unwrap();
        let expected = ["10.208.7.200", "10.208.7.2"].map(|ip| ip.parse().unwrap());
        assert_eq!(addresses(&list, "n", "c"), expected.into());
    }
}
