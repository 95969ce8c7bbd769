//! What a provider sets: `steppe.NAME=VALUE` as a tag, `steppe.NAME` as a label or in the meta of its job. A label beats a tag,
//! and a tag the meta.

use std::collections::{BTreeMap, BTreeSet};

use steppe_model::{Expose, UserName};

use super::Ignored;
use crate::observe::Container;

/// Who else may be granted a service (`steppe.allow`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everybody.
    All,
    /// These users, and the service's own.
    Users(BTreeSet<UserName>),
}

/// Which way new connections to an instance take (`steppe.path`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Through the proxy.
    Proxy,
    /// From the kernel to the instance.
    Kernel,
}

/// An instance's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who else may be granted the service.
    pub allow: Allow,
    /// Whether the proxy tells who called, by the PROXY protocol, version 2.
    pub proxy_protocol: bool,
    /// Its share of the connections, 1 to 100.
    pub weight: u8,
    /// Which way connections to it take, when its siblings want the same.
    pub path: Path,
    /// Who may dial the port that it has published.
    pub expose: Expose,
}

/// Where an instance's settings may be written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written<'a> {
    /// What the tags are called in messages.
    pub origin: &'a str,
    /// Its tags.
    pub tags: &'a [String],
    /// What its job's meta sets, without the prefix.
    pub meta: Option<&'a BTreeMap<String, String>>,
    /// Its container.
    pub container: Option<&'a Container>,
}

impl Settings {
    /// Reads an instance's settings. `weight` is what the catalogue says, for when no setting does.
    pub fn read(written: Written<'_>, weight: u32, ignored: &mut Vec<Ignored>) -> Self {
        let Written { origin, tags, meta, container } = written;
        let weight = u8::try_from(weight.clamp(1, 100)).unwrap_or(1);
        let mut settings = Self {
            allow: Allow::Users(BTreeSet::new()),
            proxy_protocol: false,
            weight,
            path: Path::Proxy,
            expose: Expose::Proxies,
        };
        for (name, value) in meta.into_iter().flatten() {
            let set = if is_tag(name) { settings.set(name, value.trim()) } else { Err(unknown_tag()) };
            if let Err(reason) = set {
                let origin = origin.replacen("tag", "meta", 1);
                ignored.push(Ignored::new(&origin, format!("steppe.{name}={value}"), reason));
            }
        }
        let from_tags = tags.iter().filter_map(|tag| tag.strip_prefix("steppe.")?.split_once('='));
        for (name, value) in from_tags {
            let set = if is_tag(name.trim()) {
                settings.set(name.trim(), value.trim())
            } else {
                Err(unknown_tag())
            };
            if let Err(reason) = set {
                ignored.push(Ignored::new(origin, format!("steppe.{name}={value}"), reason));
            }
        }
        let Some(container) = container else { return settings };
        for (label, value) in &container.labels {
            // Labels that nobody knows are named by the workload's reader.
            let Some(name) = label.strip_prefix("steppe.") else { continue };
            if let Err(reason) = settings.set(name, value.trim()) {
                let origin = format!("label of container {}", container.name);
                ignored.push(Ignored::new(&origin, format!("{label}={value}"), reason));
            }
        }
        settings
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "allow" if value == "*" => self.allow = Allow::All,
            "allow" => {
                let users = value.split(',').map(|user| user.trim().parse()).collect::<Result<_, _>>();
                let users = users.map_err(|error| format!("{error}; `*` allows everybody"))?;
                self.allow = Allow::Users(users);
            }
            "proxy_protocol" if value == "v2" => self.proxy_protocol = true,
            "proxy_protocol" => return Err("only `v2` is known".into()),
            "weight" => {
                let weight = value.parse().ok().filter(|weight| (1..=100).contains(weight));
                self.weight = weight.ok_or("a number from 1 to 100 is expected")?;
            }
            "path" => {
                self.path = match value {
                    "proxy" => Path::Proxy,
                    "kernel" => Path::Kernel,
                    _ => return Err("`proxy` or `kernel` is expected".into()),
                };
            }
            "expose" => {
                self.expose = match value {
                    "host" => Expose::Host,
                    "cluster" => Expose::Cluster,
                    "public" => Expose::Public,
                    _ => return Err("`host`, `cluster` or `public` is expected".into()),
                };
            }
            _ => {}
        }
        Ok(())
    }
}

/// The settings that are tags and labels.
const SETTINGS: [&str; 5] = ["allow", "expose", "path", "proxy_protocol", "weight"];
/// The container's own, which the workload's reader takes.
const LABELS: [&str; 4] = ["attach", "connect_to", "service", "user"];

fn is_tag(name: &str) -> bool {
    SETTINGS.contains(&name) || name == "connect_to"
}

fn unknown_tag() -> String {
    format!("no such tag: of those that begin with `steppe.`, {} are known", SETTINGS.join(", "))
}

/// What is wrong with the name of a label that begins with `steppe.`, if anything is.
#[must_use]
pub fn unknown_label(label: &str) -> Option<String> {
    let name = label.strip_prefix("steppe.")?;
    let known = SETTINGS.iter().chain(&LABELS);
    if known.clone().any(|known| *known == name) {
        return None;
    }
    let known: Vec<_> = known.map(|name| format!("steppe.{name}")).collect();
    Some(format!("no such label: {} are known", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &[&str], labels: &[(&str, &str)]) -> (Settings, Vec<Ignored>) {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let container = Container {
            id: "0123".into(),
            name: "web".into(),
            labels: labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            attachments: Vec::new(),
            published: Vec::new(),
            aliases: Vec::new(),
            health: crate::observe::Health::Passing,
            ports_known: 0,
        };
        let mut ignored = Vec::new();
        let meta = BTreeMap::from([("path".to_owned(), "kernel".to_owned())]);
        let written =
            Written { origin: "tag of web-1", tags: &tags, meta: Some(&meta), container: Some(&container) };
        let settings = Settings::read(written, 7, &mut ignored);
        (settings, ignored)
    }

    #[test]
    fn a_label_beats_a_tag_and_a_tag_the_catalogue() {
        assert_eq!(read(&[], &[]).0.weight, 7);
        assert_eq!(read(&["steppe.weight=9"], &[]).0.weight, 9);
        assert_eq!(read(&[], &[]).0.path, Path::Kernel, "the meta's");
        assert_eq!(read(&["steppe.path=proxy"], &[]).0.path, Path::Proxy);
        assert_eq!(read(&["steppe.weight=9"], &[("steppe.weight", "3")]).0.weight, 3);
    }

    #[test]
    fn nonsense_is_left_out_and_named() {
        let tags =
            ["steppe.weight=101", "steppe.allow=a b", "steppe.pathh=x", "other=1", "steppe.allow=carol"];
        let (settings, ignored) = read(&tags, &[]);
        assert_eq!(settings.weight, 7);
        assert_eq!(settings.allow, Allow::Users(["carol".parse().unwrap()].into()));
        assert_eq!(ignored.len(), 3);
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        let (_, ignored) = read(&["steppe.user=x"], &[("steppe.weight", "0"), ("steppe.odd", "1")]);
        let origins: Vec<_> = ignored.iter().map(|ignored| &*ignored.origin).collect();
        assert_eq!(origins, ["tag of web-1", "label of container web"]);
        assert!(unknown_label("steppe.weight").is_none() && unknown_label("steppe.user").is_none());
        assert!(unknown_label("steppe.conect_to").unwrap().contains("steppe.connect_to"));
    }
}
