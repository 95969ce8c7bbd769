//! `allow`: the provider lets the workload's user in. Only where the service is another user's.

use crate::{Link, case::Case};

const NAME: &str = "allow";

/// Whether the service belongs to a user, and the workload to another or to none.
pub(super) fn decides(case: &Case<'_>) -> bool {
    !case.service.user.is_empty() && case.service.user != case.workload.user
}

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    if !decides(case) || case.is_recovered() {
        return None;
    }
    let grant = case.pair.grant.as_ref()?;
    let (owner, user) = (&case.service.user, &case.workload.user);
    let who = if user.is_empty() { "workloads without a user" } else { user };
    if grant.problem.is_empty() {
        return Some(Link::ok(NAME, format!("{} allows {who}", case.key_text())));
    }
    let fix = match (grant.fix.as_str(), user.as_str()) {
        ("", "") => "provider tag steppe.allow=*".to_owned(),
        ("", user) => format!("provider tag steppe.allow={user}"),
        (fix, _) => fix.to_owned(),
    };
    Some(Link::refused(NAME, format!("{owner} does not allow {who}"), &grant.problem, fix))
}
