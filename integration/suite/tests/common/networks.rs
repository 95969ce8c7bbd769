//! Users' networks.

use std::net::Ipv4Addr;

use serde_json::Value;
use steppe_testbed::{
    Host, Run, eventually,
    frame::{Mac, parse_mac},
};

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

/// The bridge that has this address.
pub fn bridge(host: &Host, gateway: Ipv4Addr) -> String {
    host.sh(&format!("ip -o -4 addr show to {gateway}/32 | cut -d' ' -f2")).ok().trim().to_owned()
}

/// Its hardware address.
pub fn hardware(host: &Host, gateway: Ipv4Addr) -> Mac {
    let address = host.sh(&format!("cat /sys/class/net/{}/address", bridge(host, gateway))).ok();
    parse_mac(&address).expect("the kernel tells it")
}
