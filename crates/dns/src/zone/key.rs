//! The keys of the maps that every question is looked up in.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{Hash, Hasher},
};

/// What a question is looked up in. The keys are control's, and the seed is another in each run: who asks can't choose what collides.
pub(crate) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Bytes of labels that lie in the map itself.
const SHORT: usize = 22;

/// Labels as they are on the wire. Short ones, as most are, are compared without another look into memory.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

impl From<&[u8]> for Key {
    fn from(labels: &[u8]) -> Self {
        let mut bytes = [0; SHORT];
        match bytes.get_mut(..labels.len()) {
            Some(place) => {
                place.copy_from_slice(labels);
                Self::Short(labels.len() as u8, bytes)
            }
            None => Self::Long(labels.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Borrow::<[u8]>::borrow(self) == Borrow::<[u8]>::borrow(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    /// As its bytes, by which it is looked up.
    fn hash<H: Hasher>(&self, state: &mut H) {
        Borrow::<[u8]>::borrow(self).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ones_are_found() {
        let labels = [0, 1, SHORT - 1, SHORT, SHORT + 1, 200].map(|length| vec![b'x'; length]);
        let map: Map<Key, usize> =
            labels.iter().map(|bytes| (bytes.as_slice().into(), bytes.len())).collect();
        assert_eq!(map.len(), labels.len());
        for bytes in &labels {
            assert_eq!(map.get(bytes.as_slice()), Some(&bytes.len()));
        }
        assert_eq!(map.get(&b"xxx"[..]), None);
    }
}
