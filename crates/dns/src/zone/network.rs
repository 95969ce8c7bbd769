//! Who is on one user's network, by name and by address.

use std::net::Ipv4Addr;

use steppe_model::Member;

use super::key::{Key, Map};
use super::view::{ancestors, labels_of};

/// The members of a network.
#[derive(Debug, Default)]
pub(super) struct Network {
    members: Map<Ipv4Addr, Member>,
    names: Map<Key, Named>,
}

/// What is known under a name.
#[derive(Debug, Default)]
struct Named {
    addresses: Vec<Ipv4Addr>,
    /// How many names are below.
    below: usize,
}

impl Network {
    pub(super) fn insert(&mut self, member: Member) {
        self.remove(member.ip);
        for name in &member.names {
            let key = labels_of(name.as_str());
            for above in ancestors(&key) {
                self.names.entry(above.into()).or_default().below += 1;
            }
            let addresses = &mut self.names.entry(key.as_slice().into()).or_default().addresses;
            // A member may be told one name twice.
            let at = addresses.partition_point(|address| *address < member.ip);
            addresses.insert(at, member.ip);
        }
        self.members.insert(member.ip, member);
    }

    pub(super) fn remove(&mut self, ip: Ipv4Addr) {
        let Some(member) = self.members.remove(&ip) else { return };
        for name in &member.names {
            let key = labels_of(name.as_str());
            for above in ancestors(&key) {
                self.change(above, |named| named.below -= 1);
            }
            self.change(&key, |named| {
                if let Some(at) = named.addresses.iter().position(|address| *address == ip) {
                    named.addresses.remove(at);
                }
            });
        }
    }

    fn change(&mut self, key: &[u8], change: impl FnOnce(&mut Named)) {
        if let Some(named) = self.names.get_mut(key) {
            change(named);
            if named.addresses.is_empty() && named.below == 0 {
                self.names.remove(key);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn member(&self, ip: Ipv4Addr) -> Option<&Member> {
        self.members.get(&ip)
    }

    /// Who goes by these labels: nobody, where they only stand above others. `None` where there is no such name.
    pub(super) fn named(&self, labels: &[u8]) -> Option<&[Ipv4Addr]> {
        self.names.get(labels).map(|named| named.addresses.as_slice())
    }
}
