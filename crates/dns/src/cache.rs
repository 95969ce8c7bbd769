//! What resolvers said, kept for as long as they allowed, within a bound.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::wire::{Answer, Request};

/// Bytes that one answer may have on average; what is much longer is not worth its place.
const MEAN_SIZE: usize = 1_024;
/// Bytes of an answer that is kept at all.
const LARGEST: usize = 16_384;

/// What tells questions apart: the name in lower case, the type, and what the asker wants of DNSSEC.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(Box<[u8]>);

impl Key {
    pub(crate) fn new(request: &Request) -> Self {
        let name = request.name.as_bytes();
        let mut bytes = Vec::with_capacity(name.len() + 3);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&request.kind.to_be_bytes());
        bytes.push(u8::from(request.dnssec()) | u8::from(request.checking_disabled) << 1);
        Self(bytes.into())
    }
}

/// The answers. Who asks does not matter: these are the world's.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: usize,
    kept: Mutex<Kept>,
}

/// A clock (second chance): a hand goes round and takes the first that nobody has asked for since it last came by.
#[derive(Debug, Default)]
struct Kept {
    places: HashMap<Key, usize>,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    key: Key,
    answer: Arc<Answer>,
    is_used: bool,
}

impl Cache {
    /// Room for so many.
    pub(crate) fn new(entries: usize) -> Self {
        Self { entries, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics between two steps that belong together.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are, and how many there may be.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.lock().slots.len(), self.entries)
    }

    /// What is kept for a question and still holds.
    pub(crate) fn get(&self, key: &Key, now: Instant) -> Option<Arc<Answer>> {
        let mut kept = self.lock();
        let place = *kept.places.get(key)?;
        if !kept.slots[place].answer.lives_at(now) {
            kept.remove(place);
            return None;
        }
        let slot = &mut kept.slots[place];
        slot.is_used = true;
        Some(slot.answer.clone())
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        *self.lock() = Kept::default();
    }

    /// Keeps an answer, if it may be kept.
    pub(crate) fn insert(&self, key: Key, answer: Arc<Answer>, now: Instant) {
        if self.entries == 0 || !answer.lives_at(now) || answer.size() > LARGEST {
            return;
        }
        let mut kept = self.lock();
        if let Some(&place) = kept.places.get(&key) {
            kept.remove(place);
        }
        while kept.slots.len() >= self.entries
            || kept.bytes + answer.size() > (self.entries * MEAN_SIZE).max(LARGEST)
        {
            kept.make_room(now);
        }
        kept.bytes += answer.size();
        let place = kept.slots.len();
        kept.places.insert(key.clone(), place);
        kept.slots.push(Slot { key, answer, is_used: false });
    }
}

impl Kept {
    fn make_room(&mut self, now: Instant) {
        loop {
            let place = self.hand % self.slots.len();
            let slot = &mut self.slots[place];
            if slot.is_used && slot.answer.lives_at(now) {
                slot.is_used = false;
                self.hand = place + 1;
            } else {
                // Another takes the place, and its turn comes next.
                self.hand = place;
                return self.remove(place);
            }
        }
    }

    fn remove(&mut self, place: usize) {
        let slot = self.slots.swap_remove(place);
        self.places.remove(&slot.key);
        self.bytes -= slot.answer.size();
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key.clone(), place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::wire::WireName;

    fn question(name: &str) -> Request {
        Request::new(WireName::from_text(name).unwrap(), 1)
    }

    /// An answer of one address, which lives for 60 s, and of `more` bytes of TXT.
    fn answer(name: &str, now: Instant, more: u16) -> Arc<Answer> {
        let name = WireName::from_text(name).unwrap();
        let mut packet = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0".to_vec();
        packet.extend_from_slice(name.as_bytes());
        packet.extend_from_slice(b"\0\x01\0\x01\xc0\x0c\0\x10\0\x01\0\0\0\x3c");
        packet.extend_from_slice(&more.to_be_bytes());
        packet.resize(packet.len() + usize::from(more), 0);
        Arc::new(Answer::read(&packet, 0, &name, 1, now).unwrap())
    }

    #[test]
    fn answers_are_kept_by_what_was_asked_and_for_their_time() {
        let cache = Cache::new(10);
        let now = Instant::now();
        let key = Key::new(&question("Web.Example"));
        cache.insert(key.clone(), answer("web.example", now, 4), now);
        assert!(cache.get(&Key::new(&question("wEB.eXAMPLE")), now).is_some());
        assert!(cache.get(&Key::new(&Request { kind: 28, ..question("web.example") }), now).is_none());
        let checked = Request { checking_disabled: true, ..question("web.example") };
        assert!(cache.get(&Key::new(&checked), now).is_none());
        assert!(cache.get(&key, now + Duration::from_secs(60)).is_none());
        assert_eq!(cache.counts(), (0, 10));
    }

    #[test]
    fn there_are_never_more_than_may_be_and_what_is_asked_for_stays() {
        let cache = Cache::new(50);
        let now = Instant::now();
        let dear = Key::new(&question("dear"));
        cache.insert(dear.clone(), answer("dear", now, 4), now);
        for i in 0..1_000 {
            let name = format!("n{i}");
            cache.insert(Key::new(&question(&name)), answer(&name, now, 4), now);
            assert!(cache.get(&dear, now).is_some(), "after {i}");
            let kept = cache.lock();
            assert_eq!(kept.places.len(), kept.slots.len());
            assert_eq!(kept.bytes, kept.slots.iter().map(|slot| slot.answer.size()).sum::<usize>());
        }
        assert_eq!(cache.counts(), (50, 50));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let cache = Cache::new(50);
        let now = Instant::now();
        for i in 0..100 {
            let name = format!("n{i}");
            cache.insert(Key::new(&question(&name)), answer(&name, now, 9_000), now);
        }
        assert!(cache.lock().bytes <= 50 * MEAN_SIZE);
        cache.insert(Key::new(&question("vast")), answer("vast", now, 20_000), now);
        assert!(cache.get(&Key::new(&question("vast")), now).is_none());
        let none = Cache::new(0);
        none.insert(Key::new(&question("a")), answer("a", now, 4), now);
        assert_eq!(none.counts(), (0, 0));
    }
}
