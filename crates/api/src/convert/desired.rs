//! Resources on the wire.

mod door;
mod network;

use std::{net::SocketAddrV4, sync::Arc};

use steppe_model::{
    Client, Endpoint, Grant, Listener, ListenerKey, Resource, ResourceId, Route, ServiceKey, ServicePort,
    Takeover, VirtualIp, VirtualPort, Workload, WorkloadId,
};

use super::{FieldError, ipv4, missing, port, text, virtual_port};
use crate::v1::{self, resource::Kind};

/// Longest id that is taken: hostile input must not fill the memory.
const ID_BYTES: usize = 512;
/// Longest name of a network interface, without the closing NUL (`IFNAMSIZ`, linux/if.h).
const IFNAME_BYTES: usize = 15;
/// Longest name of a workload that is kept.
const NAME_BYTES: usize = 64;

impl TryFrom<v1::Resource> for Resource {
    type Error = FieldError;

    fn try_from(wire: v1::Resource) -> Result<Self, FieldError> {
        if wire.id.is_empty() || wire.id.len() > ID_BYTES {
            return Err(FieldError::new("id", format!("1 to {ID_BYTES} bytes are expected")));
        }
        let resource = match wire.kind.ok_or_else(|| missing("kind"))? {
            Kind::Listener(wire) => Self::Listener(wire.try_into().map_err(within("listener"))?),
            Kind::Client(wire) => Self::Client(wire.try_into().map_err(within("client"))?),
            Kind::Workload(inner) => Self::Workload(workload(&wire.id, inner).map_err(within("workload"))?),
            Kind::VirtualIp(wire) => Self::VirtualIp(wire.try_into().map_err(within("virtual_ip"))?),
            Kind::ServicePort(wire) => Self::ServicePort(wire.try_into().map_err(within("service_port"))?),
            Kind::Grant(wire) => Self::Grant(wire.try_into().map_err(within("grant"))?),
            Kind::Takeover(v1::Takeover {}) => Self::Takeover(Takeover),
            Kind::Network(wire) => Self::Network(wire.try_into().map_err(within("network"))?),
            Kind::PublishedPort(wire) => {
                Self::PublishedPort(wire.try_into().map_err(within("published_port"))?)
            }
            Kind::Doors(wire) => Self::Doors(wire.try_into().map_err(within("doors"))?),
            Kind::Asker(wire) => Self::Asker(wire.try_into().map_err(within("asker"))?),
            Kind::Member(wire) => Self::Member(wire.try_into().map_err(within("member"))?),
        };
        let id = resource.id();
        if id.as_str() != wire.id {
            return Err(FieldError::new("id", format!("is `{:.100}` but the content says `{id}`", wire.id)));
        }
        Ok(resource)
    }
}

impl From<&Resource> for v1::Resource {
    fn from(resource: &Resource) -> Self {
        let kind = match resource {
            Resource::Listener(listener) => Kind::Listener(listener.into()),
            Resource::Client(client) => Kind::Client(client.into()),
            Resource::Workload(workload) => Kind::Workload(workload.into()),
            Resource::VirtualIp(vip) => Kind::VirtualIp(vip.into()),
            Resource::ServicePort(port) => Kind::ServicePort(port.into()),
            Resource::Grant(grant) => Kind::Grant(grant.into()),
            Resource::Takeover(Takeover) => Kind::Takeover(v1::Takeover {}),
            Resource::Network(network) => Kind::Network(network.into()),
            Resource::PublishedPort(published) => Kind::PublishedPort(published.into()),
            Resource::Doors(doors) => Kind::Doors(doors.into()),
            Resource::Asker(asker) => Kind::Asker(asker.into()),
            Resource::Member(member) => Kind::Member(member.into()),
        };
        Self { id: resource.id().to_string(), kind: Some(kind) }
    }
}

fn within(outer: &'static str) -> impl Fn(FieldError) -> FieldError {
    move |error| error.within(outer)
}

