//! What an allocation's job asks for and offers.

use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{
    answers::{PROTOCOL, null_is_empty},
    interpolate::Env,
};
use crate::{
    observe::{AllocNetwork, AllocService, Ask},
    tag::connect_to,
};

const CONNECT_TO: &str = "connect_to";
const OURS: &str = "steppe.";
/// Meta that names a user. HCL can't have a dot in a key of a block.
const USER: [&str; 2] = ["steppe_user", "steppe.user"];
const USER_LABEL: &str = "steppe.user";

type Meta = BTreeMap<String, String>;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Job {
    name: String,
    #[serde(rename = "ParentID")]
    parent_id: String,
    region: String,
    #[serde(deserialize_with = "null_is_empty")]
    meta: Meta,
    #[serde(deserialize_with = "null_is_empty")]
    task_groups: Vec<Group>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Group {
    name: String,
    #[serde(deserialize_with = "null_is_empty")]
    meta: Meta,
    #[serde(deserialize_with = "null_is_empty")]
    services: Vec<Service>,
    #[serde(deserialize_with = "null_is_empty")]
    networks: Vec<Network>,
    #[serde(deserialize_with = "null_is_empty")]
    tasks: Vec<Task>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    mode: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Task {
    name: String,
    driver: String,
    config: Value,
    #[serde(deserialize_with = "null_is_empty")]
    meta: Meta,
    #[serde(deserialize_with = "null_is_empty")]
    services: Vec<Service>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Service {
    name: String,
    port_label: String,
    #[serde(deserialize_with = "null_is_empty")]
    tags: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    canary_tags: Vec<String>,
}

impl Job {
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.task_groups.iter()
    }

    /// The user that its meta names.
    pub(super) fn user(&self) -> Option<Arc<str>> {
        USER.iter().find_map(|key| self.meta.get(*key)).map(|user| user.trim().into())
    }

    pub(super) fn group(&self, name: &str) -> Option<&Group> {
        self.task_groups.iter().find(|group| group.name == name)
    }
}

impl Group {
    /// The group's network; `bridge` is what it is in bridge mode.
    pub(super) fn network(&self, bridge: AllocNetwork) -> AllocNetwork {
        match self.networks.first().map_or("", |network| network.mode.as_str()) {
            "bridge" => bridge,
            // Nomad writes `host` where a job says nothing, and Docker's containers have their own network then all the same.
            "" | "host" if self.tasks.iter().any(Task::has_own_network) => AllocNetwork::Task,
            "" | "host" => AllocNetwork::Host,
            other => AllocNetwork::Other(other.into()),
        }
    }

    /// The user that the labels of its containers name: one task's is all tasks'.
    pub(super) fn labelled_user(&self) -> Option<Arc<str>> {
        let of_task = |task: &Task| Some(task.labels()?.get(USER_LABEL)?.as_str()?.trim().into());
        self.tasks.iter().find_map(of_task)
    }

    /// The port in the container that the docker driver's `port_map` has for a label.
    pub(super) fn port_map(&self, task: &str, label: &str) -> Option<u16> {
        let map = self.tasks.iter().find(|known| known.name == task)?.config.get("port_map")?;
        // HCL's blocks are lists of maps.
        let maps = map.as_array().map_or(std::slice::from_ref(map), Vec::as_slice);
        let port = maps.iter().find_map(|map| map.get(label)?.as_u64())?;
        u16::try_from(port).ok()
    }
}

impl Task {
    /// The labels that its driver gives to its container. HCL's blocks are lists of maps.
    fn labels(&self) -> Option<&Value> {
        let labels = self.config.get("labels")?;
        labels.as_array().map_or(Some(labels), |maps| maps.iter().find(|map| map.get(USER_LABEL).is_some()))
    }

    fn has_own_network(&self) -> bool {
        self.driver == "docker" && self.config.get("network_mode").and_then(Value::as_str) != Some("host")
    }
}

/// Reads one group of a job for one allocation.
pub(super) struct Reader<'a> {
    pub(super) job: &'a Job,
    pub(super) group: &'a Group,
    pub(super) job_id: &'a str,
    /// Whether the allocation is a canary.
    pub(super) canary: bool,
    /// What the allocation and its node give to interpolation.
    pub(super) env: Env,
}

impl Reader<'_> {
    pub(super) fn read(mut self) -> (Vec<Ask>, Vec<AllocService>) {
        let (job, group) = (self.job, self.group);
        let within = format!("job {}, group {}", self.job_id, group.name);
        self.env.set("NOMAD_JOB_NAME", &job.name);
        self.env.set("NOMAD_REGION", &job.region);
        self.env.set("NOMAD_GROUP_NAME", &group.name);
        if !job.parent_id.is_empty() {
            self.env.set("NOMAD_JOB_PARENT_ID", &job.parent_id);
        }
        for (key, value) in job.meta.iter().chain(&group.meta) {
            self.env.set_meta(key, value);
        }
        let (mut asks, mut services) = (Vec::new(), Vec::new());
        ask(&mut asks, &self.env, &job.meta, &format!("meta of job {}", self.job_id));
        ask(
            &mut asks,
            &self.env,
            &group.meta,
            &format!("meta of group {} (job {})", group.name, self.job_id),
        );
        let settings = [&job.meta, &group.meta];
        for service in &group.services {
            self.service(service, "group", &self.env, &settings, &within, &mut asks, &mut services);
        }
        for task in &group.tasks {
            let mut env = self.env.clone();
            env.set("NOMAD_TASK_NAME", &task.name);
            task.meta.iter().for_each(|(key, value)| env.set_meta(key, value));
            ask(&mut asks, &env, &task.meta, &format!("meta of task {} ({within})", task.name));
            let settings = [&job.meta, &group.meta, &task.meta];
            for service in &task.services {
                self.service(service, &task.name, &env, &settings, &within, &mut asks, &mut services);
            }
        }
        (asks, services)
    }

    #[expect(clippy::too_many_arguments, reason = "the two lists are filled together")]
    fn service(
        &self,
        service: &Service,
        task: &str,
        env: &Env,
        metas: &[&Meta],
        within: &str,
        asks: &mut Vec<Ask>,
        services: &mut Vec<AllocService>,
    ) {
        let mut named = env.clone();
        named.set("JOB", &self.job.name);
        named.set("TASKGROUP", &self.group.name);
        named.set("TASK", task);
        named.set("BASE", &format!("{}-{}-{task}", self.job.name, self.group.name));
        let name = if service.name.is_empty() { "${BASE}" } else { &service.name };
        let origin = format!("tag of service {} ({within})", named.replace(name).as_deref().unwrap_or(name));
        // As Nomad registers it.
        let tags =
            if self.canary && !service.canary_tags.is_empty() { &service.canary_tags } else { &service.tags };
        for text in tags.iter().filter_map(|tag| env.replace(connect_to(tag)?)) {
            asks.push(Ask { origin: origin.as_str().into(), text: text.into() });
        }
        let Some(name) = named.replace(name) else { return };
        let port = env.replace(&service.port_label).filter(|label| !label.is_empty());
        let mut settings = BTreeMap::new();
        for (key, value) in metas.iter().copied().flatten() {
            let Some(key) = key.strip_prefix(OURS).filter(|key| ![CONNECT_TO, "user"].contains(key)) else {
                continue;
            };
            match env.replace(value) {
                Some(value) => settings.insert(key.to_owned(), value),
                // The outer level's, which it was to take the place of, may allow more than was meant.
                None => settings.remove(key),
            };
        }
        services.push(AllocService {
            name: name.into(),
            settings,
            tags: tags
                .iter()
                .filter(|tag| tag.starts_with(OURS))
                .filter_map(|tag| env.replace(tag))
                .collect(),
            port: port.map(|label| (PROTOCOL, Arc::from(label))),
        });
    }
}

fn ask(asks: &mut Vec<Ask>, env: &Env, meta: &Meta, origin: &str) {
    let ours = meta.iter().filter(|(key, _)| key.strip_prefix(OURS).unwrap_or(key) == CONNECT_TO);
    for text in ours.filter_map(|(_, text)| env.replace(text)) {
        asks.push(Ask { origin: origin.into(), text: text.into() });
    }
}
