//! This host's own addresses, and which of them is the one that others know it by.

use std::{fs, io, net::IpAddr};

use ipnet::IpNet;
use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};

/// Flags of a route: it is up, and refuses what takes it (linux/route.h).
const RTF_UP: u32 = 0x0001;
const RTF_REJECT: u32 = 0x0200;

/// What was read of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Addresses with their interfaces.
    addresses: Vec<(String, IpNet)>,
    /// The interface of the default route.
    default: Option<String>,
}

impl Host {
    /// Whether it has this address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|(_, own)| own.addr() == address)
    }

    /// The subnets of its own addresses.
    pub(super) fn own_subnets(&self) -> Vec<IpNet> {
        let of_default = self.addresses.iter().filter(|(name, _)| Some(name) == self.default.as_ref());
        let known_to_others = of_default.filter(|(_, own)| match own.addr() {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_loopback(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local() && !ip.is_loopback(),
        });
        known_to_others.map(|(_, own)| own.trunc()).collect()
    }
}

/// Reads them from the kernel.
pub(super) fn read() -> io::Result<Host> {
    let addresses = getifaddrs()?.filter_map(|found| {
        let (address, mask) = (ip(&found.address?)?, ip(&found.netmask?)?);
        Some((found.interface_name, IpNet::with_netmask(address, mask).ok()?))
    });
    let addresses = addresses.collect();
    let v4 = fs::read_to_string("/proc/net/route")?;
    // A kernel without IPv6 has no such file.
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    Ok(Host { addresses, default: default_v4(&v4).or_else(|| default_v6(&v6)) })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

/// `/proc/net/route`: Iface Destination Gateway Flags RefCnt Use Metric Mask …, numbers in hexadecimal but for the metric.
fn default_v4(table: &str) -> Option<String> {
    let defaults = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, "00000000", _, flags, _, _, metric, "00000000", ..] = fields[..] else { return None };
        leads_on(flags).then_some((metric.parse::<u32>().ok()?, name))
    });
    // The first of equals, as the kernel does.
    defaults.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, metric, …, flags, interface; all in hexadecimal.
fn default_v6(table: &str) -> Option<String> {
    let defaults = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [to, "00", _, _, _, metric, _, _, flags, name] = fields[..] else { return None };
        let is_default = to.bytes().all(|digit| digit == b'0') && leads_on(flags);
        is_default.then_some((u32::from_str_radix(metric, 16).ok()?, name))
    });
    defaults.min_by_key(|(metric, _)| *metric).map(|(_, name)| name.to_owned())
}

fn leads_on(flags: &str) -> bool {
    u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & RTF_UP != 0 && flags & RTF_REJECT == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_is_the_nearest() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT \n\
                     wlan0\t00000000\t010200C0\t0003\t0\t0\t600\t00000000\t0\t0\t0 \n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0 \n\
                     eth1\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0 \n\
                     *\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0 \n\
                     eth2\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0 \n";
        assert_eq!(default_v4(table).as_deref(), Some("eth0"));
        assert_eq!(default_v4("Iface\n"), None);
        let zero = "00000000000000000000000000000000";
        let table = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
        );
        assert_eq!(default_v6(&table).as_deref(), Some("eth0"));
    }

    #[test]
    fn its_own_subnets_are_those_that_others_know() {
        let at = |name: &str, own: &str| (name.to_owned(), own.parse().unwrap());
        let host = Host {
            addresses: vec![
                at("lo", "127.0.0.1/8"),
                at("eth0", "10.0.3.4/22"),
                at("eth0", "169.254.1.2/16"),
                at("eth0", "fe80::1/64"),
                at("eth0", "2001:db8::5/64"),
                at("docker0", "172.17.0.1/16"),
            ],
            default: Some("eth0".to_owned()),
        };
        let subnets = host.own_subnets();
        assert_eq!(subnets, ["10.0.0.0/22", "2001:db8::/64"].map(|subnet| subnet.parse().unwrap()));
        assert!(host.has("172.17.0.1".parse().unwrap()));
        assert!(host.has("127.1.1.1".parse().unwrap()));
        assert!(!host.has("10.0.3.5".parse().unwrap()));
        let alone = Host { default: None, ..host };
        assert_eq!(alone.own_subnets(), []);
    }

    #[test]
    fn this_host_can_be_read() {
        let host = read().unwrap();
        assert!(host.addresses.iter().all(|(_, own)| host.has(own.addr())), "{host:?}");
    }
}