fn service_key(wire: Option<v1::ServiceKey>) -> Result<ServiceKey, FieldError> {
    wire.ok_or_else(|| missing("service"))?.try_into().map_err(within("service"))
}

fn socket_address(field: &'static str, wire: Option<v1::SocketAddress>) -> Result<SocketAddrV4, FieldError> {
    wire.ok_or_else(|| missing(field))?.try_into().map_err(within(field))
}

fn endpoints(wire: Vec<v1::Endpoint>) -> Result<Vec<Endpoint>, FieldError> {
    wire.into_iter()
        .enumerate()
        .map(|(i, endpoint)| {
            endpoint.try_into().map_err(|e: FieldError| e.within(&format!("endpoints[{i}]")))
        })
        .collect()
}

impl TryFrom<v1::Listener> for Listener {
    type Error = FieldError;

    fn try_from(wire: v1::Listener) -> Result<Self, FieldError> {
        let port = virtual_port(wire.protocol, wire.port)?;
        if port.number.is_some() && !wire.routes.is_empty() {
            return Err(FieldError::new("routes", "only a listener for every port (port 0) has routes"));
        }
        let route = |(i, wire): (usize, v1::Route)| -> Result<Route, FieldError> {
            wire.try_into().map_err(|e: FieldError| e.within(&format!("routes[{i}]")))
        };
        Ok(Self {
            key: ListenerKey { service: service_key(wire.service)?, port },
            address: socket_address("address", wire.address)?,
            endpoints: endpoints(wire.endpoints)?,
            routes: wire.routes.into_iter().enumerate().map(route).collect::<Result<_, _>>()?,
            proxy_protocol: wire.proxy_protocol,
        })
    }
}

impl From<&Listener> for v1::Listener {
    fn from(listener: &Listener) -> Self {
        let VirtualPort { protocol, .. } = listener.key.port;
        Self {
            service: Some((&listener.key.service).into()),
            protocol: v1::Protocol::from(protocol).into(),
            port: listener.key.port.number_or_zero().into(),
            address: Some(listener.address.into()),
            endpoints: listener.endpoints.iter().map(Into::into).collect(),
            routes: listener.routes.iter().map(Into::into).collect(),
            proxy_protocol: listener.proxy_protocol,
        }
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = FieldError;

    fn try_from(wire: v1::Route) -> Result<Self, FieldError> {
        Ok(Self { port: port("port", wire.port)?, endpoints: endpoints(wire.endpoints)? })
    }
}

impl From<&Route> for v1::Route {
    fn from(route: &Route) -> Self {
        Self { port: route.port.into(), endpoints: route.endpoints.iter().map(Into::into).collect() }
    }
}

impl TryFrom<v1::Endpoint> for Endpoint {
    type Error = FieldError;

    fn try_from(wire: v1::Endpoint) -> Result<Self, FieldError> {
        let weight = u8::try_from(wire.weight).ok().filter(|weight| (1..=100).contains(weight));
        Ok(Self {
            address: socket_address("address", wire.address)?,
            weight: weight.ok_or_else(|| FieldError::new("weight", "1 to 100 is expected"))?,
            node: wire.node.into(),
        })
    }
}

impl From<&Endpoint> for v1::Endpoint {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: Some(endpoint.address.into()),
            weight: endpoint.weight.into(),
            node: endpoint.node.to_string(),
        }
    }
}

impl TryFrom<v1::Client> for Client {
    type Error = FieldError;

    fn try_from(wire: v1::Client) -> Result<Self, FieldError> {
        Ok(Self { listener: ResourceId::new(&wire.listener), ip: ipv4("ip", &wire.ip)? })
    }
}

impl From<&Client> for v1::Client {
    fn from(client: &Client) -> Self {
        Self { listener: client.listener.to_string(), ip: client.ip.to_string() }
    }
}

