//! What the tests of Steppe share.

pub mod held;
pub mod load;
pub mod networks;
pub mod programs;
pub mod reach;
pub mod stage;
pub mod world;

use std::net::SocketAddr;

pub use steppe_integration::ask::{SOON, vip};
use steppe_testbed::{Container, Host, Run, Service};

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
