//! One asker's view.

use std::net::Ipv4Addr;

use steppe_model::{AskedName, Asker};

use super::key::{Key, Map};
use crate::wire::{WireName, labels, push_labels};

/// What one asker may name, by the labels of the name as they are on the wire, without zone and zero, in lower case.
#[derive(Debug)]
pub(crate) struct View {
    asker: Asker,
    names: Map<Key, Named>,
    by_vip: Map<Ipv4Addr, usize>,
}

#[derive(Debug, Clone, Copy)]
enum Named {
    /// A service, by its place among the asker's; what is mostly asked for is here as well.
    Service(u32, Ipv4Addr),
    /// Nothing itself, but there are names below: such a name exists, without records (RFC 8020).
    Above,
}

impl View {
    pub(crate) fn new(asker: Asker) -> Self {
        let mut names = Map::with_capacity_and_hasher(asker.names.len(), Default::default());
        let mut by_vip: Map<Ipv4Addr, usize> = Map::default();
        for (i, name) in asker.names.iter().enumerate() {
            let key = labels_of(name.name.as_str());
            for above in ancestors(&key) {
                names.entry(above.into()).or_insert(Named::Above);
            }
            // Those of one asker came in one message.
            names.insert(key.as_slice().into(), Named::Service(i as u32, name.vip));
            by_vip
                .entry(name.vip)
                // The plainest of its names stands for an address.
                .and_modify(|best| {
                    if depth(&asker.names[*best]) > depth(name) {
                        *best = i;
                    }
                })
                .or_insert(i);
        }
        Self { asker, names, by_vip }
    }

    pub(crate) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// The service that goes by these labels, and its virtual IP.
    pub(super) fn service(&self, labels: &[u8]) -> Option<(&AskedName, Ipv4Addr)> {
        match *self.names.get(labels)? {
            Named::Service(i, vip) => Some((self.asker.names.get(i as usize)?, vip)),
            Named::Above => None,
        }
    }

    /// There are names below.
    pub(super) fn is_above(&self, labels: &[u8]) -> bool {
        matches!(self.names.get(labels), Some(Named::Above))
    }

    /// The service whose virtual IP this is.
    pub(super) fn at(&self, vip: Ipv4Addr) -> Option<&AskedName> {
        self.asker.names.get(*self.by_vip.get(&vip)?)
    }
}

fn depth(name: &AskedName) -> usize {
    name.name.as_str().split('.').count()
}

/// A name's labels on the wire.
pub(super) fn labels_of(name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len() + 1);
    push_labels(&mut bytes, name);
    bytes
}

/// Each name above this one, without the zone itself.
pub(super) fn ancestors(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = key;
    labels(key).filter_map(move |label| {
        rest = rest.get(1 + label.len()..)?;
        (!rest.is_empty()).then_some(rest)
    })
}

/// The first label of some labels, and those behind it.
pub(super) fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    rest.split_at_checked(length.into())
}

/// The address that a name below `in-addr.arpa` stands for (RFC 1035 §3.5).
pub(super) fn reversed(name: &WireName) -> Option<Ipv4Addr> {
    const ZONE: &[u8] = b"\x07in-addr\x04arpa\0";
    let mut octets = [0; 4];
    let mut places = octets.iter_mut().rev();
    for label in labels(name.before(ZONE)?) {
        let text = std::str::from_utf8(label).ok()?;
        let is_plain =
            text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        *places.next()? = if is_plain { text.parse().ok()? } else { return None };
    }
    places.next().is_none().then(|| Ipv4Addr::from(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_backwards() {
        let of = |text: &str| reversed(&WireName::from_text(text).unwrap());
        assert_eq!(of("4.3.2.247.in-addr.arpa"), Some(Ipv4Addr::new(247, 2, 3, 4)));
        for text in [
            "3.2.247.in-addr.arpa",
            "5.4.3.2.1.in-addr.arpa",
            "04.3.2.1.in-addr.arpa",
            "256.3.2.1.in-addr.arpa",
            "x.3.2.1.in-addr.arpa",
            "4.3.2.1.ip6.arpa",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn names_above_are_found() {
        let key = labels_of("a.b.c");
        assert_eq!(ancestors(&key).collect::<Vec<_>>(), [&b"\x01b\x01c"[..], b"\x01c"]);
        assert_eq!(ancestors(&labels_of("a")).count(), 0);
    }
}
