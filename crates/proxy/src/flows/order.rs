//! A list through the entries of a slab, so that whoever was used goes to its end in a few writes.

use slab::Slab;

use super::Entry;

/// No entry.
const NOBODY: u32 = u32::MAX;

/// An entry's neighbours in a list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    before: u32,
    after: u32,
}

impl Links {
    /// Of an entry that is in no list yet.
    pub(super) const NONE: Self = Self { before: NOBODY, after: NOBODY };
}

/// The ends of a list.
#[derive(Debug)]
pub(super) struct Order {
    first: u32,
    last: u32,
}

impl Default for Order {
    fn default() -> Self {
        Self { first: NOBODY, last: NOBODY }
    }
}

impl Order {
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NOBODY).then_some(self.first)
    }

    /// Puts an entry that is not in the list at its end. `links` says which of an entry's links are this list's.
    pub(super) fn push<T>(
        &mut self,
        index: u32,
        entries: &mut Slab<Entry<T>>,
        links: impl Fn(&mut Entry<T>) -> &mut Links,
    ) {
        *links(&mut entries[index as usize]) = Links { before: self.last, after: NOBODY };
        match self.last {
            NOBODY => self.first = index,
            last => links(&mut entries[last as usize]).after = index,
        }
        self.last = index;
    }

    /// Takes an entry out that is in the list.
    pub(super) fn remove<T>(
        &mut self,
        index: u32,
        entries: &mut Slab<Entry<T>>,
        links: impl Fn(&mut Entry<T>) -> &mut Links,
    ) {
        let Links { before, after } = *links(&mut entries[index as usize]);
        match before {
            NOBODY => self.first = after,
            before => links(&mut entries[before as usize]).after = after,
        }
        match after {
            NOBODY => self.last = before,
            after => links(&mut entries[after as usize]).before = before,
        }
    }

    /// Moves an entry of the list to its end.
    pub(super) fn renew<T>(
        &mut self,
        index: u32,
        entries: &mut Slab<Entry<T>>,
        links: impl Fn(&mut Entry<T>) -> &mut Links,
    ) {
        if self.last != index {
            self.remove(index, entries, &links);
            self.push(index, entries, links);
        }
    }
}
