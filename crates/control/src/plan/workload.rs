//! A container, its user, and what it asks for and offers.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use steppe_model::{GrantSpec, Malformed, ServiceName, UserName, VirtualPort, parse_connect_to};

use super::{Ignored, UserFrom, settings::unknown_label};
use crate::{
    observe::{Alloc, AllocNetwork, Container, Instance},
    tag::connect_to,
};

const CONNECT_TO_LABEL: &str = "steppe.connect_to";
const SERVICE_LABEL: &str = "steppe.service";
const USER_LABEL: &str = "steppe.user";
const ATTACH_LABEL: &str = "steppe.attach";
/// Set by Nomad's docker driver on the containers of an allocation.
pub(super) const ALLOC_LABEL: &str = "com.hashicorp.nomad.alloc_id";
/// The docker driver sets these when it is told to (`extra_labels`).
const TASK_LABEL: &str = "com.hashicorp.nomad.task_name";
const GROUP_LABEL: &str = "com.hashicorp.nomad.task_group_name";
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
    /// The services of its user that it may reach as a member of its user's network, beside those that it asks for.
    pub implied: BTreeSet<ServiceName>,
    /// Services of its user for which there was no room among them.
    pub not_implied: usize,
    /// What it offers.
    pub offer: Option<Offer>,
    /// The services that it provides: what it offers, and what is registered for it on this node.
    pub provides: BTreeSet<ServiceName>,
    /// Whether it asks to be attached to its user's network.
    pub wants_network: bool,
    /// Whether it is on its user's network.
    pub is_member: bool,
    /// Whether it is any concern of Steppe's.
    pub guarded: bool,
    /// What of its labels and tags makes no sense.
    pub ignored: Vec<Ignored>,
}

impl Workload {
    /// A container of which nothing is understood yet.
    #[must_use]
    pub fn bare(container: Container) -> Self {
        Self {
            container,
            user: None,
            asked: Vec::new(),
            implied: BTreeSet::new(),
            not_implied: 0,
            offer: None,
            provides: BTreeSet::new(),
            wants_network: false,
            is_member: false,
            guarded: false,
            ignored: Vec::new(),
        }
    }

