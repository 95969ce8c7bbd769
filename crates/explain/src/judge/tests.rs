//! A world in which everything works, broken in one place at a time.

mod control_down;
mod doors;
mod grants;
mod in_force;
mod names;
mod networks;
mod past_the_proxy;
mod services;
mod world;

use steppe_api::v1::{GrantInfo, Pair, Protocol, ResourceStatus, ServiceKey, SourceState};
use steppe_daemon::Process;

use super::*;
use crate::{AwayKind, Query};

use world::{IP, VIP, empty, expect, not_pushed, service, socket, workload};
pub(crate) use world::{down, planned, ungranted, working};

#[test]
fn a_working_pair_is_a_yes_with_every_link_ok() {
    let explanation = judge(&working());
    assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
    let names: Vec<_> = explanation.links.iter().map(|link| link.name).collect();
    assert_eq!(names, ["grant", "name", "address", "rule", "listener", "endpoint"]);
}

#[test]
fn a_question_without_a_port_means_the_grants_port() {
    let facts = planned(|plan| plan.pair.port = 0);
    let explanation = judge(&facts);
    assert_eq!((explanation.verdict, &*explanation.service), (Verdict::Yes, "alice/web:80"));
}

#[test]
fn nonsense_is_a_usage_error_with_and_without_control() {
    let mut facts = planned(|plan| plan.pair.service_problem = "`web:x`: port `x` is not a number".into());
    assert_eq!(judge(&facts).verdict, Verdict::Usage);
    facts.query.service = "web:x".into();
    facts.control = Err(down(Process::Control));
    assert_eq!(judge(&facts).verdict, Verdict::Usage);
}

#[test]
fn an_unknown_workload_points_to_the_list() {
    let facts =
        planned(|plan| plan.pair = Pair { workload_problem: "no workload is `x`".into(), ..Pair::default() });
    expect(&facts, Verdict::Unknown, "workload", "no workload is `x`", "steppe workloads");
}

#[test]
fn the_host_gets_no_grant() {
    let mut facts = working();
    facts.query.workload = "host".into();
    expect(&facts, Verdict::Refused, "grant", "get no grant", "steppe.connect_to=web:80");
}
