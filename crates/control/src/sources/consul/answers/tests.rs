//! Answers as Consul writes them, and as it should not.

use proptest::prelude::*;

use super::*;

/// Consul 1.8, shortened.
const HEALTH: &str = r#"[
  {"Node":{"ID":"","Node":"b","Address":"10.77.0.12","Datacenter":"dc1","TaggedAddresses":null,"Meta":null},
   "Service":{"Kind":"","ID":"web-2","Service":"web","Tags":["steppe.weight=5"],"Address":"10.77.0.12",
     "TaggedAddresses":{"lan_ipv4":{"Address":"10.77.0.12","Port":80}},"Meta":{"a":"b"},"Port":24011,
     "Weights":{"Passing":7,"Warning":2},"EnableTagOverride":false,"Proxy":{},"Connect":{}},
   "Checks":[{"Node":"b","CheckID":"serfHealth","Name":"Serf Health Status","Status":"passing","Output":"ok"},
     {"Node":"b","CheckID":"c","Name":"tcp","Status":"warning","Output":"slow"}]},
  {"Node":{"Node":"a","Address":"10.77.0.11"},
   "Service":{"ID":"web-1","Service":"web","Tags":[],"Address":"","Meta":null,"Port":0,"Weights":null},
   "Checks":[]},
  {"Node":{"Node":"c","Address":"10.77.0.13"},
   "Service":{"ID":"web-3","Service":"web","Port":80},
   "Checks":[{"CheckID":"_service_maintenance:web-3","Name":"Service Maintenance Mode","Status":"critical","Output":""}]}
]"#;

#[test]
fn health_is_judged_as_consul_s_dns_does() {
    let instances = instances(HEALTH.as_bytes(), None).unwrap();
    let told: Vec<_> = instances.iter().map(|i| (&*i.id, &*i.node, i.port, i.weight, &i.health)).collect();
    let maintenance = Health::Critical("Service Maintenance Mode".into());
    assert_eq!(
        told,
        [
            ("web-1", "a", 0, 1, &Health::Passing),
            ("web-2", "b", 24011, 2, &Health::Passing),
            ("web-3", "c", 80, 1, &maintenance),
        ]
    );
    assert_eq!((&*instances[0].address, &*instances[0].node_address), ("", "10.77.0.11"));
    assert_eq!(instances[1].tags, ["steppe.weight=5"]);
}

#[test]
fn only_gossip_about_the_own_node_is_not_believed() {
    let critical = HEALTH.replace(r#"Status":"passing"#, r#"Status":"critical"#);
    let health = |body: &str, own| {
        let instances = instances(body.as_bytes(), own).unwrap();
        instances.into_iter().find(|instance| &*instance.node == "b").unwrap().health
    };
    assert_eq!(health(&critical, Some("b")), Health::Passing);
    for own in [None, Some("a")] {
        assert_eq!(health(&critical, own), Health::Critical("ok".into()));
    }
    let own_check = HEALTH.replace("warning", "critical");
    assert_eq!(health(&own_check, Some("b")), Health::Critical("slow".into()));
}

#[test]
fn an_unknown_status_is_critical() {
    let body = HEALTH.replace("\"warning\"", "\"what\"");
    let instances = instances(body.as_bytes(), None).unwrap();
    assert_eq!(instances[1].health, Health::Critical("slow".into()));
}

#[test]
fn a_bad_port_is_none_and_concerns_nobody_else() {
    for port in ["99999", "-1"] {
        let body = HEALTH.replace("24011", port);
        let instances = instances(body.as_bytes(), None).unwrap();
        let ports: Vec<_> = instances.iter().map(|instance| (&*instance.id, instance.port)).collect();
        assert_eq!(ports, [("web-1", 0), ("web-2", 0), ("web-3", 80)], "{port}");
    }
}

#[test]
fn nothing_and_nonsense_are_told_apart() {
    assert_eq!(registrations(b"null").unwrap(), []);
    assert_eq!(registrations(br#"{"Node":{"Node":"a"},"Services":null}"#).unwrap(), []);
    assert_eq!(instances(b"[]", None).unwrap(), []);
    for body in
        ["", "{}", "[]", "\"\"", "<html>", r#"{"Node":null,"Services":{}}"#, r#"{"Node":{"Node":"a"}}"#]
    {
        assert!(registrations(body.as_bytes()).is_err(), "{body}");
    }
    for body in ["", "null", "{}", "[{}]", "[null]", r#"[{"Node":{"Node":"a"}}]"#] {
        assert!(instances(body.as_bytes(), None).is_err(), "{body}");
    }
    assert!(node_name(b"{}").is_err());
}

proptest! {
    #[test]
    fn a_broken_answer_never_panics_and_is_never_empty(cut in 0..HEALTH.len(), byte: u8) {
            prop_assert!(instances(&HEALTH.as_bytes()[..cut], None).is_err());
        let mut bytes = HEALTH.as_bytes().to_vec();
        bytes[cut] = byte;
        if let Ok(instances) = instances(&bytes, None) {
            prop_assert!(!instances.is_empty());
        }
    }
}
