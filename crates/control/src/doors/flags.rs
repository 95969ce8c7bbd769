//! The flags about doors.

use std::{fs, ops::RangeInclusive};

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use steppe_model::{DoorMode, DoorName};

use crate::config::parse_ports;

/// Whose containers are behind the doors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Guard {
    /// Those that have something to do with Steppe.
    Workloads,
    /// All.
    All,
}

/// How doors are kept, and for whom they open.
#[derive(Debug, Clone, Args)]
pub struct DoorFlags {
    /// How a door is kept; may be given more than once. Doors: spoofing, networks, dns (enforce unless said otherwise), published,
    /// leaving (audit). Modes: enforce (refuse and count), audit (count what would be refused), off
    #[arg(
        long,
        env = "STEPPE_DOOR",
        value_delimiter = ',',
        value_parser = parse_door,
        value_name = "NAME=MODE"
    )]
    pub door: Vec<(DoorName, DoorMode)>,

    /// Hosts that may dial published ports here: those that run Steppe; may be given more than once. Default: the subnet of this
    /// host's own address, on the interface of its default route
    #[arg(
        long,
        env = "STEPPE_PEER_CIDR",
        value_delimiter = ',',
        value_parser = parse_peers,
        value_name = "CIDR"
    )]
    pub peer_cidr: Vec<IpNet>,

    /// Local users whose processes may dial published ports, here and on peers, besides root and the proxy; may be given more than once.
    /// Default: whom Consul and Nomad run as, where they listen on this host
    #[arg(
        long,
        env = "STEPPE_LOCAL_ALLOW",
        value_delimiter = ',',
        value_parser = parse_user,
        value_name = "UID|NAME"
    )]
    pub local_allow: Vec<u32>,

    /// Ports that the hosts publish; the default are Nomad's dynamic ports
    #[arg(
        long,
        env = "STEPPE_PUBLISHED_PORTS",
        default_value = "20000-32000",
        value_parser = parse_ports,
        value_name = "FIRST-LAST"
    )]
    pub published_ports: RangeInclusive<u16>,

    /// Whose containers are behind the doors: those that have something to do with Steppe, or all
    #[arg(
        long,
        env = "STEPPE_GUARD",
        value_enum,
        default_value = "workloads",
        value_name = "WORKLOADS|ALL",
        hide_possible_values = true
    )]
    pub guard: Guard,
}

fn parse_door(text: &str) -> Result<(DoorName, DoorMode), String> {
    let (name, mode) = text.split_once('=').ok_or("write NAME=MODE, such as published=enforce")?;
    let name = name.parse().map_err(|error| format!("{name}: {error}"))?;
    Ok((name, mode.parse().map_err(|error| format!("{mode}: {error}"))?))
}

fn parse_peers(text: &str) -> Result<IpNet, String> {
    let block: IpNet = text.parse().map_err(|_| "write a block of addresses, such as 10.0.0.0/24")?;
    match block.trunc() {
        first if first == block => Ok(block),
        first => Err(format!("the address has bits behind the prefix: write {first}")),
    }
}

fn parse_user(text: &str) -> Result<u32, String> {
    if let Ok(uid) = text.parse() {
        return Ok(uid);
    }
    let users =
        fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}; write a uid"))?;
    uid_of(text, &users)
        .ok_or_else(|| "no such user in /etc/passwd, as control sees it: write a uid".to_owned())
}

/// passwd(5): name, password, uid, …
fn uid_of(name: &str, users: &str) -> Option<u32> {
    let mut found =
        users.lines().map(|line| line.split(':')).filter(|fields| fields.clone().next() == Some(name));
    found.find_map(|mut fields| fields.nth(2)?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_have_names_and_modes() {
        assert_eq!(parse_door("leaving=enforce"), Ok((DoorName::Leaving, DoorMode::Enforce)));
        for (text, says) in [
            ("leaving", "NAME=MODE"),
            ("window=off", "spoofing"),
            ("leaving=ajar", "audit"),
            ("", "NAME=MODE"),
        ] {
            let message = parse_door(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }

    #[test]
    fn peers_are_blocks() {
        assert_eq!(parse_peers("10.0.0.0/24").unwrap().to_string(), "10.0.0.0/24");
        assert_eq!(parse_peers("fd00::/64").unwrap().to_string(), "fd00::/64");
        assert!(parse_peers("10.0.0.1/24").unwrap_err().contains("10.0.0.0/24"));
        assert!(parse_peers("10.0.0.1").unwrap_err().contains("10.0.0.0/24"));
    }

    #[test]
    fn users_are_found_by_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nconsul:x:997:996::/:/bin/false\nbad:x\n";
        assert_eq!(uid_of("consul", users), Some(997));
        assert_eq!(uid_of("bad", users), None);
        assert_eq!(uid_of("cons", users), None);
        assert_eq!(parse_user("42"), Ok(42));
        assert_eq!(parse_user("root"), Ok(0));
        assert!(parse_user("no such user").unwrap_err().contains("uid"));
    }
}