    /// Understands a container. `registrations` are the catalogue's entries that are its own; `alloc` is the allocation that
    /// it belongs to, if Nomad knows it; `network` is the user whose network it is on, if it is on one user's.
    #[must_use]
    pub fn understand(
        container: Container,
        registrations: &[Instance],
        alloc: Option<&Alloc>,
        network: Option<&UserName>,
        user_from: UserFrom,
    ) -> Self {
        let origin: Arc<str> = format!("label of container {}", container.name).into();
        let mut workload = Self::bare(container);
        workload.read_labels(&origin);
        // Whoever runs a container may write its label too, and need not where the network says the same.
        if !workload.container.labels.contains_key(USER_LABEL) && alloc_of(&workload.container).is_none() {
            workload.user = network.cloned();
        }
        if let Some(alloc) = alloc {
            let (user, origin) = user_from.of(alloc);
            match user.parse() {
                Ok(user) => workload.user = Some(user),
                Err(error) => workload.ignore(origin, user.to_string(), error),
            }
            let names = alloc.services.iter().filter_map(|service| service.name.parse::<ServiceName>().ok());
            workload.provides.extend(names);
            // Else it is the allocation that has the address, and not its containers.
            if alloc.network == AllocNetwork::Task || workload.container.id == alloc.id {
                alloc.asks.iter().for_each(|ask| workload.ask(&ask.text, &ask.origin));
            }
        }
        for registration in registrations {
            // What is no name of a service can't be asked for, nor provided.
            workload.provides.extend(registration.service.parse::<ServiceName>());
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
        match label(ATTACH_LABEL).as_deref() {
            None | Some("false") => {}
            Some("true") => self.wants_network = true,
            Some(other) => {
                self.ignore(origin, format!("{ATTACH_LABEL}={other}"), "`true` or `false` is expected");
            }
        }
        // The job's author writes the labels of Nomad's containers, and must not choose the user.
        if let Some(text) = user.filter(|_| alloc_of(&self.container).is_none()) {
            match text.parse() {
                Ok(user) => self.user = Some(user),
                Err(error) => self.ignore(origin, format!("{USER_LABEL}={text}"), error),
            }
        }
        if let Some(text) = service {
            match parse_offer(&text) {
                Ok(offer) => {
                    self.provides.insert(offer.name.clone());
                    self.offer = Some(offer);
                }
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

    /// Whether it, or somebody for it, says any word of Steppe's.
    #[must_use]
    pub fn has_to_do_with_steppe(&self) -> bool {
        !self.asked.is_empty() || !self.provides.is_empty() || self.user.is_some() || self.wants_network
    }

    fn ignore(&mut self, origin: &str, text: String, reason: impl ToString) {
        self.ignored.push(Ignored::new(origin, text, reason.to_string()));
    }

    /// The services it may reach that may be some user's, and which user's: the one it names, or else its own.
    #[must_use]
    pub fn asked_of(&self) -> BTreeSet<(ServiceName, UserName)> {
        self.specs()
            .filter_map(|spec| Some((spec.name.clone(), spec.user.as_ref().or(self.user.as_ref())?.clone())))
            .collect()
    }

    /// The names of the services it may reach.
    #[must_use]
    pub fn names(&self) -> BTreeSet<ServiceName> {
        self.specs().map(|spec| spec.name.clone()).collect()
    }

    /// What it asks for in words that make sense, and what it may reach as a member.
    pub fn specs(&self) -> impl Iterator<Item = Cow<'_, GrantSpec>> {
        let asked = self.asked.iter().filter_map(|asked| asked.spec.as_ref().ok()).map(Cow::Borrowed);
        asked.chain(self.implied.iter().map(|name| Cow::Owned(self.implied_spec(name))))
    }

    /// The same of one name alone.
    pub fn specs_of(&self, name: &ServiceName) -> impl Iterator<Item = Cow<'_, GrantSpec>> {
        let asked = self.asked.iter().filter_map(|asked| asked.spec.as_ref().ok());
        let asked = asked.filter(move |spec| spec.name == *name).map(Cow::Borrowed);
        asked.chain(self.implied.get(name).map(|name| Cow::Owned(self.implied_spec(name))))
    }

    /// What it asks for, and what it may reach as a member, for people.
    pub fn grants(&self) -> impl Iterator<Item = Cow<'_, Asked>> {
        let user = self.user.as_ref().map_or("", UserName::as_str);
        let origin: Arc<str> = format!("member of the network of {user}").into();
        let implied = self.implied.iter().map(move |name| {
            let spec = self.implied_spec(name);
            Cow::Owned(Asked { text: spec.to_string(), origin: origin.clone(), spec: Ok(spec) })
        });
        self.asked.iter().map(Cow::Borrowed).chain(implied)
    }

    fn implied_spec(&self, name: &ServiceName) -> GrantSpec {
        GrantSpec { user: self.user.clone(), name: name.clone(), tag: None, port: VirtualPort::ANY }
    }

    /// Which of its user's services it may reach as a member, and how many there is no room for.
    #[must_use]
    pub fn implied_by(&self, services: BTreeSet<&ServiceName>) -> (BTreeSet<ServiceName>, usize) {
        let is_asked = |name: &ServiceName| {
            let asked = self.asked.iter().filter_map(|asked| asked.spec.as_ref().ok());
            let mut own = asked.filter(|spec| spec.user.is_none() || spec.user == self.user);
            own.any(|spec| spec.name == *name && spec.tag.is_none())
        };
        let mut implied: Vec<_> = services.into_iter().filter(|name| !is_asked(name)).cloned().collect();
        let room = GRANTS.saturating_sub(self.asked.len());
        let left_out = implied.len().saturating_sub(room);
        implied.truncate(room);
        (implied.into_iter().collect(), left_out)
    }

    /// What it may not reach as a member for want of room.
    #[must_use]
    pub fn left_out(&self) -> Option<Ignored> {
        let user = self.user.as_ref().filter(|_| self.not_implied > 0)?;
        let reason = format!(
            "a workload can have {GRANTS} grants, and {} services of its user are left out: name those that it needs in \
             connect_to",
            self.not_implied
        );
        let origin = format!("member of the network of {user}: {}", self.container.name);
        Some(Ignored::new(&origin, format!("{user}/*"), reason))
    }

    /// The user whose network must be there for it. Nomad's `default` is whose jobs name no namespace, and is nobody's tenant.
    #[must_use]
    pub fn needs_network_of(&self) -> Option<&UserName> {
        let is_default = |user: &UserName| user.as_str() == "default" && alloc_of(&self.container).is_some();
        self.user.as_ref().filter(|user| self.wants_network || !is_default(user))
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

/// The task of its job that a container is, as Nomad's docker driver names it or else can be told to label it.
#[must_use]
pub fn task_of<'a>(container: &'a Container, alloc: Option<&Alloc>) -> Option<&'a str> {
    // The docker driver calls its containers TASK-ALLOC.
    let named = alloc.and_then(|alloc| container.name.strip_suffix(&*alloc.id)?.strip_suffix('-'));
    named.or_else(|| container.labels.get(TASK_LABEL).map(String::as_str))
}

/// The group of its job that a container belongs to.
#[must_use]
pub fn group_of<'a>(container: &'a Container, alloc: Option<&'a Alloc>) -> Option<&'a str> {
    let told = alloc.map(|alloc| &*alloc.group);
    told.or_else(|| container.labels.get(GROUP_LABEL).map(String::as_str))
}

/// The Nomad allocation that registered a service, from the registration's id. Nothing behind the allocation's id is
/// looked at: it differs between versions of Nomad.
#[must_use]
pub fn registered_alloc(registration: &Instance) -> Option<&str> {
    registration.id.strip_prefix(NOMAD_TASK)?.get(..UUID)
}
