//! What members of a user's network may reach: every service of that user's, as if they had asked for it.

use std::{collections::BTreeSet, sync::Arc};

use steppe_model::{ServiceName, UserName};

use super::{Delta, Planner, Workload};

impl Planner {
    /// Takes in whose network a workload is on and what it provides, where that is not as it was.
    pub(super) fn index_tenant(&mut self, id: &Arc<str>, before: Option<&Workload>, now: Option<&Workload>) {
        let member_of = |workload: Option<&Workload>| {
            workload.filter(|workload| workload.is_member).and_then(|workload| workload.user.clone())
        };
        let (was, is) = (member_of(before), member_of(now));
        let provided = |workload: Option<&Workload>| -> BTreeSet<(UserName, ServiceName)> {
            let of = |workload: &Workload| {
                let user = workload.user.clone()?;
                Some(workload.provides.iter().map(|name| (user.clone(), name.clone())).collect())
            };
            workload.and_then(of).unwrap_or_default()
        };
        let (old, new) = (provided(before), provided(now));
        for (user, name) in old.difference(&new) {
            self.tenants.set_provided(user, name, id, false);
        }
        for (user, name) in new.difference(&old) {
            self.tenants.set_provided(user, name, id, true);
        }
        self.tenants.set_member(id, was.as_ref(), is.as_ref());
    }

    /// Finds out what members may reach: those that were planned just now, and those whose user has other services.
    pub(super) fn imply(&mut self, planned: &BTreeSet<Arc<str>>, delta: &mut Delta) {
        let mut touched = self.tenants.take_touched();
        touched.extend(planned.iter().cloned());
        for id in touched {
            let Some(workload) = self.workloads.get(&id) else { continue };
            let user = workload.user.as_ref().filter(|_| workload.is_member);
            let services = user.map(|user| self.tenants.services(user)).unwrap_or_default();
            let (implied, not_implied) = workload.implied_by(services);
            if (&implied, not_implied) == (&workload.implied, workload.not_implied) {
                continue;
            }
            let mut new = workload.clone();
            new.not_implied = not_implied;
            let others = new.implied.symmetric_difference(&implied).cloned().collect::<Vec<_>>();
            new.implied = implied;
            if workload.not_implied == 0 {
                delta.ignored.extend(new.left_out());
            }
            let old = self.workloads.insert(id.clone(), new.clone());
            self.index_names(&id, old.as_ref(), Some(&new));
            self.dirty_names.extend(others);
            self.dirty_askers.insert(id);
        }
    }
}
