//! From the ids that this agent's resources have back to what they name, so that no table of ids need be kept.

use std::net::Ipv4Addr;

use steppe_model::{Protocol, ResourceId, UserName, VirtualPort};

/// What an id names, if it is one of ours.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// A grant: its workload's id, the virtual IP and the port.
    Grant(&'a str, Ipv4Addr, VirtualPort),
    /// A virtual IP.
    VirtualIp(Ipv4Addr),
    /// A port of a service.
    ServicePort(Ipv4Addr, VirtualPort),
    /// That the kernel has taken over.
    Takeover,
    /// A user's network.
    Network(UserName),
    /// A published port.
    Published(Protocol, u16),
    /// How the doors are kept.
    Doors,
    /// Anything else can only be a workload.
    Workload(&'a str),
}

/// As `Takeover::id` writes it. No workload is called so: control puts the bridge's name behind an `@`.
const TAKEOVER: &str = "takeover";
/// As `Doors::id` writes it.
const DOORS: &str = "doors";
/// What `Network::id` and `PublishedPort::id` begin with. No workload's id has a blank.
const NETWORK: &str = "network ";
const PUBLISHED: &str = "published ";

/// Reads `WORKLOAD > VIP:PORT/PROTOCOL`, `VIP:PORT/PROTOCOL`, `VIP` or `WORKLOAD`, as `Grant::id`, `ServicePort::id`,
/// `VirtualIp::id` and `WorkloadId` write them.
pub(super) fn read(id: &ResourceId) -> Named<'_> {
    let text = id.as_str();
    if text == TAKEOVER {
        return Named::Takeover;
    }
    if text == DOORS {
        return Named::Doors;
    }
    if let Some(user) = text.strip_prefix(NETWORK).and_then(|user| user.parse().ok()) {
        return Named::Network(user);
    }
    if let Some((protocol, number)) = text.strip_prefix(PUBLISHED).and_then(port) {
        return Named::Published(protocol, number);
    }
    if let Some((workload, rest)) = text.rsplit_once(" > ")
        && let Some((vip, port)) = address(rest)
    {
        return Named::Grant(workload, vip, port);
    }
    match (address(text), text.parse()) {
        (Some((vip, port)), _) => Named::ServicePort(vip, port),
        (None, Ok(vip)) => Named::VirtualIp(vip),
        (None, Err(_)) => Named::Workload(text),
    }
}

fn address(text: &str) -> Option<(Ipv4Addr, VirtualPort)> {
    let (vip, port) = text.split_once(':')?;
    let (number, protocol) = port.split_once('/')?;
    let protocol = protocol_of(protocol)?;
    let number = if number == "*" { 0 } else { number.parse().ok().filter(|number| *number != 0)? };
    Some((vip.parse().ok()?, VirtualPort::new(protocol, number)))
}

fn port(text: &str) -> Option<(Protocol, u16)> {
    let (number, protocol) = text.split_once('/')?;
    Some((protocol_of(protocol)?, number.parse().ok()?))
}

fn protocol_of(text: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| protocol.to_string() == text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use steppe_model::{Grant, ServicePort, VirtualIp, WorkloadId};

    use super::*;

    proptest! {
        #[test]
        fn ids_are_read_as_they_are_written(
            workload in "[a-z0-9 >:@]{1,20}", vip: u32, tcp: bool, number: u16,
        ) {
            let number = if tcp { number } else { number.max(1) };
            let port = VirtualPort::new(if tcp { Protocol::Tcp } else { Protocol::Udp }, number);
            let vip = Ipv4Addr::from_bits(vip);
            let grant = Grant { workload: WorkloadId::new(&workload), vip, port };
            let id = grant.id();
            prop_assert_eq!(read(&id), Named::Grant(&workload, vip, port));
            let service = steppe_model::ServiceKey { user: None, name: "web".parse().unwrap(), tag: None };
            let port_of = ServicePort { service, vip, port, listener: None, endpoints: Vec::new() };
            let id = port_of.id();
            prop_assert_eq!(read(&id), Named::ServicePort(vip, port));
            let id = VirtualIp { service: port_of.service, vip }.id();
            prop_assert_eq!(read(&id), Named::VirtualIp(vip));
        }
    }

    #[test]
    fn the_rest_are_workloads() {
        let id = ResourceId::new("3f2a19c0@docker0");
        assert_eq!(read(&id), Named::Workload("3f2a19c0@docker0"));
        let id = steppe_model::Takeover.id();
        assert_eq!(read(&id), Named::Takeover);
        assert_eq!(read(&ResourceId::new("doors")), Named::Doors);
        assert_eq!(read(&ResourceId::new("network alice")), Named::Network("alice".parse().unwrap()));
        let id = ResourceId::new("published 24011/udp");
        assert_eq!(read(&id), Named::Published(Protocol::Udp, 24_011));
    }
}
