//! The addresses that this host has or has routes to, and its interfaces.

use std::{collections::BTreeSet, fs, io, net::Ipv4Addr};

use ipnet::Ipv4Net;
use nix::ifaddrs::getifaddrs;

use super::subnet::Taken;

/// Flags of a route: it is up, and refuses what takes it (linux/route.h).
const RTF_UP: u32 = 0x0001;
const RTF_REJECT: u32 = 0x0200;

/// What is taken, and the names of the interfaces.
pub(super) fn read() -> io::Result<(Vec<Taken>, BTreeSet<String>)> {
    let mut taken = routes(&fs::read_to_string("/proc/net/route")?);
    let mut interfaces = BTreeSet::new();
    for found in getifaddrs()? {
        let own = found.address.as_ref().and_then(|address| Some(address.as_sockaddr_in()?.ip()));
        let mask = found.netmask.as_ref().and_then(|mask| Some(mask.as_sockaddr_in()?.ip()));
        if let Some(block) = own.zip(mask).and_then(|(own, mask)| Ipv4Net::with_netmask(own, mask).ok()) {
            let by =
                format!("address {own} of {name}", own = block.addr(), name = found.interface_name).into();
            taken.push(Taken { block: block.trunc(), by });
        }
        interfaces.insert(found.interface_name);
    }
    Ok((taken, interfaces))
}

/// `/proc/net/route`: Iface Destination Gateway Flags RefCnt Use Metric Mask …; addresses are in hexadecimal and in the byte order of
/// the machine. The default route is in nobody's way, and what refuses leads nowhere.
fn routes(table: &str) -> Vec<Taken> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, to, _, flags, _, _, _, mask, ..] = fields[..] else { return None };
        let [to, mask, flags] = [to, mask, flags].map(|number| u32::from_str_radix(number, 16).ok());
        let ip = |number: u32| Ipv4Addr::from(number.to_ne_bytes());
        let block = Ipv4Net::with_netmask(ip(to?), ip(mask?)).ok()?;
        let leads_on = flags? & RTF_UP != 0 && flags? & RTF_REJECT == 0;
        let by = format!("route {block} dev {name}").into();
        (leads_on && block.prefix_len() > 0).then_some(Taken { block, by })
    });
    routes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_that_lead_somewhere_are_in_the_way() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT \n\
                     eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0 \n\
                     eth1\t0007D00A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0 \n\
                     *\t000000F7\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0 \n\
                     broken\n";
        let routes = routes(table);
        assert_eq!(routes.len(), 1, "{routes:?}");
        assert_eq!(routes[0].block.to_string(), "10.208.7.0/24");
        assert_eq!(&*routes[0].by, "route 10.208.7.0/24 dev eth1");
    }

    #[test]
    fn this_host_can_be_read() {
        let (taken, interfaces) = read().unwrap();
        assert!(interfaces.contains("lo"));
        assert!(taken.iter().any(|taken| taken.block.contains(&Ipv4Addr::LOCALHOST)), "{taken:?}");
    }
}
