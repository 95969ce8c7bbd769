//! `steppe workloads`.

use serde::Serialize;
use steppe_api::v1::{
    GrantInfo, ListGrantsRequest, ListGrantsResponse, ListNetfilterWorkloadsRequest,
    ListNetfilterWorkloadsResponse, ListServicePortsRequest, ListServicePortsResponse, ListWorkloadsRequest,
    WorkloadInfo,
};
use steppe_explain::{Away, Paint, Style, Suite, clean, key, port};

use crate::{
    status::NobodyAnswers,
    table::{Cell, Table},
};

/// How much of an id people need.
const SHORT_ID: usize = 12;

/// The workloads of this host.
#[derive(Debug, Serialize)]
pub(crate) struct Workloads {
    workloads: Vec<Row>,
    /// What could not be asked, and what to do about it.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    id: String,
    user: String,
    /// The user whose network it is on; empty for none, or when control is down.
    network: String,
    addresses: Vec<Address>,
    /// The services that it may name, as it names them; empty when control is down.
    names: Vec<String>,
    grants: Vec<String>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Address {
    ip: String,
    bridge: String,
    /// The bridge port; empty when none was found.
    port: String,
}

/// Asks control, else the netfilter-agent.
///
/// # Errors
/// When neither answers.
pub(crate) async fn gather(suite: &Suite) -> Result<Workloads, NobodyAnswers> {
    let control = async { tokio::try_join!(suite.workloads(ListWorkloadsRequest {}), suite.ready_control()) };
    let away = match control.await {
        Ok((answer, _)) => return Ok(Workloads::new(answer.workloads.into_iter().map(planned), Vec::new())),
        Err(away) => away,
    };
    let answers = tokio::try_join!(
        suite.bound_workloads(ListNetfilterWorkloadsRequest {}),
        suite.grants(ListGrantsRequest::default()),
        suite.service_ports(ListServicePortsRequest {}),
    );
    let Ok((workloads, grants, services)) = answers else { return Err(NobodyAnswers::from(away)) };
    Ok(Workloads::new(in_force(&workloads, &grants, &services).into_iter(), vec![note(&away)]))
}

fn note(away: &Away) -> String {
    format!("{away}: {}", away.fix())
}

/// A workload as control knows it.
fn planned(workload: WorkloadInfo) -> Row {
    let refused = |grant: &GrantInfo| !grant.problem.is_empty();
    let mut problems: Vec<String> =
        Some(workload.problem).into_iter().filter(|problem| !problem.is_empty()).collect();
    if !workload.not_attached.is_empty() {
        problems.push(format!("not on the network of {}: {}", workload.user, workload.not_attached));
    }
    let names = workload.names.as_ref().map_or("", |names| &names.resolver_problem);
    if !names.is_empty() {
        problems.push(format!("it does not ask dns: {names}"));
    }
    problems.extend(
        workload.grants.iter().filter(|grant| refused(grant)).map(|g| format!("`{}`: {}", g.text, g.problem)),
    );
    let addresses = workload.attachments.into_iter();
    Row {
        name: workload.name,
        id: workload.id,
        user: workload.user,
        network: workload.network,
        names: workload.names.into_iter().flat_map(|names| names.services).map(|name| name.name).collect(),
        addresses: addresses.map(|a| Address { ip: a.ip, bridge: a.bridge, port: a.port_name }).collect(),
        grants: workload.grants.into_iter().filter(|grant| !refused(grant)).map(|grant| grant.text).collect(),
        problems,
    }
}

/// The workloads that are in the kernel.
fn in_force(
    workloads: &ListNetfilterWorkloadsResponse,
    grants: &ListGrantsResponse,
    services: &ListServicePortsResponse,
) -> Vec<Row> {
    let text = |grant: &steppe_api::v1::Grant| {
        let service =
            services.vips.iter().find(|vip| vip.vip == grant.vip).and_then(|vip| vip.service.as_ref());
        let service = service.map_or_else(|| grant.vip.clone(), key);
        match grant.port {
            0 => service,
            number => format!("{service}:{}", port(grant.protocol, number)),
        }
    };
    let one = |state: &steppe_api::v1::WorkloadState| {
        let workload = state.workload.clone()?;
        let own = grants.grants.iter().filter_map(|state| state.grant.as_ref());
        Some(Row {
            name: workload.name,
            id: state.id.clone(),
            user: workload.user,
            network: String::new(),
            names: Vec::new(),
            addresses: vec![Address {
                ip: workload.ip,
                bridge: workload.bridge,
                port: state.port_name.clone(),
            }],
            grants: own.filter(|grant| grant.workload == state.id).map(text).collect(),
            problems: Vec::new(),
        })
    };
    workloads.workloads.iter().filter_map(one).collect()
}

impl Workloads {
    fn new(rows: impl Iterator<Item = Row>, notes: Vec<String>) -> Self {
        let mut workloads: Vec<Row> = rows.collect();
        workloads.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Self { workloads, notes }
    }

    pub(crate) fn render(&self, paint: Paint) -> String {
        let mut table = Table::new(&["NAME", "ID", "USER", "ADDRESS", "BRIDGE", "PORT", "GRANTS", "PROBLEM"]);
        for row in &self.workloads {
            let dash = |text: &str| Cell::from(if text.is_empty() { "-" } else { text });
            let short: String = row.id.chars().take(SHORT_ID).collect();
            let first = row.addresses.first();
            let of = |part: fn(&Address) -> &String| dash(first.map_or("", |address| part(address)));
            table.row(vec![
                dash(&row.name),
                dash(&short),
                dash(&row.user),
                of(|address| &address.ip),
                of(|address| &address.bridge),
                of(|address| &address.port),
                dash(&row.grants.join(",")),
                Cell::styled(&row.problems.join("; "), Style::Bad),
            ]);
            // Its further addresses stand below the first.
            for address in row.addresses.iter().skip(1) {
                let blank = || Cell::from("");
                table.row(vec![
                    blank(),
                    blank(),
                    blank(),
                    dash(&address.ip),
                    dash(&address.bridge),
                    dash(&address.port),
                ]);
            }
        }
        let mut text = table.render(paint);
        for note in &self.notes {
            text.push_str(&format!("{} {}\n", paint.with(Style::Doubtful, "note:"), clean(note)));
        }
        text
    }
}

#[cfg(test)]
mod tests;
