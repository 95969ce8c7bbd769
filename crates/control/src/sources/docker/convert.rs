//! Docker's answers turned into facts: tolerant of what is missing, deaf to what makes no sense.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bollard::models::{
    ContainerInspectResponse, ContainerSummary, ContainerSummaryHealthStatusEnum, ContainerSummaryStateEnum,
    EndpointSettings, NetworkInspect, PortSummary, PortSummaryTypeEnum,
};
use steppe_model::{Mac, Protocol};

use crate::{
    observe::{Health, PublishedPort},
    sources::{text::first_line, warn_once::WarnOnce},
};

/// Labels that mean something to Steppe. Others can be many and large, and nobody asks for them.
const KEPT_LABELS: [&str; 2] = ["steppe.", "com.hashicorp.nomad."];
/// Room for some thirty grants of the longest kind.
const LABEL_BYTES: usize = 4096;
const LABEL_COUNT: usize = 128;
/// Label of a user's network, and of a container.
const USER_LABEL: &str = "steppe.user";
/// Docker's own alias is the beginning of the container's id, so long.
const SHORT_ID: usize = 12;
/// No name in the zone of dns is longer (RFC 1035 §2.3.4), and nobody needs more of them.
const ALIAS_BYTES: usize = 253;
const ALIAS_COUNT: usize = 64;
/// IFNAMSIZ without its closing zero, netdevice(7).
const INTERFACE_NAME: usize = 15;

/// A container as Docker lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) labels: BTreeMap<String, String>,
    /// By the network's id.
    pub(super) networks: BTreeMap<Arc<str>, Address>,
    pub(super) published: Vec<PublishedPort>,
    /// It has a process, so its addresses are in use.
    pub(super) running: bool,
    pub(super) health: Health,
}

/// An address on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) ip: Ipv4Addr,
    pub(super) prefix_len: u8,
    pub(super) mac: Mac,
}

/// A network that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    /// The name of its bridge on this host; none if it has none.
    pub(super) bridge: Option<Arc<str>>,
    /// Who is attached to it, by the container's id.
    pub(super) members: BTreeMap<Arc<str>, Address>,
    /// It is a user's: those on it have names for each other.
    pub(super) is_users: bool,
}

/// None without an id.
pub(super) fn listed(summary: ContainerSummary, odd: &mut WarnOnce) -> Option<Listed> {
    let id: Arc<str> = summary.id.filter(|id| !id.is_empty())?.into();
    // A container that another one links to has further names, with two slashes.
    let names = summary.names.unwrap_or_default();
    let name = names.iter().map(|name| name_without_slash(name)).find(|name| !name.contains('/'));
    let name: Arc<str> = name.unwrap_or_default().into();
    let networks = summary.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let networks = networks.into_values().filter_map(|settings| {
        let network = settings.network_id.as_deref().filter(|id| !id.is_empty())?;
        Some((network.into(), settings_address(&name, &settings, odd)?))
    });
    let networks = networks.collect();
    let running = matches!(
        summary.state,
        Some(
            ContainerSummaryStateEnum::RUNNING
                | ContainerSummaryStateEnum::PAUSED
                | ContainerSummaryStateEnum::STOPPING
        )
    );
    let status = summary.status.unwrap_or_default();
    // Before API 1.52 the state of its HEALTHCHECK is in the text alone: "Up 5 minutes (unhealthy)".
    let unhealthy = status.ends_with("(unhealthy)")
        || summary.health.and_then(|h| h.status) == Some(ContainerSummaryHealthStatusEnum::UNHEALTHY);
    let health = match (running, unhealthy) {
        (true, false) => Health::Passing,
        (true, true) => Health::Critical("its HEALTHCHECK says unhealthy".into()),
        (false, _) => Health::Critical(first_line(&status).into()),
    };
    let published = summary.ports.unwrap_or_default().into_iter().filter_map(published).collect();
    Some(Listed {
        labels: kept_labels(&name, summary.labels.unwrap_or_default(), odd),
        networks,
        id,
        name,
        published,
        running,
        health,
    })
}

/// `id` is the network's.
pub(super) fn network(id: &str, inspected: NetworkInspect, odd: &mut WarnOnce) -> Network {
    let bridge = match inspected.driver.as_deref() {
        Some("bridge") => bridge_name(id, &inspected.options.unwrap_or_default(), odd),
        _ => None,
    };
    let members = inspected.containers.unwrap_or_default().into_iter().filter_map(|(container, endpoint)| {
        let (ip, prefix_len) = endpoint.ipv4_address.as_deref()?.split_once('/')?;
        let mac = endpoint.mac_address.as_deref()?;
        Some((container.as_str().into(), address(&container, ip, prefix_len.parse().ok()?, mac, odd)?))
    });
    let is_users = inspected.labels.is_some_and(|labels| labels.contains_key(USER_LABEL));
    Network { members: members.collect(), bridge, is_users }
}

