//! `name`: the service has a virtual IP on this host.

use crate::{Link, case::Case};

const NAME: &str = "name";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    let name = case.service_name();
    if case.vip().is_empty() {
        return Some(Link::broken(
            NAME,
            "it has no virtual IP",
            format!("{name} has no virtual IP on this host yet"),
            "ask again in a second; if it stays so, see the log of steppe-control: its --service-cidr may be used up",
        ));
    }
    Some(Link::ok(NAME, format!("{name} -> {}", case.vip())))
}
