//! What real Nomads answered; the files' names say which.

use super::*;

macro_rules! recording {
    ($name:literal) => {
        include_bytes!(concat!("../recordings/", $name, ".json"))
    };
}

const RUNNING: [&[u8]; 3] =
    [recording!("running-1.1.18"), recording!("running-1.3.16"), recording!("running-2.0.5")];
const CANARY: [&[u8]; 3] =
    [recording!("canary-1.1.18"), recording!("canary-1.3.16"), recording!("canary-2.0.5")];
const STOPPED: [&[u8]; 3] =
    [recording!("stopped-1.1.18"), recording!("stopped-1.3.16"), recording!("stopped-2.0.5")];

fn read(body: &[u8]) -> Vec<Alloc> {
    allocs(body, &Env::default()).unwrap()
}

fn of_group<'a>(allocs: &'a [Alloc], group: &str) -> &'a Alloc {
    allocs.iter().find(|alloc| &*alloc.group == group).unwrap()
}

fn asks(alloc: &Alloc) -> Vec<&str> {
    alloc.asks.iter().map(|ask| &*ask.text).collect()
}

#[test]
fn an_allocation_asks_for_what_its_job_says() {
    for body in RUNNING {
        let allocs = read(body);
        let web = of_group(&allocs, "web");
        assert_eq!((&*web.namespace, &*web.job, &*web.node), ("default", "api", "a"));
        assert_eq!((&web.network, web.life), (&AllocNetwork::Task, Life::Placed));
        assert_eq!(asks(web), ["pg", "redis:6379", "red"]);
        assert_eq!(&*web.asks[0].origin, "meta of job api");
        assert_eq!(&*web.asks[1].origin, "tag of service web (job api, group web)");
        assert_eq!((&*web.services[0].name, &*web.services[0].settings["weight"]), ("web", "2"));
        assert_eq!(web.services[0].port, Some((PROTOCOL, "http".into())));
        let [port] = &web.ports[..] else { panic!("{:?}", web.ports) };
        assert_eq!((&*port.label, port.to, port.host_ip), ("http", 80, Ipv4Addr::new(10, 77, 0, 11)));
        assert!(port.host_port >= 20_000);
    }
}

#[test]
fn an_allocation_in_bridge_mode_is_one() {
    for body in RUNNING {
        let allocs = read(body);
        let shared = of_group(&allocs, "shared");
        assert!(matches!(shared.network, AllocNetwork::Bridge { .. }));
        assert_eq!(asks(shared), ["pg", "redis", "web"]);
        assert_eq!(
            (&*shared.services[0].name, &*shared.services[0].settings["allow"]),
            ("api-shared-t", "*")
        );
    }
}

#[test]
fn a_canary_has_its_own_tags() {
    for body in CANARY {
        let allocs = read(body);
        let has = |text| allocs.iter().filter(|alloc| asks(alloc).contains(&text)).count();
        assert_eq!((has("redis#canary"), has("redis:6379")), (1, 1));
    }
}

#[test]
fn what_was_stopped_is_dead() {
    for body in STOPPED {
        assert!(read(body).iter().all(|alloc| alloc.life == Life::Dead));
    }
}

#[test]
fn what_nomad_wants_to_stop_stops_until_it_is_dead() {
    let running = std::str::from_utf8(RUNNING[2]).unwrap();
    for desired in ["stop", "evict"] {
        let stopping =
            running.replace(r#""DesiredStatus": "run""#, &format!(r#""DesiredStatus": "{desired}""#));
        assert!(read(stopping.as_bytes()).iter().all(|alloc| alloc.life == Life::Stopping));
    }
}

#[test]
fn a_setting_that_cannot_be_told_is_not_the_outer_levels() {
    let running = std::str::from_utf8(RUNNING[2]).unwrap();
    // The task's first: the job's is put in beside its weight.
    let stricter = running.replace(r#""steppe.allow": "*""#, r#""steppe.allow": "${NOMAD_UNKNOWN}""#);
    let stricter =
        stricter.replace(r#""steppe.weight": "2""#, r#""steppe.weight": "2", "steppe.allow": "*""#);
    let allocs = read(stricter.as_bytes());
    let allow = |group| of_group(&allocs, group).services[0].settings.get("allow").cloned();
    assert_eq!((allow("web").as_deref(), allow("shared")), (Some("*"), None));
}

#[test]
fn a_job_names_a_user_in_its_meta_or_in_the_labels_of_its_containers() {
    let told = |meta: &str, config: &str| {
        let body = format!(
            r#"[{{"ID": "a", "Namespace": "n", "JobID": "j", "Name": "j.g[0]", "TaskGroup": "g", "NodeName": "a",
                "ClientStatus": "running", "DesiredStatus": "run", "Job": {{"Meta": {meta}, "TaskGroups": [{{"Name": "g",
                "Tasks": [{{"Name": "t", "Driver": "docker", "Config": {config}}}]}}]}}}}]"#
        );
        let alloc = read(body.as_bytes()).remove(0);
        [alloc.user_in_meta, alloc.user_in_labels].map(|user| user.map(|user| user.to_string()))
    };
    let alice = Some("alice".to_owned());
    assert_eq!(told("null", "{}"), [None, None]);
    assert_eq!(told(r#"{"steppe_user": "alice"}"#, "{}"), [alice.clone(), None]);
    let labels = r#"{"labels": [{"a": "b"}, {"steppe.user": "alice"}]}"#;
    assert_eq!(told(r#"{"steppe.user": "alice"}"#, labels), [alice.clone(), alice.clone()]);
    assert_eq!(told("{}", r#"{"labels": {"steppe.user": "alice"}}"#), [None, alice]);
}

#[test]
fn an_empty_answer_is_none_and_nonsense_an_error() {
    assert!(read(b"null").is_empty());
    assert!(allocs(b"{}", &Env::default()).is_err());
    assert!(instances(b"[").is_err());
    assert!(node_id(b"{}").unwrap().is_none());
}

#[test]
fn an_instance_of_nomads_own_services_has_its_namespace() {
    for body in [&recording!("service-1.3.16")[..], recording!("service-2.0.5")] {
        let [instance] = &instances(body).unwrap()[..] else { panic!("one was registered") };
        assert_eq!((&*instance.service, instance.namespace.as_deref()), ("api-shared-t", Some("default")));
        assert_eq!(
            (&*instance.address, &instance.tags[..]),
            ("10.77.0.11", &["connect_to=web".to_owned()][..])
        );
        assert!(instance.id.starts_with("_nomad-task-"));
    }
}
