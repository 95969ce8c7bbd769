//! Virtual IPs and listener ports: chosen from the service's key, so that every host comes to the same unless two
//! keys collide, and kept for as long as they are in use.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{Ipv4Addr, SocketAddrV4},
    ops::RangeInclusive,
};

use ipnet::Ipv4Net;
use steppe_model::{ListenerKey, ServiceKey};
use thiserror::Error;

/// Everything in the range is taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Exhausted {
    /// No virtual IP is left.
    #[error("no virtual IP is left in --service-cidr: choose a larger one")]
    VirtualIps,
    /// No listener port is left.
    #[error("no listener port is left in --listener-ports: choose a larger range")]
    ListenerPorts,
}

/// Who has which place of a range.
#[derive(Debug)]
struct Places<K> {
    size: u32,
    by_key: HashMap<K, u32>,
    by_place: HashMap<u32, K>,
}

impl<K: Clone + Eq + Hash + ToString> Places<K> {
    fn new(size: u32) -> Self {
        Self { size, by_key: HashMap::new(), by_place: HashMap::new() }
    }

    fn keep(&mut self, key: K, place: u32) {
        if !self.by_key.contains_key(&key) && !self.by_place.contains_key(&place) {
            self.by_key.insert(key.clone(), place);
            self.by_place.insert(place, key);
        }
    }

    fn take(&mut self, key: &K) -> Option<u32> {
        if let Some(place) = self.by_key.get(key) {
            return Some(*place);
        }
        if self.by_place.len() >= self.size as usize {
            return None;
        }
        let first = u32::try_from(spread(&key.to_string()) % u64::from(self.size)).unwrap_or(0);
        let place = (first..self.size).chain(0..first).find(|place| !self.by_place.contains_key(place))?;
        self.keep(key.clone(), place);
        Some(place)
    }

    fn retain(&mut self, is_used: impl Fn(&K) -> bool) {
        self.by_key.retain(|key, _| is_used(key));
        self.by_place.retain(|_, key| is_used(key));
    }

    fn release(&mut self, key: &K) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_place.remove(&place);
        }
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv), and a last stir (MurmurHash3's finalizer), since FNV leaves short keys that differ in
/// their last letter close together. Hosts must agree on it: never change it.
pub(crate) fn spread(text: &str) -> u64 {
    let fnv = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let stirred = (fnv ^ (fnv >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    stirred ^ (stirred >> 33)
}

/// Addresses in a block, the first and the last not counted: some systems take those for broadcasts.
fn usable(block: Ipv4Net) -> u32 {
    let size = 1u64 << (32 - block.prefix_len());
    u32::try_from(size.saturating_sub(2)).unwrap_or(u32::MAX)
}

fn nth(block: Ipv4Net, n: u32) -> Ipv4Addr {
    (u32::from(block.network()) + 1 + n).into()
}

/// The inverse of `nth`; `None` outside the usable addresses.
fn position(block: Ipv4Net, ip: Ipv4Addr) -> Option<u32> {
    let n = u32::from(ip).checked_sub(u32::from(block.network()))?.checked_sub(1)?;
    (n < usable(block)).then_some(n)
}

/// Hands out virtual IPs and listener addresses.
#[derive(Debug)]
pub struct Allocator {
    services: Ipv4Net,
    vips: Places<ServiceKey>,
    listener_ip: Ipv4Addr,
    ports: RangeInclusive<u16>,
    listeners: Places<ListenerKey>,
}

impl Allocator {
    /// Virtual IPs from `services`, listeners on `listener_ip` with a port from `ports`.
    #[must_use]
    pub fn new(services: Ipv4Net, listener_ip: Ipv4Addr, ports: RangeInclusive<u16>) -> Self {
        let count = u32::try_from(ports.len()).unwrap_or(u32::MAX);
        Self {
            services,
            vips: Places::new(usable(services)),
            listener_ip,
            ports,
            listeners: Places::new(count),
        }
    }

    /// Keeps what an agent has in force already, if it is free and in range.
    pub fn keep_vip(&mut self, key: &ServiceKey, vip: Ipv4Addr) {
        if let Some(place) = position(self.services, vip) {
            self.vips.keep(key.clone(), place);
        }
    }

    /// Keeps what an agent has in force already, if it is free and in range.
    pub fn keep_listener(&mut self, key: &ListenerKey, address: SocketAddrV4) {
        if *address.ip() == self.listener_ip && self.ports.contains(&address.port()) {
            self.listeners.keep(key.clone(), u32::from(address.port() - self.ports.start()));
        }
    }

    /// The service's virtual IP.
    ///
    /// # Errors
    /// [`Exhausted`] when all are taken.
    pub fn vip(&mut self, key: &ServiceKey) -> Result<Ipv4Addr, Exhausted> {
        let place = self.vips.take(key).ok_or(Exhausted::VirtualIps)?;
        Ok(nth(self.services, place))
    }

    /// The listener's address.
    ///
    /// # Errors
    /// [`Exhausted`] when all are taken.
    pub fn listener(&mut self, key: &ListenerKey) -> Result<SocketAddrV4, Exhausted> {
        let place = self.listeners.take(key).ok_or(Exhausted::ListenerPorts)?;
        let port = self.ports.start() + u16::try_from(place).unwrap_or(0);
        Ok(SocketAddrV4::new(self.listener_ip, port))
    }

    /// The service is not used any more: its virtual IP may go to another.
    pub fn release_vip(&mut self, key: &ServiceKey) {
        self.vips.release(key);
    }

    /// The listener is not used any more: its port may go to another.
    pub fn release_listener(&mut self, key: &ListenerKey) {
        self.listeners.release(key);
    }

    /// Releases the virtual IPs and the listeners that are not used.
    pub fn retain(
        &mut self,
        is_service_used: impl Fn(&ServiceKey) -> bool,
        is_listener_used: impl Fn(&ListenerKey) -> bool,
    ) {
        self.vips.retain(is_service_used);
        self.listeners.retain(is_listener_used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ServiceKey {
        ServiceKey { user: None, name: name.parse().unwrap(), tag: None }
    }

    fn allocator(services: &str) -> Allocator {
        Allocator::new(services.parse().unwrap(), [169, 254, 77, 54].into(), 10_000..=19_999)
    }

    #[test]
    fn two_hosts_agree() {
        let (mut a, mut b) = (allocator("247.0.0.0/8"), allocator("247.0.0.0/8"));
        let first = a.vip(&key("web")).unwrap();
        b.vip(&key("redis")).unwrap();
        assert_eq!(b.vip(&key("web")).unwrap(), first);
        assert_eq!(a.vip(&key("web")).unwrap(), first);
    }

    #[test]
    fn what_is_in_force_is_kept_and_never_given_twice() {
        let mut fresh = allocator("247.0.0.0/30");
        let web = fresh.vip(&key("web")).unwrap();
        let mut adopting = allocator("247.0.0.0/30");
        adopting.keep_vip(&key("redis"), web);
        assert_ne!(adopting.vip(&key("web")).unwrap(), web);
        assert_eq!(adopting.vip(&key("third")), Err(Exhausted::VirtualIps));
        adopting.release_vip(&key("redis"));
        assert_eq!(adopting.vip(&key("third")).unwrap(), web);
    }
}
