//! How questions ended, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered from a granted service.
    Service,
    /// Answered from a member of the asker's network.
    Member,
    /// Ours, and no such name or record.
    NoName,
    /// A resolver answered.
    Forwarded,
    /// Answered from what a resolver said before.
    Cached,
    /// No resolver answered, or nothing is known yet.
    Failed,
    /// Malformed, or of a kind that is not answered.
    Refused,
    /// Too many of this asker.
    Limited,
}

impl Outcome {
    /// All of them, in their order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Service,
        Self::Member,
        Self::NoName,
        Self::Forwarded,
        Self::Cached,
        Self::Failed,
        Self::Refused,
        Self::Limited,
    ];
}

/// A count for each.
#[derive(Debug, Default)]
pub(crate) struct Counters([AtomicU64; Outcome::ALL.len()]);

impl Counters {
    pub(crate) fn count(&self, outcome: Outcome) {
        self.0[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self, outcome: Outcome) -> u64 {
        self.0[outcome as usize].load(Ordering::Relaxed)
    }
}