fn bridge(name: String) -> Result<Arc<str>, FieldError> {
    if name.is_empty() || name.len() > IFNAME_BYTES {
        return Err(FieldError::new("bridge", format!("1 to {IFNAME_BYTES} bytes are expected")));
    }
    Ok(name.into())
}

fn shown_name(name: &str) -> Arc<str> {
    name[..name.floor_char_boundary(NAME_BYTES)].into()
}

/// A text field that may be empty.
fn optional<T>(field: &str, value: &str) -> Result<Option<T>, FieldError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    if value.is_empty() { Ok(None) } else { text(field, value).map(Some) }
}

fn or_empty(value: Option<&impl ToString>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

fn workload(id: &str, wire: v1::Workload) -> Result<Workload, FieldError> {
    let bridge = bridge(wire.bridge)?;
    if wire.port_ifindex == 0 {
        return Err(FieldError::new("port_ifindex", "0 is no interface index"));
    }
    Ok(Workload {
        id: WorkloadId::new(id),
        ip: ipv4("ip", &wire.ip)?,
        mac: text("mac", &wire.mac)?,
        bridge,
        port_ifindex: wire.port_ifindex,
        name: shown_name(&wire.name),
        user: optional("user", &wire.user)?,
        guarded: wire.guarded,
    })
}

impl From<&Workload> for v1::Workload {
    fn from(workload: &Workload) -> Self {
        Self {
            ip: workload.ip.to_string(),
            mac: workload.mac.to_string(),
            bridge: workload.bridge.to_string(),
            port_ifindex: workload.port_ifindex,
            name: workload.name.to_string(),
            user: or_empty(workload.user.as_ref()),
            guarded: workload.guarded,
        }
    }
}

impl TryFrom<v1::VirtualIp> for VirtualIp {
    type Error = FieldError;

    fn try_from(wire: v1::VirtualIp) -> Result<Self, FieldError> {
        Ok(Self { service: service_key(wire.service)?, vip: ipv4("vip", &wire.vip)? })
    }
}

impl From<&VirtualIp> for v1::VirtualIp {
    fn from(virtual_ip: &VirtualIp) -> Self {
        Self { service: Some((&virtual_ip.service).into()), vip: virtual_ip.vip.to_string() }
    }
}

impl TryFrom<v1::ServicePort> for ServicePort {
    type Error = FieldError;

    fn try_from(wire: v1::ServicePort) -> Result<Self, FieldError> {
        Ok(Self {
            service: service_key(wire.service)?,
            vip: ipv4("vip", &wire.vip)?,
            port: virtual_port(wire.protocol, wire.port)?,
            listener: match wire.listener {
                Some(listener) => Some(listener.try_into().map_err(within("listener"))?),
                None => None,
            },
            endpoints: endpoints(wire.endpoints)?,
        })
    }
}

impl From<&ServicePort> for v1::ServicePort {
    fn from(port: &ServicePort) -> Self {
        Self {
            service: Some((&port.service).into()),
            vip: port.vip.to_string(),
            protocol: v1::Protocol::from(port.port.protocol).into(),
            port: port.port.number_or_zero().into(),
            listener: port.listener.map(Into::into),
            endpoints: port.endpoints.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Grant> for Grant {
    type Error = FieldError;

    fn try_from(wire: v1::Grant) -> Result<Self, FieldError> {
        Ok(Self {
            workload: WorkloadId::new(&wire.workload),
            vip: ipv4("vip", &wire.vip)?,
            port: virtual_port(wire.protocol, wire.port)?,
        })
    }
}

impl From<&Grant> for v1::Grant {
    fn from(grant: &Grant) -> Self {
        Self {
            workload: grant.workload.to_string(),
            vip: grant.vip.to_string(),
            protocol: v1::Protocol::from(grant.port.protocol).into(),
            port: grant.port.number_or_zero().into(),
        }
    }
}
