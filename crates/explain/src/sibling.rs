//! Two members of one network reach each other directly, by name, without a service or a grant.

use steppe_api::v1::QuestionResult;

use crate::{Link, case::Case, doors, links, names, target::Target};

const NAME: &str = "name";

/// The links to the member of the workload's own network that the question names; `None` when it names none, or the workload is
/// granted a service of this name.
pub(crate) fn links(case: &Case<'_>) -> Option<Vec<Link>> {
    let own_users = case.service.user.is_empty() || case.service.user == case.workload.user;
    if case.pair.grant.is_some() || !own_users || !case.service.tag.is_empty() {
        return None;
    }
    let (name, target) = told(case).or_else(|| untold(case))?;
    let firewall = case.firewall()?;
    let doors = firewall.doors.as_ref()?;
    let target = Target { port: case.port, ..Target::parse(&target)?.ok()? };
    let question =
        doors::Question { facts: case.facts, firewall, doors, workload: Some(case.workload), target };
    let address = links::address(case);
    Some([Some(name), address, Some(question.door())].into_iter().flatten().collect())
}

/// As dns tells it.
fn told(case: &Case<'_>) -> Option<(Link, String)> {
    let told = case.facts.dns.as_ref()?;
    let answer = told.answer.as_ref().ok().filter(|answer| answer.result() == QuestionResult::Member)?;
    let ip = answer.records.first()?.split_whitespace().next_back()?;
    let whose = &case.workload.user;
    Some((
        Link::ok(NAME, format!("{} -> {ip}, a member of the network of {whose}", told.name)),
        ip.to_owned(),
    ))
}

/// As the kernel's tables have it, while dns can't be asked: a workload of this name on the same network.
fn untold(case: &Case<'_>) -> Option<(Link, String)> {
    let firewall = case.firewall()?;
    let away = case.facts.dns.as_ref()?.answer.as_ref().err()?;
    let own = case.attachment()?;
    firewall.networks.as_ref()?.iter().find(|network| network.bridge == own.bridge)?;
    let name = names::of(case.service, &case.workload.user)?;
    let there = firewall
        .workloads
        .iter()
        .filter_map(|state| state.workload.as_ref())
        .find(|there| there.bridge == own.bridge && there.name.eq_ignore_ascii_case(&name))?;
    let text = format!("{name} is {}; {away}", there.ip);
    let link = if away.is_down() { Link::broken } else { Link::unknown };
    Some((link(NAME, away.short(), text, away.fix()), there.ip.clone()))
}
