//! The address of a container that control attaches. Pure.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::networks::subnet::own_half;
use crate::plan::spread;

/// An address of control's half of a network: the key's own, or the next that nobody has.
pub(super) fn choose(key: &str, subnet: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let usable: Vec<Ipv4Addr> = own_half(subnet).hosts().filter(|ip| *ip != subnet.broadcast()).collect();
    let first = usize::try_from(spread(key) % u64::try_from(usable.len()).ok()?).ok()?;
    let (before, from) = usable.split_at_checked(first)?;
    from.iter().chain(before).find(|ip| !taken.contains(ip)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_stable_and_passes_by_what_is_taken() {
        let subnet: Ipv4Net = "10.208.7.0/24".parse().unwrap();
        let mut taken = BTreeSet::new();
        let first = choose("alloc-1", subnet, &taken).unwrap();
        assert_eq!(choose("alloc-1", subnet, &taken), Some(first));
        for _ in 0..126 {
            let ip = choose("alloc-1", subnet, &taken).unwrap();
            assert!(ip.octets()[3] > 128 && ip.octets()[3] < 255 && taken.insert(ip), "{ip}");
        }
        assert_eq!(choose("alloc-1", subnet, &taken), None);
    }
}
