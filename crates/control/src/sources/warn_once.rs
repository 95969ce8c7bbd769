//! Warnings that would otherwise come with each answer.

use std::collections::HashSet;

use tracing::warn;

/// So many are remembered; hostile input can't make it grow further, only be heard again.
const REMEMBERED: usize = 1024;

/// Says each thing once.
#[derive(Debug, Default)]
pub(super) struct WarnOnce(HashSet<String>);

impl WarnOnce {
    /// `message` is logged unless it was before.
    pub(super) fn warn(&mut self, message: String) {
        if self.0.contains(&message) {
            return;
        }
        warn!("{message}");
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(message);
    }
}
