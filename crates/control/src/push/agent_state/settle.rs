//! What an agent says of what it was told.

use steppe_model::ResourceId;

use super::{AgentState, Link, Settled};

impl AgentState {
    pub(in crate::push) fn acknowledged(&mut self, version: u64) -> Vec<Settled> {
        let mut settled = Vec::new();
        if !self.is_up() {
            return settled;
        }
        self.acknowledged = self.acknowledged.max(version);
        while let Some((at, _, _)) = self.unsettled.front()
            && *at <= version
        {
            let Some((at, Some(id), _)) = self.unsettled.pop_front() else { continue };
            let Some(held) = self.held.get_mut(&id).filter(|held| held.version == at) else { continue };
            held.settled = true;
            if held.is_rejected {
                settled.push(Settled::Rejected(id));
                continue;
            }
            self.rejections.remove(&id);
            if held.is_removal {
                self.held.remove(&id);
                self.look_again([id.clone()]);
                settled.push(Settled::Gone(id));
            } else {
                held.was_in_force = true;
                settled.push(Settled::InForce(id));
            }
        }
        if self.snapshot_end.is_some_and(|end| end <= version) {
            self.link = Link::Live;
        }
        settled
    }

    /// Whether that was not known before.
    pub(in crate::push) fn rejected(&mut self, version: u64, id: &ResourceId, reason: &str) -> bool {
        let Some(held) = self.held.get_mut(id).filter(|held| held.version <= version) else { return false };
        held.is_rejected = true;
        self.rejections.insert(id.clone(), reason.to_owned()).is_none_or(|before| before != reason)
    }

    pub(in crate::push) fn retry_rejected(&mut self) {
        let rejected: Vec<_> = self.rejections.keys().cloned().collect();
        for id in &rejected {
            if let Some(held) = self.held.get_mut(id).filter(|held| held.settled && held.is_rejected) {
                held.is_retry = true;
            }
        }
        self.look_again(rejected);
    }
}
