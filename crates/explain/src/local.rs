//! This host's own addresses, as the kernel says them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// All of them, loopback included; those that can't be read are missing.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let v4 = v4(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    v4.chain(v6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6)).collect()
}

/// /proc/net/fib_trie: an address on a line, and below it `/32 host LOCAL` for one of this host's.
fn v4(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    // Each is in the table `local` and, seen from above, in the one of `main`.
    found.sort_unstable();
    found.dedup();
    found
}

/// /proc/net/if_inet6: 32 hexadecimal digits, then what it is of.
fn v6(text: &str) -> Vec<Ipv6Addr> {
    let digits = |line: &str| u128::from_str_radix(line.split_whitespace().next()?, 16).ok();
    text.lines().filter_map(digits).map(Ipv6Addr::from_bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let text = "Main:\n  +-- 0.0.0.0/0 3 0 4\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                    Local:\n     |-- 10.77.0.0\n        /24 link UNICAST\n     |-- 10.77.0.11\n        /32 host LOCAL\n     \
                    |-- 127.0.0.1\n        /32 host LOCAL\n     |-- 10.77.0.255\n        /32 link BROADCAST\n";
        assert_eq!(v4(text), [Ipv4Addr::new(10, 77, 0, 11), Ipv4Addr::LOCALHOST]);
        let text = "00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000 02\nx\n";
        assert_eq!(v6(text)[0], Ipv6Addr::LOCALHOST);
    }
}
