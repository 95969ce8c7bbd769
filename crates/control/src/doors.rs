//! How the doors are kept, and for whom they open: what the flags say, and what this host shows where they say nothing.

mod flags;
mod node;
mod owners;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;
use steppe_model::{DoorName, Doors};
use tokio::{
    net::lookup_host,
    sync::mpsc,
    time::{sleep, timeout},
};
use tracing::{info, warn};

pub use flags::{DoorFlags, Guard};

use crate::{observe::Observation, sources::Place};

/// How often the host is looked at again. Its own addresses, and the user that Consul or Nomad runs as, change by hand.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The same while somebody whose checks must pass is not there yet.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// A resolver's usual patience with one server (resolv.conf(5)) is five seconds; nothing waits for this.
const RESOLVE: Duration = Duration::from_secs(5);

/// What the doors follow from.
#[derive(Debug, Clone)]
pub struct DoorsConfig {
    /// The flags.
    pub flags: DoorFlags,
    /// The proxy's uid, which may dial whatever it is told to.
    pub proxy_uid: u32,
    /// Where Consul and Nomad listen: where that is this host, their own checks must pass.
    pub sources: Vec<Place>,
}

/// Tells how the doors are kept, and each change of it. Runs until `sink` is closed.
pub async fn follow(config: DoorsConfig, sink: mpsc::Sender<Observation>) {
    let mut owners = Owners::default();
    let mut told = None;
    while !sink.is_closed() {
        let (doors, complete) = look(&config, &mut owners).await;
        if let Some(doors) = doors.filter(|doors| told.as_ref() != Some(doors)) {
            say(&doors);
            if sink.send(Observation::Doors(doors.clone())).await.is_err() {
                return;
            }
            told = Some(doors);
        }
        sleep(if complete { LOOK_EVERY } else { LOOK_SOON }).await;
    }
}

/// The doors, unless the host can't be read, and whether everybody has been found.
async fn look(config: &DoorsConfig, owners: &mut Owners) -> (Option<Doors>, bool) {
    let host = match node::read() {
        Ok(host) => host,
        Err(error) => {
            warn!(%error, "this host's addresses can't be read: the doors stay as they are");
            return (None, true);
        }
    };
    let flags = &config.flags;
    let mut local_uids = BTreeSet::from([config.proxy_uid]);
    let mut complete = true;
    if flags.local_allow.is_empty() {
        complete = owners.look(&config.sources, &host).await;
        local_uids.extend(owners.uids());
    } else {
        local_uids.extend(&flags.local_allow);
    }
    // Root always may.
    local_uids.remove(&0);
    let peers = if flags.peer_cidr.is_empty() { host.own_subnets() } else { flags.peer_cidr.clone() };
    let peers: BTreeSet<IpNet> = peers.into_iter().collect();
    let mut modes: BTreeMap<_, _> =
        DoorName::ALL.into_iter().map(|name| (name, name.default_mode())).collect();
    modes.extend(flags.door.iter().copied());
    let doors = Doors {
        modes,
        peers: peers.into_iter().collect(),
        local_uids: local_uids.into_iter().collect(),
        published_ports: flags.published_ports.clone(),
    };
    (Some(doors), complete)
}

fn say(doors: &Doors) {
    let list = |items: Vec<String>| items.join(",");
    let modes = list(doors.modes.iter().map(|(name, mode)| format!("{name}={mode}")).collect());
    let peers = list(doors.peers.iter().map(ToString::to_string).collect());
    let local_uids = list(doors.local_uids.iter().map(ToString::to_string).collect());
    info!(%modes, %peers, %local_uids, "doors");
    if doors.peers.iter().all(|peer| peer.prefix_len() == peer.max_prefix_len()) {
        warn!(
            "published ports: no other host is a peer, as the address of this one has no subnet; say --peer-cidr CIDR"
        );
    }
}

/// The uids of those who listen where the sources are, as last seen: a restart of theirs must not shut them out.
#[derive(Debug, Default)]
struct Owners(BTreeMap<Place, BTreeSet<u32>>);

impl Owners {
    /// Whether all that are on this host have been found, now or before.
    async fn look(&mut self, sources: &[Place], host: &node::Host) -> bool {
        let mut complete = true;
        for place in sources {
            match owners(place, host).await {
                Some(uids) if uids.is_empty() => complete &= self.0.contains_key(place),
                Some(uids) => drop(self.0.insert(place.clone(), uids)),
                None => drop(self.0.remove(place)),
            }
        }
        complete
    }

    fn uids(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.values().flatten().copied()
    }
}

/// Who listens there; `None` when it is not on this host.
async fn owners(place: &Place, host: &node::Host) -> Option<BTreeSet<u32>> {
    let (name, port) = match place {
        Place::Unix(path) => return Some(owners::of_file(path).into_iter().collect()),
        Place::Tcp { host, port } => (host, *port),
    };
    let addresses = match name.parse::<IpAddr>() {
        Ok(address) => vec![address],
        // A name that has no address now may have one later.
        Err(_) => match timeout(RESOLVE, lookup_host((name.as_str(), port))).await {
            Ok(Ok(addresses)) => addresses.map(|address| address.ip()).collect(),
            Ok(Err(_)) | Err(_) => return Some(BTreeSet::new()),
        },
    };
    let own: Vec<IpAddr> = addresses.into_iter().filter(|address| host.has(*address)).collect();
    if own.is_empty() {
        return None;
    }
    Some(owners::of_listeners(&own, port))
}

#[cfg(test)]
mod tests;
