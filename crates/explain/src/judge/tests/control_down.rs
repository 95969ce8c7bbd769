//! With control away, from what the agents have in force.

use super::*;

#[test]
fn with_control_down_what_is_in_force_is_a_yes() {
    let mut facts = working();
    facts.control = Err(down(Process::Control));
    for (workload, service) in [
        ("api", "web:80"),
        ("api", "web"),
        (IP, "alice/web"),
        ("3f2a", "247.12.8.41:80"),
        ("0123456789ab", "247.12.8.41"),
    ] {
        facts.query = Query { workload: workload.into(), service: service.into() };
        let explanation = judge(&facts);
        assert_eq!(explanation.verdict, Verdict::Yes, "{explanation:#?}");
        assert_eq!(explanation.service, "alice/web:80");
    }
}

#[test]
fn with_control_down_what_is_not_in_force_is_unknown() {
    let mut facts = working();
    facts.control = Err(down(Process::Control));
    facts.query.service = "redis".into();
    expect(&facts, Verdict::Unknown, "grant", "control is down", "start steppe-control");
    facts.query.workload = "nobody".into();
    expect(&facts, Verdict::Unknown, "workload", "control is down", "start steppe-control");
    facts.netfilter = Err(down(Process::NetfilterAgent));
    expect(&facts, Verdict::Unknown, "control", "control is down", "start steppe-control");
}
