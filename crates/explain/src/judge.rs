//! The judgement: the links in order, and what follows from them.

use crate::{
    Away, Explanation, Facts, Link, State, Verdict,
    case::{Case, deaf, deaf_fix, deaf_text},
    doors::{self, Question},
    links::{self, LINKS},
    recover, sibling,
    target::Target,
    text,
};

/// What `host` stands for: the host's own processes.
pub(crate) const HOST: &str = "host";

/// Decides whether the workload reaches the service, and why. Pure.
#[must_use]
pub fn judge(facts: &Facts) -> Explanation {
    match Target::parse(&facts.query.service) {
        Some(Err(problem)) => return nonsense(facts, &problem),
        Some(Ok(target)) if !facts.is_virtual(target.ip) => return at_the_door(facts, target),
        _ => {}
    }
    if facts.query.workload == HOST {
        return conclude(facts, None, vec![links::of_the_host(&facts.query.service)]);
    }
    let recovered;
    let pair = match &facts.control {
        Ok(plan) => &plan.pair,
        Err(away) => match recover::pair(facts) {
            Some(pair) => {
                recovered = pair;
                &recovered
            }
            None => {
                return match recover::malformed(&facts.query.service) {
                    Some(problem) => nonsense(facts, &problem),
                    None => conclude(facts, None, unheard(away, facts)),
                };
            }
        },
    };
    if !pair.service_problem.is_empty() {
        return nonsense(facts, &pair.service_problem);
    }
    let Some(case) = Case::new(facts, pair) else {
        return conclude(facts, None, vec![unknown_workload(facts, &pair.workload_problem)]);
    };
    if let Some(links) = sibling::links(&case) {
        return conclude(facts, Some(&case), links);
    }
    let mut chain = Vec::new();
    for link in LINKS {
        let Some(link) = link(&case) else { continue };
        // Behind a refusal nothing is in force, and shall not be.
        let ends = matches!(link.state, State::Refused(_)) || is_unknown_grant(&case, &link);
        chain.push(link);
        if ends {
            break;
        }
    }
    conclude(facts, Some(&case), chain)
}

/// Whether a door is on the way to an address that is no virtual IP, and shut.
fn at_the_door(facts: &Facts, target: Target) -> Explanation {
    const NAME: &str = "doors";
    let firewall = match &facts.netfilter {
        Ok(firewall) => firewall,
        Err(away) => {
            return conclude(facts, None, vec![Link::unknown(NAME, away.short(), away.reason(), away.fix())]);
        }
    };
    let Some(doors) = &firewall.doors else {
        let text = "it keeps no doors: it is of an earlier release";
        let fix = "upgrade steppe-netfilter-agent to the release of `steppe`";
        return conclude(
            facts,
            None,
            vec![Link::unknown(NAME, "netfilter-agent is older than this", text, fix)],
        );
    };
    let found = match &facts.control {
        _ if facts.query.workload == HOST => Ok(None),
        Ok(plan) => plan.pair.workload.clone().map(Some).ok_or_else(|| plan.pair.workload_problem.clone()),
        Err(_) => recover::workload(&facts.query, firewall).map(Some),
    };
    let workload = match found {
        Ok(workload) => workload,
        Err(problem) => return conclude(facts, None, vec![unknown_workload(facts, &problem)]),
    };
    let question = Question { facts, firewall, doors, workload: workload.as_ref(), target };
    if let Some(problem) = question.problem() {
        return nonsense(facts, &problem);
    }
    let mut explanation = conclude(facts, None, doors::links(&question));
    if let Some(workload) = &workload {
        explanation.workload = text::workload(workload, question.attachment());
    }
    explanation
}

/// Without a grant the other links have nothing to look for.
fn is_unknown_grant(case: &Case<'_>, link: &Link) -> bool {
    case.pair.grant.is_none() && matches!(link.state, State::Unknown(_))
}

fn conclude(facts: &Facts, case: Option<&Case<'_>>, links: Vec<Link>) -> Explanation {
    let broken = links.iter().find(|link| matches!(link.state, State::Refused(_) | State::Broken(_)));
    let deciding = broken.or_else(|| links.iter().find(|link| matches!(link.state, State::Unknown(_))));
    let verdict = match deciding.map(|link| &link.state) {
        None | Some(State::Ok | State::Watched(_)) => Verdict::Yes,
        Some(State::Refused(_)) => Verdict::Refused,
        Some(State::Broken(_)) => Verdict::Broken,
        Some(State::Unknown(_)) => Verdict::Unknown,
    };
    Explanation {
        verdict,
        workload: case.map_or_else(|| facts.query.workload.clone(), Case::workload_text),
        service: case.map_or_else(|| facts.query.service.clone(), Case::service_text),
        reason: deciding.and_then(Link::fault).map(|fault| fault.summary.clone()),
        links,
    }
}

/// The question itself is wrong: there is nothing to look at.
fn nonsense(facts: &Facts, problem: &str) -> Explanation {
    Explanation {
        verdict: Verdict::Usage,
        workload: facts.query.workload.clone(),
        service: facts.query.service.clone(),
        reason: Some(problem.to_owned()),
        links: Vec::new(),
    }
}

/// Neither control nor the kernel's tables can be asked.
fn unheard(control: &Away, facts: &Facts) -> Vec<Link> {
    let away = |away: &Away| Link::unknown(away.process.name(), away.short(), away.reason(), away.fix());
    std::iter::once(away(control)).chain(facts.netfilter.as_ref().err().map(away)).collect()
}

fn unknown_workload(facts: &Facts, problem: &str) -> Link {
    const NAME: &str = "workload";
    let asked = &facts.query.workload;
    let problem = if problem.is_empty() { format!("no workload is `{asked}`") } else { problem.to_owned() };
    match &facts.control {
        Err(away) => Link::unknown(NAME, format!("{}, and {problem}", away.short()), problem, away.fix()),
        Ok(plan) => {
            let sources = deaf(&plan.status.sources);
            if sources.is_empty() {
                let fix = "name one that `steppe workloads` lists: a container that runs on this host";
                Link::unknown(NAME, problem.clone(), problem, fix)
            } else {
                let text = format!("{problem}; but {}", deaf_text(&sources));
                Link::unknown(NAME, problem, text, deaf_fix(&sources))
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
