//! What `steppe` says of a host, for tests and measurements.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;
use steppe_testbed::{Host, eventually};

/// Far longer than anything may take that works.
pub const SOON: Duration = Duration::from_secs(10);

/// What `steppe services` knows of a service, as soon as it has a virtual IP.
///
/// # Panics
/// When it has none in time.
#[track_caller]
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
///
/// # Panics
/// As [`service`].
#[track_caller]
pub fn vip(host: &Host, name: &str, port: u16) -> SocketAddr {
    let service = service(host, name);
    let vip: Ipv4Addr = service["vip"].as_str().and_then(|vip| vip.parse().ok()).expect("a virtual IP");
    (vip, port).into()
}
