//! Who reaches what, and who serves it.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
};

use serde_json::Value;
use steppe_testbed::{Container, Host, Outcome, eventually};

use super::SOON;

/// The virtual IP of a user's service, with a port; nobody's when `user` is empty.
pub fn vip_of(host: &Host, user: &str, name: &str, port: u16) -> SocketAddr {
    eventually(SOON, &format!("{user}/{name} has a virtual IP on {}", host.name), || {
        let listed = host.steppe(&["services", "--json"]).stdout;
        let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
        let services = listed["services"].as_array().cloned().unwrap_or_default();
        let found = services.iter().find(|service| service["user"] == user && service["service"] == name);
        let vip = found.and_then(|service| service["vip"].as_str()?.parse::<Ipv4Addr>().ok());
        vip.map(|vip| (vip, port).into()).ok_or_else(|| listed.to_string())
    })
}

/// Waits until a container reaches an address, and returns the name of the server.
#[track_caller]
pub fn reaches(from: &Container, to: SocketAddr) -> String {
    eventually(SOON, &format!("{} reaches {to}", from.name), || match from.connect(to).outcome {
        Outcome::Ok(name) => Ok(name),
        other => Err(other),
    })
}

/// A container is refused, with a reset.
#[track_caller]
pub fn refused(from: &Container, to: SocketAddr) {
    assert_eq!(from.connect(to).outcome, Outcome::Refused, "{} -> {to}", from.name);
}

/// Waits until a container is served by so many servers in turn, then counts who serves how many connections.
#[track_caller]
pub fn served(from: &Container, to: SocketAddr, servers: usize, connections: usize) -> BTreeMap<String, u32> {
    let count = |connections| {
        let mut counts = BTreeMap::new();
        for _ in 0..connections {
            match from.connect(to).outcome {
                Outcome::Ok(name) => *counts.entry(name).or_default() += 1,
                other => return Err(format!("{other}, after {counts:?}")),
            }
        }
        Ok(counts)
    };
    eventually(SOON, &format!("{servers} servers at {to}"), || match count(connections) {
        Ok(counts) if counts.len() == servers => Ok(()),
        Ok(counts) => Err(format!("{counts:?}")),
        Err(failed) => Err(failed),
    });
    count(connections).unwrap_or_else(|failed| panic!("{} -> {to}: {failed}", from.name))
}
