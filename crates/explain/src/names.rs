//! The name under which dns knows a service, as one workload asks for it.

use std::net::Ipv4Addr;

use steppe_api::v1::ServiceKey;
use steppe_model::{DnsName, resolv_conf::ZONE};

use crate::{Facts, case::Case, judge, recover};

/// What to ask dns so that it says what a program in the workload would be told: the workload's address, and the name. `None` where
/// an address was asked about, or where nobody is known to ask for.
pub(crate) fn question(facts: &Facts) -> Option<(String, String)> {
    if is_address(&facts.query.service) || facts.query.workload == judge::HOST {
        return None;
    }
    let recovered;
    let pair = match &facts.control {
        Ok(plan) => &plan.pair,
        Err(_) => {
            recovered = recover::pair(facts)?;
            &recovered
        }
    };
    let case = Case::new(facts, pair)?;
    Some((case.attachment()?.ip.clone(), of(case.service, &case.workload.user)?))
}

/// Whether what was asked about is an address, and no name is needed.
pub(crate) fn is_address(service: &str) -> bool {
    service.split_once(':').map_or(service, |(host, _)| host).trim().parse::<Ipv4Addr>().is_ok()
}

/// The name, without the zone, in the view of somebody of this user: `web`, `canary.web`, `pg.bob`. `None` when a part of it can be
/// in no name.
pub(crate) fn of(service: &ServiceKey, user: &str) -> Option<String> {
    let mut name = match service.tag.as_str() {
        "" => service.name.clone(),
        tag => format!("{tag}.{}", service.name),
    };
    if !service.user.is_empty() && service.user != user {
        name = format!("{name}.{}", service.user);
    }
    name.parse::<DnsName>().ok().map(|name| name.to_string())
}

/// The name as it can be asked for anywhere: only one without a dot is looked up in the zone as it is.
pub(crate) fn full(name: &str) -> String {
    if name.contains('.') { format!("{name}.{ZONE}") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_as_their_asker_has_them() {
        let name = |user: &str, name: &str, tag: &str| {
            of(&ServiceKey { user: user.into(), name: name.into(), tag: tag.into() }, "alice")
        };
        assert_eq!(name("alice", "web", "").as_deref(), Some("web"));
        assert_eq!(name("", "web", "Canary").as_deref(), Some("canary.web"));
        assert_eq!(name("Bob", "pg", "").as_deref(), Some("pg.bob"));
        assert_eq!(name("", "web", "a..b"), None);
        assert_eq!((full("web"), full("pg.bob")), ("web".into(), "pg.bob.steppe.internal".into()));
    }

    #[test]
    fn an_address_has_no_name() {
        assert!(is_address("247.1.2.3") && is_address("247.1.2.3:80/udp"));
        assert!(!is_address("web:80") && !is_address("web"));
    }
}
