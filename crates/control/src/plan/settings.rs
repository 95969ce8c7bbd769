//! What a provider sets: `steppe.NAME=VALUE` as a tag, `steppe.NAME` as a label. A label beats a tag.

use std::collections::{BTreeMap, BTreeSet};

use steppe_model::UserName;

use super::Ignored;

/// Who else may be granted a service (`steppe.allow`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everybody.
    All,
    /// These users, and the service's own.
    Users(BTreeSet<UserName>),
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
}

impl Settings {
    /// Reads an instance's tags and the labels of its container. `weight` is what the catalogue says, for when no setting does.
    pub fn read(
        origin: &str,
        tags: &[String],
        labels: Option<&BTreeMap<String, String>>,
        weight: u32,
        ignored: &mut Vec<Ignored>,
    ) -> Self {
        let weight = u8::try_from(weight.clamp(1, 100)).unwrap_or(1);
        let mut settings = Self { allow: Allow::Users(BTreeSet::new()), proxy_protocol: false, weight };
        let from_tags = tags.iter().filter_map(|tag| tag.strip_prefix("steppe.")?.split_once('='));
        let from_labels = labels.into_iter().flatten().filter_map(|(name, value)| {
            let name = name.strip_prefix("steppe.")?;
            Some((name, value.as_str()))
        });
        for (name, value) in from_tags.chain(from_labels) {
            if let Err(reason) = settings.set(name.trim(), value.trim()) {
                ignored.push(Ignored::new(origin, format!("steppe.{name}={value}"), reason));
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
            // The container's own, which the workload's reader takes.
            "connect_to" | "service" | "user" => {}
            _ => return Err("no such setting: allow, proxy_protocol and weight are known".into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tags: &[&str], labels: &[(&str, &str)]) -> (Settings, Vec<Ignored>) {
        let tags: Vec<String> = tags.iter().map(ToString::to_string).collect();
        let labels = labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut ignored = Vec::new();
        let settings = Settings::read("tag of web-1", &tags, Some(&labels), 7, &mut ignored);
        (settings, ignored)
    }

    #[test]
    fn a_label_beats_a_tag_and_a_tag_the_catalogue() {
        assert_eq!(read(&[], &[]).0.weight, 7);
        assert_eq!(read(&["steppe.weight=9"], &[]).0.weight, 9);
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
}
