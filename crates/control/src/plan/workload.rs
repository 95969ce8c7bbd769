//! A container, its user, and what it asks for and offers.

use std::{collections::BTreeSet, sync::Arc};

use steppe_model::{GrantSpec, Malformed, ServiceName, UserName, parse_connect_to};

use super::{Ignored, settings::unknown_label};
use crate::{
    observe::{Alloc, AllocNetwork, Container, Instance},
    tag::connect_to,
};

const CONNECT_TO_LABEL: &str = "steppe.connect_to";
const SERVICE_LABEL: &str = "steppe.service";
const USER_LABEL: &str = "steppe.user";
/// Set by Nomad's docker driver on the containers of an allocation.
pub(super) const ALLOC_LABEL: &str = "com.hashicorp.nomad.alloc_id";
/// Nomad's ids of task services begin so, and the allocation's id follows.
const NOMAD_TASK: &str = "_nomad-task-";
/// The length of a UUID as text (RFC 9562 §4).
const UUID: usize = 36;

/// Grants of one workload that are read: each costs a virtual IP, a listener and a watch, which all workloads of the
/// host share.
const GRANTS: usize = 256;

/// A service that a workload asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// As written.
    pub text: String,
    /// Where it was written.
    pub origin: Arc<str>,
    /// What it means.
    pub spec: Result<GrantSpec, Malformed>,
}

/// A service that a container offers by its label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The service.
    pub name: ServiceName,
    /// The port in the container.
    pub port: u16,
}

/// A container of this host, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What Docker says of it.
    pub container: Container,
    /// The user it belongs to.
    pub user: Option<UserName>,
    /// What it asks for.
    pub asked: Vec<Asked>,
    /// What it offers.
    pub offer: Option<Offer>,
    /// What of its labels and tags makes no sense.
    pub ignored: Vec<Ignored>,
}

impl Workload {
    /// A container of which nothing is understood yet.
    #[must_use]
    pub fn bare(container: Container) -> Self {
        Self { container, user: None, asked: Vec::new(), offer: None, ignored: Vec::new() }
    }

    /// Understands a container. `registrations` are the catalogue's entries that are its own; `alloc` is the allocation that
    /// it belongs to, if Nomad knows it.
    #[must_use]
    pub fn understand<'a>(
        container: Container,
        registrations: impl Iterator<Item = &'a Instance>,
        alloc: Option<&Alloc>,
    ) -> Self {
        let origin: Arc<str> = format!("label of container {}", container.name).into();
        let mut workload = Self::bare(container);
        workload.read_labels(&origin);
        if let Some(alloc) = alloc {
            match alloc.namespace.parse() {
                Ok(user) => workload.user = Some(user),
                Err(error) => {
                    workload.ignore("namespace of its allocation", alloc.namespace.to_string(), error);
                }
            }
            // Else it is the allocation that has the address, and not its containers.
            if alloc.network == AllocNetwork::Task || workload.container.id == alloc.id {
                alloc.asks.iter().for_each(|ask| workload.ask(&ask.text, &ask.origin));
            }
        }
        for registration in registrations {
            let origin: Arc<str> = format!("tag of Consul service {}", registration.id).into();
            for text in connect_to_tags(registration) {
                workload.ask(text, &origin);
            }
        }
        workload
    }

    fn read_labels(&mut self, origin: &Arc<str>) {
        let label = |name: &str| self.container.labels.get(name).cloned();
        let (connect_to, service, user) = (label(CONNECT_TO_LABEL), label(SERVICE_LABEL), label(USER_LABEL));
        // The job's author writes the labels of Nomad's containers, and must not choose the user.
        if let Some(text) = user.filter(|_| alloc_of(&self.container).is_none()) {
            match text.parse() {
                Ok(user) => self.user = Some(user),
                Err(error) => self.ignore(origin, format!("{USER_LABEL}={text}"), error),
            }
        }
        if let Some(text) = service {
            match parse_offer(&text) {
                Ok(offer) => self.offer = Some(offer),
                Err(reason) => self.ignore(origin, format!("{SERVICE_LABEL}={text}"), reason),
            }
        }
        if let Some(text) = connect_to {
            self.ask(&text, origin);
        }
        let unknown: Vec<_> = self
            .container
            .labels
            .iter()
            .filter_map(|(name, value)| Some((format!("{name}={value}"), unknown_label(name)?)))
            .collect();
        for (text, reason) in unknown {
            self.ignore(origin, text, reason);
        }
    }

    fn ask(&mut self, text: &str, origin: &Arc<str>) {
        for spec in parse_connect_to(text) {
            // Said by the job, and again by what it registered.
            if spec.is_ok() && self.asked.iter().any(|asked| asked.spec == spec) {
                continue;
            }
            if self.asked.len() == GRANTS {
                let reason =
                    format!("a workload can have {GRANTS} grants: what comes after them is left out");
                if self.ignored.last().is_none_or(|last| *last.reason != *reason) {
                    self.ignore(origin, format!("connect_to={text:.80}"), reason);
                }
                return;
            }
            let text = match &spec {
                Ok(spec) => spec.to_string(),
                Err(malformed) => malformed.text.clone(),
            };
            if let Err(malformed) = &spec {
                self.ignore(origin, format!("connect_to={text}"), &malformed.reason);
            }
            self.asked.push(Asked { text, origin: origin.clone(), spec });
        }
    }

    fn ignore(&mut self, origin: &str, text: String, reason: impl ToString) {
        self.ignored.push(Ignored::new(origin, text, reason.to_string()));
    }

    /// The services it asks for that may be some user's, and which user's: the one it names, or else its own.
    #[must_use]
    pub fn asked_of(&self) -> BTreeSet<(ServiceName, UserName)> {
        let specs = self.asked.iter().filter_map(|asked| asked.spec.as_ref().ok());
        specs
            .filter_map(|spec| Some((spec.name.clone(), spec.user.as_ref().or(self.user.as_ref())?.clone())))
            .collect()
    }

    /// The names of the services it asks for.
    #[must_use]
    pub fn names(&self) -> BTreeSet<ServiceName> {
        self.asked.iter().filter_map(|asked| Some(asked.spec.as_ref().ok()?.name.clone())).collect()
    }
}

fn parse_offer(text: &str) -> Result<Offer, String> {
    let (name, port) = text.rsplit_once(':').ok_or("write NAME:PORT, the port in the container")?;
    let name = name.trim().parse().map_err(|error| format!("{error}"))?;
    match port.trim().parse() {
        Ok(port) if port > 0 => Ok(Offer { name, port }),
        _ => Err(format!("port `{port:.20}` is not a number from 1 to 65535")),
    }
}

/// The values of a registration's `connect_to` tags.
pub fn connect_to_tags(registration: &Instance) -> impl Iterator<Item = &str> {
    registration.tags.iter().filter_map(|tag| connect_to(tag))
}

/// The Nomad allocation that a container belongs to.
#[must_use]
pub fn alloc_of(container: &Container) -> Option<&str> {
    container.labels.get(ALLOC_LABEL).map(String::as_str)
}

/// The Nomad allocation that registered a service, from the registration's id. Nothing behind the allocation's id is
/// looked at: it differs between versions of Nomad.
#[must_use]
pub fn registered_alloc(registration: &Instance) -> Option<&str> {
    registration.id.strip_prefix(NOMAD_TASK)?.get(..UUID)
}
