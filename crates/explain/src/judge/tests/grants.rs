//! What was asked for with connect_to, and whether the provider allows it.

use super::*;

#[test]
fn a_grant_for_every_port_covers_the_one_asked_for() {
    let mut facts = planned(|plan| {
        plan.pair.grant.as_mut().unwrap().port = 0;
        service(plan).ports[0].port = 0;
    });
    let firewall = facts.netfilter.as_mut().unwrap();
    firewall.grants[0].grant.as_mut().unwrap().port = 0;
    firewall.service_ports[0].port = 0;
    facts.proxy.as_mut().unwrap()[0].listener.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Yes);
}

#[test]
fn a_grant_for_every_port_does_not_use_the_way_of_another_workloads_exact_one() {
    let mut facts = planned(|plan| plan.pair.grant.as_mut().unwrap().port = 0);
    facts.netfilter.as_mut().unwrap().grants[0].grant.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn an_exact_grant_does_not_use_the_way_of_every_port() {
    let mut facts = working();
    facts.netfilter.as_mut().unwrap().service_ports[0].port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn a_udp_question_is_not_answered_by_a_tcp_rule() {
    let mut facts = planned(|plan| {
        plan.pair.protocol = Protocol::Udp.into();
        plan.pair.grant.as_mut().unwrap().protocol = Protocol::Udp.into();
    });
    facts.netfilter.as_mut().unwrap().grants[0].grant.as_mut().unwrap().port = 0;
    assert_eq!(judge(&facts).verdict, Verdict::Broken);
}

#[test]
fn no_grant_is_refused_and_names_the_tags_place() {
    expect(
        &ungranted(),
        Verdict::Refused,
        "grant",
        "no grant",
        "add tag connect_to=web:80 to Consul service api-1",
    );
    assert_eq!(judge(&ungranted()).links.len(), 1);
}

#[test]
fn no_grant_of_a_docker_workload_keeps_the_labels_other_grants() {
    let mut facts = ungranted();
    let plan = facts.control.as_mut().unwrap();
    plan.status.sources.retain(|source| source.name == "docker");
    workload(plan).grants[0].origin = "label of container api".into();
    workload(plan).name = "api".into();
    expect(
        &facts,
        Verdict::Refused,
        "grant",
        "no grant",
        "recreate container api with the label steppe.connect_to=redis:6379,web:80",
    );
    let fault = judge(&facts).links[0].fault().unwrap().clone();
    assert!(!fault.fix.contains("Consul"));
}

#[test]
fn no_grant_of_a_nomad_workload_names_job_and_group() {
    let mut facts = ungranted();
    let workload = workload(facts.control.as_mut().unwrap());
    (workload.job, workload.group) = ("worker".into(), "w".into());
    expect(&facts, Verdict::Refused, "grant", "no grant", "add tag connect_to=web:80 to job worker, group w");
}

#[test]
fn a_malformed_grant_is_corrected() {
    let mut facts = ungranted();
    workload(facts.control.as_mut().unwrap()).grants.push(GrantInfo {
        text: "web:80x".into(),
        origin: "tag of Consul service api-1".into(),
        problem: "port `80x` is not a number from 1 to 65535".into(),
        ..GrantInfo::default()
    });
    expect(&facts, Verdict::Refused, "grant", "malformed", "write connect_to=web:80 in its place");
}

#[test]
fn a_missing_grant_is_not_believed_while_a_source_is_silent() {
    let mut facts = ungranted();
    let source = &mut facts.control.as_mut().unwrap().status.sources[1];
    source.state = SourceState::Stale.into();
    source.last_error = "500 No cluster leader".into();
    expect(&facts, Verdict::Unknown, "grant", "a source is not heard", "see that consul answers");
}

#[test]
fn another_users_service_needs_its_leave() {
    let facts = planned(|plan| {
        let bobs = ServiceKey { user: "bob".into(), name: "pg".into(), tag: String::new() };
        plan.pair.asked = Some(bobs.clone());
        let grant = plan.pair.grant.as_mut().unwrap();
        (grant.service, grant.text) = (Some(bobs), "bob/pg:80".into());
        grant.problem = "bob/pg allows: carol".into();
    });
    expect(&facts, Verdict::Refused, "allow", "bob does not allow alice", "provider tag steppe.allow=alice");
    assert_eq!(judge(&facts).links.len(), 2);
}

#[test]
fn a_grant_that_comes_with_the_network_says_so() {
    let facts = planned(|plan| {
        let grant = plan.pair.grant.as_mut().unwrap();
        (grant.port, grant.origin) = (80, "member of the network of alice".into());
    });
    assert_eq!(judge(&facts).links[0].text, "member of the network of alice");
}
