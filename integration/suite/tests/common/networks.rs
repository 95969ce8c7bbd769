//! Users' networks.

use std::net::Ipv4Addr;

use serde_json::Value;
use steppe_testbed::{Host, Run, eventually};

use super::SOON;

/// With a user's label.
pub fn of_user(run: Run, user: &str) -> Run {
    run.label("steppe.user", user)
}

/// On a user's network.
pub fn on(user: &str, run: Run) -> Run {
    of_user(run, user).network(&format!("steppe-{user}"))
}

/// Starts Steppe with more arguments for control, and waits until the networks of alice and bob are there.
pub fn start(host: &Host, control: &[&str]) {
    for argument in control.iter().chain(&["--users=alice", "--users=bob"]) {
        host.suite.control.arg(*argument);
    }
    host.suite.start();
    for user in ["alice", "bob"] {
        eventually(SOON, &format!("{user} has a network"), || gateway(host, user));
    }
}

/// The host's own address on a user's network.
pub fn gateway(host: &Host, user: &str) -> Result<Ipv4Addr, String> {
    let networks = host.docker.call("GET", "/networks", &Value::Null);
    let mut all = networks.as_array().into_iter().flatten();
    let found = all.find(|network| network["Name"] == format!("steppe-{user}"));
    let gateway = found.and_then(|network| network["IPAM"]["Config"][0]["Gateway"].as_str()?.parse().ok());
    gateway.ok_or_else(|| networks.to_string())
}
