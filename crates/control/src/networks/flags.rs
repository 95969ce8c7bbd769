//! The flags about users' networks.

use std::{net::Ipv4Addr, time::Duration};

use clap::Args;
use ipnet::Ipv4Net;
use steppe_model::{UserName, parse_block};

use super::subnet::PREFIX_LEN;

/// Which networks there are, and where their addresses are from.
#[derive(Debug, Clone, Args)]
pub struct NetworkFlags {
    /// Block that users' networks take their addresses from, a /24 each; the same on every host
    #[arg(long, env = "STEPPE_USER_CIDR", default_value = "10.208.0.0/12", value_parser = parse_user_cidr, value_name = "CIDR")]
    pub user_cidr: Ipv4Net,

    /// Users whose networks are always there, besides Nomad's namespaces; may be given more than once
    #[arg(long, env = "STEPPE_USERS", value_delimiter = ',', value_name = "USER")]
    pub users: Vec<UserName>,

    /// How long a network that nobody needs and nothing is attached to is kept
    #[arg(long, env = "STEPPE_NETWORK_IDLE", default_value = "1h", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub network_idle: Duration,
}

fn parse_user_cidr(text: &str) -> Result<Ipv4Net, String> {
    let block = parse_block(text).map_err(|error| error.to_string())?;
    let (first, last) = (block.network(), block.broadcast());
    let reserved = |ip: Ipv4Addr| ip.is_loopback() || ip.octets()[0] == 0 || ip.octets()[0] >= 224;
    if block.prefix_len() > PREFIX_LEN {
        return Err(format!(
            "a user's network is a /{PREFIX_LEN}: write a larger block, such as 10.208.0.0/12"
        ));
    }
    // A block that holds a reserved one begins or ends in it, or is the half of all addresses that 127.0.0.0/8 is in.
    if reserved(first) || reserved(last) || block.contains(&Ipv4Addr::LOCALHOST) {
        return Err(
            "these addresses can't be containers': write a private block, such as 10.208.0.0/12".to_owned()
        );
    }
    Ok(block)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_has_room_for_a_network_and_no_reserved_addresses() {
        for text in ["10.208.0.0/12", "192.168.5.0/24", "172.16.0.0/12"] {
            assert_eq!(parse_user_cidr(text).unwrap().to_string(), text);
        }
        for (text, says) in [
            ("10.208.0.0/25", "/24"),
            ("10.208.0.1/12", "10.208.0.0"),
            ("247.0.0.0/8", "10.208.0.0/12"),
            ("127.0.0.0/8", "10.208.0.0/12"),
            ("64.0.0.0/2", "10.208.0.0/12"),
            ("0.0.0.0/0", "10.208.0.0/12"),
            ("10.208.0.0", "block"),
            ("fd00::/8", ""),
        ] {
            let message = parse_user_cidr(text).unwrap_err();
            assert!(message.contains(says), "{text}: {message}");
        }
    }
}
