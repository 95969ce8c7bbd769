//! Files of the kernel and of others, read. Pure.

use std::{net::Ipv4Addr, ops::RangeInclusive};

use ipnet::Ipv4Net;

use crate::doctor::facts::Route;

/// `RTF_REJECT` (linux/route.h).
const REJECT: u32 = 0x200;

pub(super) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Two numbers; the kernel's default where there are none.
pub(super) fn range(text: &str) -> RangeInclusive<u16> {
    let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) => first..=last,
        _ => 32_768..=60_999,
    }
}

/// Whether a line `NAME=yes` is in a file of shell variables.
pub(super) fn says_yes(text: &str, name: &str) -> bool {
    text.lines()
        .filter_map(|line| line.trim().split_once('='))
        .any(|(key, value)| key == name && value.trim_matches(['"', '\'', ' ']).eq_ignore_ascii_case("yes"))
}

/// The module of a line of modules.builtin or modules.dep: `kernel/net/netfilter/nft_ct.ko.xz: …`.
pub(super) fn module(line: &str) -> Option<String> {
    let path = line.split(':').next()?;
    let file = path.rsplit('/').next()?;
    Some(file.split(".ko").next()?.replace('-', "_"))
}

/// /proc/net/route: device, destination, gateway, flags, …, mask at 7, all in hexadecimal, addresses in the host's order.
pub(super) fn routes(text: &str) -> Vec<Route> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hex = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok();
        let prefix = u8::try_from(hex(7)?.count_ones()).ok()?;
        let to = Ipv4Net::new(Ipv4Addr::from(hex(1)?.to_ne_bytes()), prefix).ok()?;
        let refuses = hex(3)? & REJECT != 0;
        Some(Route { to, device: (!refuses).then(|| words[0].to_owned()) })
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// /proc/net/tcp and udp, and their twins with a 6: the local addresses at port 53, where nobody is connected. One that is bound to
/// every IPv6 address may have every IPv4 one, too.
pub(super) fn resolvers(text: &str) -> Vec<Ipv4Addr> {
    let one = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (ip, port) = words.next()?.split_once(':')?;
        let remote = words.next()?;
        if u16::from_str_radix(port, 16) != Ok(53) || !remote.ends_with(":0000") {
            return None;
        }
        match ip.len() {
            8 => Some(Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes())),
            _ if ip.bytes().all(|digit| digit == b'0') => Some(Ipv4Addr::UNSPECIFIED),
            _ => None,
        }
    };
    text.lines().skip(1).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_read() {
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t01004D0A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
                    *\t000000F7\t00000000\t0200\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let routes = routes(text);
        assert_eq!(routes.len(), 3);
        assert_eq!(
            (routes[1].to.to_string(), routes[1].device.as_deref()),
            ("172.17.0.0/16".into(), Some("docker0"))
        );
        assert_eq!((routes[2].to.to_string(), routes[2].device.as_deref()), ("247.0.0.0/8".into(), None));
    }

    #[test]
    fn who_listens_for_names_is_read() {
        let head = "  sl  local_address rem_address   st\n";
        let lines = "   0: 354DFEA9:0035 00000000:0000 0A 0\n   1: 3500007F:0035 00000000:0000 0A 0\n   2: \
                     00000000:0016 00000000:0000 0A\n   3: 0B4D0A0A:0035 0C4D0A0A:A2C4 01\n";
        let found = resolvers(&format!("{head}{lines}"));
        assert_eq!(found, [Ipv4Addr::new(169, 254, 77, 53), Ipv4Addr::new(127, 0, 0, 53)]);
        let all = "00000000000000000000000000000000";
        let six = resolvers(&format!(
            "{head}   0: {all}:0035 {all}:0000 0A\n   1: {}1:0035 {all}:0000 0A\n",
            &all[1..]
        ));
        assert_eq!(six, [Ipv4Addr::UNSPECIFIED]);
    }

    #[test]
    fn small_files_are_read() {
        assert!(says_yes("# x\nENABLED=yes\n", "ENABLED"));
        assert!(!says_yes("ENABLED=no\n#ENABLED=yes", "ENABLED"));
        assert_eq!(range("20000\t30000\n"), 20_000..=30_000);
        assert_eq!(range(""), 32_768..=60_999);
        assert_eq!(module("kernel/net/netfilter/nf-tables.ko.xz: kernel/a.ko"), Some("nf_tables".into()));
    }
}
