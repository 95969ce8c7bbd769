//! Networks, and what dns is told.

use steppe_model::{AskedName, Asker, DnsName, Member, Network, VirtualPort, parse_block};

use super::{
    super::{FieldError, ipv4, missing, text, virtual_port},
    bridge, optional, or_empty, shown_name,
};
use crate::v1;

/// Most names of an asker, and of a member, and most ports of a name, that are taken.
const NAMES: usize = 4_096;

impl TryFrom<v1::Network> for Network {
    type Error = FieldError;

    fn try_from(wire: v1::Network) -> Result<Self, FieldError> {
        let subnet = parse_block(&wire.subnet).map_err(|error| FieldError::new("subnet", error))?;
        let gateway = ipv4("gateway", &wire.gateway)?;
        if !subnet.contains(&gateway) {
            return Err(FieldError::new("gateway", "is not in the subnet"));
        }
        Ok(Self { user: text("user", &wire.user)?, bridge: bridge(wire.bridge)?, subnet, gateway })
    }
}

impl From<&Network> for v1::Network {
    fn from(network: &Network) -> Self {
        Self {
            user: network.user.to_string(),
            bridge: network.bridge.to_string(),
            subnet: network.subnet.to_string(),
            gateway: network.gateway.to_string(),
        }
    }
}

fn bounded<T>(field: &str, list: &[T]) -> Result<(), FieldError> {
    if list.len() <= NAMES {
        Ok(())
    } else {
        Err(FieldError::new(field, format!("{NAMES} at most are expected")))
    }
}

impl TryFrom<v1::Asker> for Asker {
    type Error = FieldError;

    fn try_from(wire: v1::Asker) -> Result<Self, FieldError> {
        bounded("names", &wire.names)?;
        let name = |(i, wire): (usize, v1::AskedName)| {
            AskedName::try_from(wire).map_err(|e| e.within(&format!("names[{i}]")))
        };
        let names = wire.names.into_iter().enumerate().map(name).collect::<Result<Vec<_>, _>>()?;
        if !names.is_sorted_by(|a, b| a.name < b.name) {
            return Err(FieldError::new("names", "are expected in their order, each once"));
        }
        Ok(Self {
            ip: ipv4("ip", &wire.ip)?,
            workload: shown_name(&wire.workload),
            user: optional("user", &wire.user)?,
            network: optional("network", &wire.network)?,
            names,
        })
    }
}

impl From<&Asker> for v1::Asker {
    fn from(asker: &Asker) -> Self {
        Self {
            ip: asker.ip.to_string(),
            workload: asker.workload.to_string(),
            user: or_empty(asker.user.as_ref()),
            network: or_empty(asker.network.as_ref()),
            names: asker.names.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::AskedName> for AskedName {
    type Error = FieldError;

    fn try_from(wire: v1::AskedName) -> Result<Self, FieldError> {
        bounded("ports", &wire.ports)?;
        let port = |(i, wire): (usize, v1::NamedPort)| {
            let port =
                virtual_port(wire.protocol, wire.port).map_err(|e| e.within(&format!("ports[{i}]")))?;
            if port == VirtualPort::ANY { Err(missing(&format!("ports[{i}].port"))) } else { Ok(port) }
        };
        Ok(Self {
            name: text("name", &wire.name)?,
            vip: ipv4("vip", &wire.vip)?,
            ports: wire.ports.into_iter().enumerate().map(port).collect::<Result<_, _>>()?,
        })
    }
}

impl From<&AskedName> for v1::AskedName {
    fn from(name: &AskedName) -> Self {
        let port = |port: &VirtualPort| v1::NamedPort {
            protocol: v1::Protocol::from(port.protocol).into(),
            port: port.number_or_zero().into(),
        };
        Self {
            name: name.name.to_string(),
            vip: name.vip.to_string(),
            ports: name.ports.iter().map(port).collect(),
        }
    }
}

impl TryFrom<v1::Member> for Member {
    type Error = FieldError;

    fn try_from(wire: v1::Member) -> Result<Self, FieldError> {
        bounded("names", &wire.names)?;
        let names = wire.names.iter().map(|name| text("names", name)).collect::<Result<Vec<DnsName>, _>>()?;
        Ok(Self { network: text("network", &wire.network)?, ip: ipv4("ip", &wire.ip)?, names })
    }
}

impl From<&Member> for v1::Member {
    fn from(member: &Member) -> Self {
        Self {
            network: member.network.to_string(),
            ip: member.ip.to_string(),
            names: member.names.iter().map(ToString::to_string).collect(),
        }
    }
}
