//! What dns is told of a workload: who it is, what it may name, and what others call it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use steppe_model::{
    AskedName, Asker, DnsName, Grant, Member, Protocol, Resource, ResourceId, ServiceKey, UserName,
    VirtualIp, VirtualPort, WorkloadId,
};

use super::{Planned, PlannedService, Planner, Workload, compose::meant};
use crate::plan::{alloc_of, group_of, task_of};

/// Characters of its id that Docker gives a container as an alias.
const SHORT_ID: usize = 12;

/// Ranks of a service's spellings.
const SPELLINGS: usize = 7;

/// A service that a workload may name.
struct Named<'a> {
    key: ServiceKey,
    planned: &'a PlannedService,
    /// The ports that it was granted.
    ports: BTreeSet<VirtualPort>,
}

impl Planner {
    /// Marks those whose view a service's change concerns.
    pub(super) fn touch_names(&mut self, old: Option<&PlannedService>, new: &PlannedService) {
        let Some(old) = old else { return self.dirty_askers.extend(new.consumers.keys().cloned()) };
        let is_other = old.vip != new.vip || routed(old) != routed(new);
        let touched = new.consumers.iter().filter(|(id, verdict)| {
            is_other || old.consumers.get(*id).is_none_or(|before| before.is_ok() != verdict.is_ok())
        });
        self.dirty_askers.extend(touched.map(|(id, _)| id.clone()));
    }

    pub(super) fn plan_asker(&mut self, id: &Arc<str>) {
        let mut told = Vec::new();
        if let Some(workload) = self.workloads.get(id).filter(|workload| workload.guarded) {
            let named = self.named(workload);
            let names = asked_names(&named, workload.user.as_ref());
            let own = self.own_names(workload);
            for (bound, attached) in self.bound_attachments(id) {
                let ip = attached.attachment.ip;
                let asker = Asker {
                    ip,
                    workload: workload.container.name.clone(),
                    user: workload.user.clone(),
                    network: workload.user.clone().filter(|_| workload.is_member),
                    names: names.clone(),
                };
                let requires = stands_on(&bound, &named);
                told.push(Planned { resource: Arc::new(Resource::Asker(asker)), requires });
                let Some(network) = attached.network.clone() else { continue };
                let member = Member { network, ip, names: own.iter().cloned().collect() };
                let requires = vec![bound.resource_id()];
                told.push(Planned { resource: Arc::new(Resource::Member(member)), requires });
            }
        }
        self.names.replace(id, told);
    }

    /// The services that a workload is granted.
    fn named(&self, workload: &Workload) -> Vec<Named<'_>> {
        let mut ports: BTreeMap<ServiceKey, BTreeSet<VirtualPort>> = BTreeMap::new();
        for spec in workload.specs() {
            ports.entry(meant(&spec, workload.user.as_ref())).or_default().insert(spec.port);
        }
        let named = ports.into_iter().filter_map(|(key, ports)| {
            let planned = self.services.get(&key)?;
            let may = planned.consumers.get(&workload.container.id) == Some(&Ok(()));
            (may && planned.vip.is_some()).then_some(Named { key, planned, ports })
        });
        named.collect()
    }

    /// What the other members of its network call a workload: by its name, its aliases, its task and its group.
    #[must_use]
    pub fn own_names(&self, workload: &Workload) -> BTreeSet<DnsName> {
        let container = &workload.container;
        let alloc = alloc_of(container).and_then(|id| self.alloc(id));
        let is_id = |alias: &str| alias.len() == SHORT_ID && container.id.starts_with(alias);
        let aliases = container.aliases.iter().map(|alias| &**alias).filter(|alias| !is_id(alias));
        let placed = [task_of(container, alloc), group_of(container, alloc)].into_iter().flatten();
        let all = aliases.chain([&*container.name]).chain(placed);
        all.filter_map(|name| name.parse().ok()).collect()
    }

    /// The names of services that dns is told for a workload.
    #[must_use]
    pub fn asked_names(&self, workload: &Workload) -> Vec<AskedName> {
        asked_names(&self.named(workload), workload.user.as_ref())
    }
}

/// The ports in containers that a grant without a port reaches.
fn routed(planned: &PlannedService) -> BTreeSet<u16> {
    let any = planned.ports.get(&VirtualPort::ANY);
    any.into_iter().flat_map(|any| any.routing.routes.iter().map(|route| route.port)).collect()
}

/// The names of services, each of which means one. What says more beats what says less, and what could mean several
/// means none.
fn asked_names(named: &[Named<'_>], user: Option<&UserName>) -> Vec<AskedName> {
    let mut taken: BTreeMap<DnsName, Option<&Named<'_>>> = BTreeMap::new();
    let spelled: Vec<_> = named.iter().map(|named| (named, spellings(&named.key, user))).collect();
    for rank in 0..SPELLINGS {
        let mut claimed: BTreeMap<DnsName, Option<&Named<'_>>> = BTreeMap::new();
        for (named, spellings) in &spelled {
            let Some(name) = spellings[rank].clone() else { continue };
            claimed.entry(name).and_modify(|by| *by = None).or_insert(Some(named));
        }
        for (name, by) in claimed {
            taken.entry(name).or_insert(by);
        }
    }
    let asked = taken.into_iter().filter_map(|(name, by)| {
        let named = by?;
        Some(AskedName { name, vip: named.planned.vip?, ports: ports(named) })
    });
    asked.collect()
}

/// How a service is called by who belongs to `user`, by rank: a rank that does not apply to it, or that makes no valid name, is
/// `None`.
fn spellings(key: &ServiceKey, user: Option<&UserName>) -> [Option<DnsName>; SPELLINGS] {
    let (name, tag) = (&key.name, key.tag.as_ref());
    let other = key.user.as_ref().filter(|owner| Some(*owner) != user);
    let plain = name.to_string();
    let tagged = tag.map(|tag| format!("{tag}.{name}"));
    let of_user = other.map(|owner| format!("{name}.{owner}"));
    let tagged_of_user = tag.zip(other).map(|(tag, owner)| format!("{tag}.{name}.{owner}"));
    let full = [
        (tag.is_none() && other.is_none()).then(|| plain.clone()),
        tagged.clone().filter(|_| other.is_none()),
        of_user.clone().filter(|_| tag.is_none()),
        tagged_of_user,
    ];
    let short = [of_user.filter(|_| tag.is_some()), tagged.filter(|_| other.is_some()), Some(plain)];
    let [a, b, c, d] = full;
    let [e, f, g] = short;
    [a, b, c, d, e, f, g].map(|spelling| spelling?.parse().ok())
}

/// The ports that SRV questions are told: those that were asked for, and for every port those that instances have.
fn ports(named: &Named<'_>) -> Vec<VirtualPort> {
    let exact = named.ports.iter().copied().filter(|port| *port != VirtualPort::ANY);
    let any = named.ports.contains(&VirtualPort::ANY).then(|| routed(named.planned));
    let any = any.into_iter().flatten().map(|port| VirtualPort::new(Protocol::Tcp, port));
    exact.chain(any).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The netfilter-agent's resources without which a name leads nowhere.
fn stands_on(workload: &WorkloadId, named: &[Named<'_>]) -> Vec<ResourceId> {
    let mut requires = vec![workload.resource_id()];
    for Named { key, planned, ports } in named {
        let Some(vip) = planned.vip else { continue };
        requires.push(VirtualIp { service: key.clone(), vip }.id());
        let grant = |port: &VirtualPort| Grant { workload: workload.clone(), vip, port: *port }.id();
        requires.extend(ports.iter().map(grant));
    }
    requires
}
