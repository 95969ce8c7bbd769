//! The address that a workload asks dns from.

use std::net::Ipv4Addr;

use steppe_api::v1::{GetPairRequest, ListNetfilterWorkloadsRequest, WorkloadInfo};

use crate::{Away, Firewall, Query, Suite, judge, recover};

/// A workload as dns sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// What people call it.
    pub name: String,
    /// Where it asks from.
    pub ip: Ipv4Addr,
}

/// Why it is not known where a workload asks from.
#[derive(Debug, Clone, PartialEq)]
pub enum Unknown {
    /// It makes no sense to ask.
    Senseless(String),
    /// Nobody knows the workload, or an address of it.
    Nobody(String),
    /// Neither control nor the netfilter-agent answers.
    Away(Away),
}

/// Where a workload asks from: by control, or, when that is down, by the netfilter-agent. An address is taken as it is, whether
/// or not it is anybody's.
///
/// # Errors
/// [`Unknown`], with what to say.
pub async fn asker(suite: &Suite, workload: &str) -> Result<Asker, Unknown> {
    if let Ok(ip) = workload.parse() {
        return Ok(Asker { name: workload.to_owned(), ip });
    }
    if workload == judge::HOST {
        return Err(Unknown::Senseless("the host's own processes ask the host's resolvers, not dns".into()));
    }
    // Any service will do: what is asked is who the workload is.
    let question = GetPairRequest { workload: workload.to_owned(), service: "steppe".into() };
    let planned = async { tokio::try_join!(suite.pair(question), suite.ready_control()) };
    let found = match planned.await {
        Ok((pair, _)) => pair.workload.ok_or(pair.workload_problem),
        Err(away) => {
            let bound = suite.bound_workloads(ListNetfilterWorkloadsRequest {}).await;
            let bound = bound.map_err(|_| Unknown::Away(away))?;
            let firewall = Firewall { workloads: bound.workloads, ..Firewall::default() };
            recover::workload(&Query { workload: workload.to_owned(), service: String::new() }, &firewall)
        }
    };
    let found = found.map_err(Unknown::Nobody)?;
    address(&found).map(|ip| Asker { name: found.name.clone(), ip }).ok_or_else(|| {
        Unknown::Nobody(format!("{} has no address of its own: it asks the host's resolvers", found.name))
    })
}

/// The address that is in force, if one is, else the first.
fn address(workload: &WorkloadInfo) -> Option<Ipv4Addr> {
    let in_force = workload.attachments.iter().filter(|attachment| attachment.in_force);
    in_force.chain(&workload.attachments).find_map(|attachment| attachment.ip.parse().ok())
}

#[cfg(test)]
mod tests {
    use steppe_api::v1::Attachment;

    use super::*;

    #[test]
    fn the_address_in_force_is_the_one() {
        let attachment = |ip: &str, in_force| Attachment { ip: ip.into(), in_force, ..Attachment::default() };
        let workload = |attachments| WorkloadInfo { attachments, ..WorkloadInfo::default() };
        let two = workload(vec![attachment("10.0.0.1", false), attachment("10.0.0.2", true)]);
        assert_eq!(address(&two), Some(Ipv4Addr::new(10, 0, 0, 2)));
        assert_eq!(address(&workload(vec![attachment("10.0.0.1", false)])), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(address(&workload(vec![])), None);
    }
}
