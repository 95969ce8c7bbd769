//! From the answers to rows, and from rows to text.

use std::collections::BTreeSet;

use steppe_api::v1::{Instance, ListGrantsResponse, ListServicesResponse, Service, ServiceKey, ServicePath};
use steppe_explain::{Answer, Away, Paint, Style, age, clean, key, path_of, port};

use super::{Agents, Row, Services, rates::Sampler};
use crate::table::{Cell, Table};

pub(super) fn services(
    control: Answer<ListServicesResponse>,
    agents: &Agents,
    grants: Answer<ListGrantsResponse>,
    sampler: &Sampler,
) -> Services {
    let mut rows: Vec<Row> = match &control {
        Ok(answer) => answer.services.iter().map(planned).collect(),
        Err(_) => in_force(agents, grants.as_ref().ok()),
    };
    for row in &mut rows {
        let (user, name, tag) = (row.user.clone(), row.service.clone(), row.tag.clone());
        row.numbers = sampler.of(&ServiceKey { user, name, tag });
    }
    rows.sort_by(|a, b| (&a.user, &a.service, &a.tag).cmp(&(&b.user, &b.service, &b.tag)));
    let away =
        [control.err(), agents.proxy.as_ref().err().cloned(), agents.netfilter.as_ref().err().cloned()];
    let note = |away: Away| format!("{away}: {}", away.fix());
    Services {
        services: rows,
        rates: sampler.has_rates(),
        notes: away.into_iter().flatten().map(note).collect(),
    }
}

fn row(service: &ServiceKey, vip: &str, ports: BTreeSet<(u32, i32)>) -> Row {
    Row {
        user: service.user.clone(),
        service: service.name.clone(),
        tag: service.tag.clone(),
        vip: vip.to_owned(),
        ports: ports.into_iter().map(|(number, protocol)| port(protocol, number)).collect(),
        path: path_text(ServicePath::Proxy),
        up: None,
        all: None,
        grants: None,
        numbers: super::Numbers::default(),
        problem: String::new(),
    }
}

/// A part that does not say is one that knows the proxy alone.
fn path_text(path: ServicePath) -> &'static str {
    match path {
        ServicePath::Kernel => "kernel",
        ServicePath::Proxy | ServicePath::Unspecified => "proxy",
    }
}

/// A service as control planned it.
fn planned(service: &Service) -> Row {
    let key = service.key.clone().unwrap_or_default();
    let ports = service.ports.iter().map(|port| (port.port, port.protocol)).collect();
    let is_up = |instance: &&Instance| instance.healthy && instance.address.is_some();
    let up = service.instances.iter().filter(is_up).count();
    let mut problems = Vec::new();
    if service.empty_for_ms > 0 {
        let what =
            if service.instances.is_empty() { "no instance" } else { "no instance that gets connections" };
        problems.push(format!("{what} for {}", age(service.empty_for_ms / 1000)));
    }
    for granted in service.ports.iter().filter(|granted| !granted.problem.is_empty()) {
        problems.push(format!("port {}: {}", port(granted.protocol, granted.port), granted.problem));
    }
    Row {
        up: Some(up),
        all: Some(service.instances.len()),
        grants: Some(service.grants),
        problem: problems.join("; "),
        path: path_text(service.path()),
        ..row(&key, &service.vip, ports)
    }
}

/// The services that the agents have in force, with control down.
fn in_force(agents: &Agents, grants: Option<&ListGrantsResponse>) -> Vec<Row> {
    let Ok(netfilter) = &agents.netfilter else { return Vec::new() };
    let one = |vip: &steppe_api::v1::VipState| {
        let service = vip.service.as_ref()?;
        let own = netfilter.service_ports.iter().filter(|port| port.vip == vip.vip);
        let mut row = row(service, &vip.vip, own.clone().map(|port| (port.port, port.protocol)).collect());
        if let Ok(proxy) = &agents.proxy {
            let own = proxy.listeners.iter().filter(|state| {
                state.listener.as_ref().is_some_and(|listener| listener.service.as_ref() == Some(service))
            });
            let endpoints = own.flat_map(|state| &state.endpoints).filter(|endpoint| !endpoint.draining);
            let mut usable: std::collections::BTreeMap<_, bool> = std::collections::BTreeMap::new();
            for endpoint in endpoints {
                let address = endpoint.address.as_ref().map(|address| (&address.ip, address.port));
                *usable.entry(address).or_default() |= endpoint.ejected_for_ms == 0;
            }
            row.all = Some(usable.len());
            row.up = Some(usable.values().filter(|usable| **usable).count());
        }
        let path = path_of(own.clone());
        row.path = path_text(path);
        if path == ServicePath::Kernel {
            let endpoints = own.flat_map(|port| &port.endpoints).map(|endpoint| &endpoint.address);
            let known =
                endpoints.flatten().map(|address| (&address.ip, address.port)).collect::<BTreeSet<_>>();
            (row.up, row.all) = (Some(known.len()), Some(known.len()));
        }
        row.grants = grants.map(|answer| {
            let own = answer.grants.iter().filter_map(|state| state.grant.as_ref());
            own.filter(|grant| grant.vip == vip.vip)
                .map(|grant| &grant.workload)
                .collect::<BTreeSet<_>>()
                .len() as u64
        });
        Some(row)
    };
    netfilter.vips.iter().filter_map(one).collect()
}

impl Services {
    pub(crate) fn render(&self, paint: Paint) -> String {
        let (connections, refused) = if self.rates { ("CONN/S", "REFUSED/S") } else { ("CONNS", "REFUSED") };
        let head = ["USER/SERVICE", "VIP", "PORTS", "PATH", "UP/ALL", "GRANTS", connections, refused];
        let mut table = Table::new(&head);
        for row in &self.services {
            table.row(row.cells());
        }
        let mut text = table.render(paint);
        for note in &self.notes {
            text.push_str(&format!("{} {}\n", paint.with(Style::Doubtful, "note:"), clean(note)));
        }
        text
    }
}

impl Row {
    fn cells(&self) -> Vec<Cell> {
        let (user, name, tag) = (self.user.clone(), self.service.clone(), self.tag.clone());
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let usable = match (self.up, self.all) {
            (Some(up), Some(all)) => format!("{up}/{all}"),
            _ => "-".to_owned(),
        };
        let usable = if self.up == Some(0) { Cell::styled(&usable, Style::Bad) } else { Cell::from(usable) };
        let dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        vec![
            Cell::from(key(&ServiceKey { user, name, tag })),
            Cell::from(dash(self.vip.clone())),
            Cell::from(dash(self.ports.join(","))),
            Cell::from(self.path),
            usable,
            Cell::from(number(self.grants)),
            Cell::from(number(self.numbers.connections)),
            Cell::from(number(self.numbers.refused)),
            Cell::styled(&self.problem, Style::Doubtful),
        ]
    }
}

#[cfg(test)]
mod tests;
