//! What the tests of Steppe share.

pub mod held;
pub mod reach;
pub mod stage;
pub mod world;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use steppe_testbed::{Container, Host, Run, Service, eventually};

/// Far longer than anything may take that works.
pub const SOON: Duration = Duration::from_secs(10);

/// What `steppe services` knows of a service, as soon as it has a virtual IP.
pub fn service(host: &Host, name: &str) -> Value {
    eventually(SOON, &format!("{name} is a service of {}", host.name), || {
        let listed: Value = serde_json::from_str(&host.steppe(&["services", "--json"]).stdout)
            .map_err(|error| error.to_string())?;
        let services = listed["services"].as_array().cloned().unwrap_or_default();
        let found = services.into_iter().find(|service| service["service"] == name);
        found.ok_or_else(|| listed.to_string())
    })
}

/// A service's virtual IP on a host, with a port.
pub fn vip(host: &Host, name: &str, port: u16) -> SocketAddr {
    let service = service(host, name);
    let vip: Ipv4Addr = service["vip"].as_str().and_then(|vip| vip.parse().ok()).expect("a virtual IP");
    (vip, port).into()
}

/// A web server in a container, registered in Consul with its published port and a check.
pub fn provide(host: &Host, service: &str, instance: &str) -> Container {
    let container = host.docker.run(Run::serve(instance, 80).publish(80));
    let port = container.published(80);
    let at = SocketAddr::from((host.address, port));
    host.consul.register(&Service::new(service).id(instance).at(host.address, port).tcp_check(at));
    container
}

/// A container whose Consul service has a tag.
pub fn consume(host: &Host, name: &str, connect_to: &str) -> Container {
    let container = host.docker.run(Run::idle(name));
    let tag = format!("connect_to={connect_to}");
    host.consul.register(&Service::new(name).at(container.address(), 1).tag(&tag));
    container
}
