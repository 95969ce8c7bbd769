//! A map from a key to a set, which holds no empty sets.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
};

/// Values by keys, several to a key.
#[derive(Debug)]
pub struct MultiMap<K, V>(BTreeMap<K, BTreeSet<V>>);

impl<K, V> Default for MultiMap<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, V: Ord> MultiMap<K, V> {
    /// Adds a value to a key.
    pub fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    /// Takes a value from a key.
    pub fn remove<Q, W>(&mut self, key: &Q, value: &W)
    where
        K: Borrow<Q>,
        V: Borrow<W>,
        Q: Ord + ?Sized,
        W: Ord + ?Sized,
    {
        if let Some(values) = self.0.get_mut(key) {
            values.remove(value);
            if values.is_empty() {
                self.0.remove(key);
            }
        }
    }

    /// The values of a key, in order.
    pub fn get<'a, Q>(&'a self, key: &Q) -> impl Iterator<Item = &'a V> + use<'a, K, V, Q>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.get(key).into_iter().flatten()
    }

    /// Whether the key has a value.
    pub fn contains_key<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.0.contains_key(key)
    }

    /// The keys that have a value, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }

    /// The values of all keys: one that has several keys comes several times.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_with_its_last_value() {
        let mut map = MultiMap::default();
        map.insert("a", 1);
        map.insert("a", 2);
        map.remove("a", &1);
        map.remove("b", &1);
        assert!(map.contains_key("a"));
        assert_eq!(map.get("a").collect::<Vec<_>>(), [&2]);
        assert_eq!(map.values().collect::<Vec<_>>(), [&2]);
        map.remove("a", &2);
        assert_eq!(map.keys().count(), 0);
    }
}
