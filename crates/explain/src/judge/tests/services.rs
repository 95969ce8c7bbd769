//! The service itself: its virtual IP, its ports, its instances.

use super::*;

#[test]
fn a_port_without_a_listener_left_needs_a_larger_range() {
    let facts = empty(|service| {
        service.ports[0].problem =
            "no listener port is left in --listener-ports: choose a larger range".into();
    });
    expect(&facts, Verdict::Broken, "port", "leads nowhere", "a larger range as --listener-ports");
}

#[test]
fn an_ambiguous_port_names_the_tags() {
    let facts = empty(|service| {
        service.ports[0].problem = "several ports are registered and none is this one".into();
        for (instance, tag) in service.instances.iter_mut().zip(["admin", "http"]) {
            instance.workload = "c1".into();
            instance.tags = vec!["v1".into(), tag.into()];
        }
    });
    expect(
        &facts,
        Verdict::Broken,
        "port",
        "port 80 leads nowhere",
        "write connect_to=web#admin:80 or connect_to=web#http:80 in the place of connect_to=web:80",
    );
    let faults = judge(&facts).links.iter().filter(|link| link.fault().is_some()).count();
    assert_eq!(faults, 1);
}

#[test]
fn a_service_without_a_virtual_ip_is_broken() {
    let facts = planned(|plan| plan.pair.service = None);
    expect(&facts, Verdict::Broken, "name", "no virtual IP", "ask again");
}

#[test]
fn a_service_without_instances_is_broken_at_its_endpoints_alone() {
    let facts = empty(|service| service.instances.clear());
    expect(&facts, Verdict::Broken, "endpoint", "no instance is registered", "register an instance of web");
}

#[test]
fn failing_checks_are_quoted() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.healthy, instance.problem) = (false, "HTTP 503".into());
        }
    });
    expect(&facts, Verdict::Broken, "endpoint", "passes its check", "pass its check: \"HTTP 503\"");
}

#[test]
fn undialable_instances_are_to_be_published() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.address, instance.problem) = (None, "a container's address: publish its port".into());
        }
    });
    expect(&facts, Verdict::Broken, "endpoint", "can be dialled", "publish the port");
}

#[test]
fn an_instance_that_is_registered_wrongly_is_to_be_registered_anew() {
    let facts = empty(|service| {
        for instance in &mut service.instances {
            (instance.address, instance.problem) = (None, "it is registered without a port".into());
        }
    });
    expect(
        &facts,
        Verdict::Broken,
        "endpoint",
        "can be dialled",
        "this host can dial: it is registered without a port",
    );
}

#[test]
fn instances_that_take_no_connection_are_broken() {
    let mut facts = working();
    let endpoints = &mut facts.proxy.as_mut().unwrap()[0].endpoints;
    endpoints[0].ejected_for_ms = 11_200;
    endpoints[0].last_error = "connection refused".into();
    assert_eq!(judge(&facts).verdict, Verdict::Yes);
    let endpoints = &mut facts.proxy.as_mut().unwrap()[0].endpoints;
    (endpoints[1].connected_total, endpoints[1].failed_total) = (0, 1);
    expect(&facts, Verdict::Broken, "endpoint", "takes connections", "listens on 10.0.0.5:24011");
    let text = &judge(&facts).links.last().unwrap().text.clone();
    assert!(text.contains("ejected for 12 s because connection refused"), "{text}");
}