/// The names that a container's author gave it on its networks. Docker adds the beginning of its id.
pub(super) fn aliases(inspected: ContainerInspectResponse) -> Vec<Arc<str>> {
    let id = inspected.id.unwrap_or_default();
    let networks = inspected.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let all = networks.into_values().flat_map(|network| network.aliases.unwrap_or_default());
    let given: BTreeSet<String> = all
        .filter(|alias| {
            alias.len() <= ALIAS_BYTES && !(alias.len() >= SHORT_ID && id.starts_with(alias.as_str()))
        })
        .collect();
    given.into_iter().take(ALIAS_COUNT).map(Into::into).collect()
}

/// <https://docs.docker.com/engine/network/drivers/bridge/#options>: the option, or the driver's own way to name one.
fn bridge_name(id: &str, options: &HashMap<String, String>, odd: &mut WarnOnce) -> Option<Arc<str>> {
    let given = options.get("com.docker.network.bridge.name").filter(|name| !name.is_empty());
    let name = given.cloned().or_else(|| id.get(..12).map(|id| format!("br-{id}")))?;
    let valid = name.len() <= INTERFACE_NAME && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
    if !valid {
        odd.warn(format!(
            "docker network {}: its bridge's name `{}` can't be an interface's: containers on it are left out",
            first_line(id),
            first_line(&name)
        ));
    }
    valid.then(|| name.into())
}

fn settings_address(container: &str, settings: &EndpointSettings, odd: &mut WarnOnce) -> Option<Address> {
    // Both are empty while the container isn't attached.
    let ip = settings.ip_address.as_deref().filter(|ip| !ip.is_empty())?;
    let prefix_len = settings.ip_prefix_len.and_then(|bits| u8::try_from(bits).ok())?;
    address(container, ip, prefix_len, settings.mac_address.as_deref().unwrap_or_default(), odd)
}

fn address(container: &str, ip: &str, prefix_len: u8, mac: &str, odd: &mut WarnOnce) -> Option<Address> {
    let parsed = ip.parse::<Ipv4Addr>().ok().zip(mac.parse::<Mac>().ok());
    let usable =
        |ip: Ipv4Addr| !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_broadcast());
    match parsed {
        Some((ip, mac)) if usable(ip) && prefix_len <= 32 => Some(Address { ip, prefix_len, mac }),
        _ => {
            let [container, ip, mac] = [container, ip, mac].map(first_line);
            odd.warn(format!(
                "container {container}: docker gives `{ip}` with `{mac}` as its address: left out"
            ));
            None
        }
    }
}

fn published(port: PortSummary) -> Option<PublishedPort> {
    let protocol = match port.typ? {
        PortSummaryTypeEnum::TCP => Protocol::Tcp,
        PortSummaryTypeEnum::UDP => Protocol::Udp,
        PortSummaryTypeEnum::EMPTY | PortSummaryTypeEnum::SCTP => return None,
    };
    // Without a public port it is merely exposed.
    let host_port = port.public_port.filter(|&port| port != 0)?;
    let host_ip = match port.ip.as_deref() {
        // Docker gives none where it can't tell.
        None | Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(ip) => ip.parse().ok()?,
    };
    Some(PublishedPort { protocol, host_ip, host_port, container_port: port.private_port })
}

/// The labels that mean something, each and all of them bounded.
pub(super) fn kept_labels(
    container: &str,
    labels: HashMap<String, String>,
    odd: &mut WarnOnce,
) -> BTreeMap<String, String> {
    let mut kept: BTreeMap<_, _> = labels
        .into_iter()
        .filter(|(name, _)| KEPT_LABELS.iter().any(|prefix| name.starts_with(prefix)))
        .filter(|(name, value)| {
            let fits = name.len() + value.len() <= LABEL_BYTES;
            if !fits {
                let [container, label] = [container, name].map(first_line);
                odd.warn(format!(
                    "container {container}: label {label} is left out: {LABEL_BYTES} bytes at most are read"
                ));
            }
            fits
        })
        .collect();
    if kept.len() > LABEL_COUNT {
        let container = first_line(container);
        odd.warn(format!("container {container}: of {} labels only {LABEL_COUNT} are read", kept.len()));
    }
    while kept.len() > LABEL_COUNT {
        kept.pop_last();
    }
    kept
}

pub(super) fn name_without_slash(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}
