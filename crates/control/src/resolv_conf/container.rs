//! What Docker keeps about a container on disk, as far as its resolv.conf follows from it. It is there from the container's
//! creation on, while Docker answers questions about it only once it runs.

use std::{collections::BTreeMap, net::Ipv4Addr, path::Path};

use serde::Deserialize;
use steppe_daemon::read_bounded;

/// What `docker inspect` shows as `HostConfig`, in part.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
    dns: Option<Vec<String>>,
    dns_search: Option<Vec<String>>,
    runtime: String,
}

/// What `docker inspect` shows, in part.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    mount_points: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    network_settings: Option<NetworkSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    /// Its network mode.
    pub(super) mode: Mode,
    /// The servers that its author chose.
    pub(super) dns: Vec<String>,
    /// The domains that its author chose to search.
    pub(super) search: Vec<String>,
    /// Whether it has a network stack of its own, where Docker's resolver can't be.
    pub(super) is_gvisor: bool,
    /// Its networks' names.
    pub(super) networks: Vec<String>,
    /// Whether it mounts a file of its own over the one that Docker writes.
    pub(super) mounts_own: bool,
}

/// Whose network a container uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its own.
    Own,
    /// The host's.
    Host,
    /// That of the container with this id, and with it that one's resolv.conf.
    Of(String),
}

/// Mounts can be many, and labels and variables large; they are root's words, or those of who may use Docker.
const LARGEST: u64 = 4 << 20;
/// Where Docker mounts the file.
const MOUNTED: &str = "/etc/resolv.conf";
/// What gVisor's runtimes are called: `runsc`, `runsc-kvm`, `gvisor`, …
const GVISOR: [&str; 2] = ["runsc", "gvisor"];
/// Docker's own networks, whose containers have the host's servers. All others have Docker's resolver.
const PREDEFINED: [&str; 4] = ["bridge", "default", "host", "none"];
/// How the networks begin that Steppe makes for users.
const USERS_NETWORK: &str = "steppe-";

impl Facts {
    /// Reads those of the container with this directory.
    pub(super) fn read(dir: &Path) -> Result<Self, String> {
        let host: HostConfig = parse(&dir.join("hostconfig.json"))?;
        let config: Config = parse(&dir.join("config.v2.json"))?;
        let runtime = host.runtime.to_ascii_lowercase();
        let networks = config.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        Ok(Self {
            mode: match host.network_mode.split_once(':') {
                Some(("container", id)) => Mode::Of(id.to_owned()),
                _ if host.network_mode == "host" => Mode::Host,
                _ => Mode::Own,
            },
            dns: host.dns.unwrap_or_default(),
            search: host.dns_search.unwrap_or_default(),
            is_gvisor: GVISOR.iter().any(|name| runtime.contains(name)),
            networks: networks.into_keys().collect(),
            mounts_own: config.mount_points.is_some_and(|points| points.contains_key(MOUNTED)),
        })
    }

    /// Whether Docker will write a file that leads to its own resolver.
    pub(super) fn has_dockers_resolver(&self) -> bool {
        self.networks.iter().any(|name| !PREDEFINED.contains(&name.as_str()))
    }

    /// A network whose names Docker's own resolver knows, and we don't.
    pub(super) fn foreign_network(&self) -> Option<&str> {
        let mut networks = self.networks.iter().map(String::as_str).filter(|name| !PREDEFINED.contains(name));
        networks.find(|name| !name.starts_with(USERS_NETWORK))
    }

    /// Whether its author chose servers, and all are this one.
    pub(super) fn chose(&self, server: Ipv4Addr) -> bool {
        !self.dns.is_empty() && self.dns.iter().all(|chosen| chosen.parse() == Ok(server))
    }
}

fn parse<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, String> {
    let text = read_bounded(path, LARGEST).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(host: &str, config: &str) -> Result<Facts, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hostconfig.json"), host).unwrap();
        fs::write(dir.path().join("config.v2.json"), config).unwrap();
        Facts::read(dir.path())
    }

    // As Docker 20.10 writes them, shortened.
    #[test]
    fn dockers_files_are_read() {
        let facts = read(
            r#"{"Binds":null,"NetworkMode":"default","Dns":[],"DnsOptions":[],"Runtime":"runc"}"#,
            r#"{"ID":"3c05","NetworkSettings":{"Networks":{"bridge":{"NetworkID":""}}},"MountPoints":{}}"#,
        );
        let expected = Facts {
            mode: Mode::Own,
            dns: Vec::new(),
            search: Vec::new(),
            is_gvisor: false,
            networks: vec!["bridge".to_owned()],
            mounts_own: false,
        };
        assert_eq!(facts, Ok(expected));
        let facts = read(
            r#"{"NetworkMode":"steppe-alice","Dns":["169.254.77.53"],"Runtime":"runsc-kvm"}"#,
            r#"{"NetworkSettings":{"Networks":{"steppe-alice":null,"app_default":{}}},
                "MountPoints":{"/etc/resolv.conf":{"Source":"/x"}}}"#,
        );
        let facts = facts.unwrap();
        assert!(facts.is_gvisor && facts.mounts_own && facts.has_dockers_resolver());
        assert!(facts.chose(Ipv4Addr::new(169, 254, 77, 53)) && !facts.chose(Ipv4Addr::LOCALHOST));
        assert_eq!(facts.foreign_network(), Some("app_default"));
        let shared = read(r#"{"NetworkMode":"container:3c05","Dns":null}"#, r#"{"NetworkSettings":null}"#);
        assert_eq!(shared.unwrap().mode, Mode::Of("3c05".to_owned()));
    }

    #[test]
    fn nonsense_names_its_file() {
        assert!(read("{", "{}").unwrap_err().contains("hostconfig.json"));
        assert!(read("{}", "7").unwrap_err().contains("config.v2.json"));
    }
}
