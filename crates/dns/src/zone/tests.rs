//! What each sees. Answers are read by another implementation of the format.

use std::net::Ipv4Addr;

use hickory_proto::op::Message;
use steppe_api::v1;
use steppe_model::{Asker, Member, ResourceId};

use super::{Edit, Finding, Rules, View, Why, Zone};
use crate::{
    config::ConsulDns,
    wire::{Request, TCP_LIMIT, WireName, type_from_name},
};

const API: Ipv4Addr = Ipv4Addr::new(10, 208, 1, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 208, 2, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 9);

type Ports = &'static [(v1::Protocol, u32)];

fn asker(ip: Ipv4Addr, network: &str, names: &[(&str, &str, Ports)]) -> Edit {
    let name = |(name, vip, ports): &(&str, &str, Ports)| v1::AskedName {
        name: (*name).into(),
        vip: (*vip).into(),
        ports: ports
            .iter()
            .map(|&(protocol, port)| v1::NamedPort { protocol: protocol.into(), port })
            .collect(),
    };
    let wire = v1::Asker {
        ip: ip.to_string(),
        workload: "w".into(),
        user: network.into(),
        network: network.into(),
        names: names.iter().map(name).collect(),
    };
    Edit::Asker(View::new(Asker::try_from(wire).unwrap()).into())
}

fn member(network: &str, ip: &str, names: &[&str]) -> Edit {
    let names = names.iter().map(|name| (*name).into()).collect();
    let wire = v1::Member { network: network.into(), ip: ip.into(), names };
    Edit::Member(Member::try_from(wire).unwrap())
}

fn zone() -> Zone {
    let mut zone = Zone { settled: true, ..Zone::default() };
    let web: Ports = &[(v1::Protocol::Tcp, 80), (v1::Protocol::Tcp, 90), (v1::Protocol::Udp, 53)];
    zone.edit([
        asker(
            API,
            "alice",
            &[
                ("canary.web", "247.0.0.2", &[]),
                ("deep.below.x", "247.0.0.4", &[]),
                ("redis", "247.0.0.3", &[]),
                ("web", "247.0.0.1", web),
            ],
        ),
        asker(OTHER, "bob", &[("secret", "247.0.0.9", &[])]),
        member("alice", "10.208.1.2", &["api"]),
        member("alice", "10.208.1.3", &["worker", "redis", "pair"]),
        member("alice", "10.208.1.4", &["pair", "a.pair"]),
        member("bob", "10.208.2.2", &["hidden"]),
    ]);
    zone
}

fn rules() -> Rules {
    Rules {
        consul: ConsulDns::Granted,
        service_cidr: "247.0.0.0/8".parse().unwrap(),
        address: Ipv4Addr::new(169, 254, 77, 53),
    }
}

fn asked<'z>(zone: &'z Zone, rules: &Rules, ip: Ipv4Addr, name: &str, kind: &str) -> (Finding<'z>, Vec<u8>) {
    let request = Request::new(WireName::from_text(name).unwrap(), type_from_name(kind).unwrap());
    let mut buffer = Vec::new();
    let finding = zone.answer(rules, ip, &request, &mut buffer, TCP_LIMIT, 0);
    (finding, buffer)
}

/// The response code and the sections, in the other implementation's words.
fn told(zone: &Zone, ip: Ipv4Addr, name: &str, kind: &str) -> String {
    let (finding, message) = asked(zone, &rules(), ip, name, kind);
    if finding == Finding::Forward {
        return "forward".into();
    }
    let message = Message::from_vec(&message).unwrap();
    let mut text = format!("{:?}", message.metadata.response_code);
    for section in [&message.answers, &message.authorities, &message.additionals] {
        text.push_str(" |");
        section.iter().for_each(|record| text.push_str(&format!(" {record}")));
    }
    text
}

const SOA: &str =
    "steppe.internal. 1 IN SOA ns.dns.steppe.internal. hostmaster.steppe.internal. 1 7200 1800 86400 1";
const ROOT_SOA: &str = ". 1 IN SOA ns.dns.steppe.internal. hostmaster.steppe.internal. 1 7200 1800 86400 1";
const CONSUL_SOA: &str =
    "consul. 1 IN SOA ns.dns.steppe.internal. hostmaster.steppe.internal. 1 7200 1800 86400 1";

#[test]
fn names_lead_to_services_and_members() {
    let zone = zone();
    for (name, kind, expected) in [
        ("web.steppe.internal", "A", "NoError | web.steppe.internal. 5 IN A 247.0.0.1 | |"),
        ("WEB.Steppe.Internal.", "A", "NoError | WEB.Steppe.Internal. 5 IN A 247.0.0.1 | |"),
        ("canary.web.steppe.internal", "A", "NoError | canary.web.steppe.internal. 5 IN A 247.0.0.2 | |"),
        ("web", "A", "NoError | web. 5 IN A 247.0.0.1 | |"),
        ("worker", "A", "NoError | worker. 5 IN A 10.208.1.3 | |"),
        // Both a service and a member: the service.
        ("redis.steppe.internal", "A", "NoError | redis.steppe.internal. 5 IN A 247.0.0.3 | |"),
        (
            "pair.steppe.internal",
            "A",
            "NoError | pair.steppe.internal. 5 IN A 10.208.1.3 pair.steppe.internal. 5 IN A 10.208.1.4 | |",
        ),
        ("web.service.consul", "A", "NoError | web.service.consul. 5 IN A 247.0.0.1 | |"),
        ("canary.web.service.consul", "A", "NoError | canary.web.service.consul. 5 IN A 247.0.0.2 | |"),
        (
            "1.0.0.247.in-addr.arpa",
            "PTR",
            "NoError | 1.0.0.247.in-addr.arpa. 5 IN PTR web.steppe.internal. | |",
        ),
        (
            "3.1.208.10.in-addr.arpa",
            "PTR",
            "NoError | 3.1.208.10.in-addr.arpa. 5 IN PTR worker.steppe.internal. | |",
        ),
        ("web.steppe.internal", "ANY", "NoError | web.steppe.internal. 5 IN HINFO RFC8482  | |"),
        ("ns.dns.steppe.internal", "A", "NoError | ns.dns.steppe.internal. 5 IN A 169.254.77.53 | |"),
        ("steppe.internal", "NS", "NoError | steppe.internal. 5 IN NS ns.dns.steppe.internal. | |"),
        ("LocalHost", "A", "NoError | LocalHost. 5 IN A 127.0.0.1 | |"),
    ] {
        assert_eq!(told(&zone, API, name, kind), expected, "{name} {kind}");
    }
    assert_eq!(told(&zone, STRANGER, "localhost", "A"), told(&zone, API, "localhost", "A"));
}

#[test]
fn ports_are_told_with_the_address() {
    let zone = zone();
    let all = |owner: &str, target: &str, ports: &[u16]| {
        let records: Vec<_> =
            ports.iter().map(|port| format!("{owner} 5 IN SRV 1 1 {port} {target}")).collect();
        format!("NoError | {} | | {target} 5 IN A 247.0.0.1", records.join(" "))
    };
    let ours = "web.steppe.internal.";
    assert_eq!(told(&zone, API, ours, "SRV"), all(ours, ours, &[80, 90, 53]));
    assert_eq!(told(&zone, API, "web", "SRV"), all("web.", ours, &[80, 90, 53]));
    assert_eq!(
        told(&zone, API, "_web._udp.steppe.internal", "SRV"),
        all("_web._udp.steppe.internal.", ours, &[53])
    );
    let consul = "web.service.consul.";
    assert_eq!(
        told(&zone, API, "_web._tcp.service.consul", "SRV"),
        all("_web._tcp.service.consul.", consul, &[80, 90])
    );
    // A grant without a port says nothing of any.
    assert_eq!(told(&zone, API, "redis.steppe.internal", "SRV"), format!("NoError | | {SOA} |"));
    assert_eq!(told(&zone, API, "_redis._tcp.steppe.internal", "SRV"), format!("NXDomain | | {SOA} |"));
}

#[test]
fn what_exists_without_such_a_record_is_told_apart_from_what_does_not() {
    let zone = zone();
    let empty = |soa: &str| format!("NoError | | {soa} |");
    let nothing = |soa: &str| format!("NXDomain | | {soa} |");
    for (name, kind, expected) in [
        ("web.steppe.internal", "AAAA", empty(SOA)),
        ("worker.steppe.internal", "AAAA", empty(SOA)),
        ("worker.steppe.internal", "SRV", empty(SOA)),
        ("web", "AAAA", empty(ROOT_SOA)),
        ("worker", "MX", empty(ROOT_SOA)),
        ("web.service.consul", "AAAA", empty(CONSUL_SOA)),
        ("service.consul", "A", empty(CONSUL_SOA)),
        ("localhost", "AAAA", empty(ROOT_SOA)),
        ("steppe.internal", "A", empty(SOA)),
        // There are names below.
        ("x.steppe.internal", "A", empty(SOA)),
        ("below.x.steppe.internal", "A", empty(SOA)),
        ("dns.steppe.internal", "A", empty(SOA)),
        (
            "1.0.0.247.in-addr.arpa",
            "A",
            empty(&SOA.replacen("steppe.internal.", "1.0.0.247.in-addr.arpa.", 1)),
        ),
        ("nobody.steppe.internal", "A", nothing(SOA)),
        ("nobody.steppe.internal", "ANY", nothing(SOA)),
        ("www.example.com.steppe.internal", "A", nothing(SOA)),
        ("nobody", "A", nothing(ROOT_SOA)),
        ("nobody.service.consul", "A", nothing(CONSUL_SOA)),
        ("web.service.dc1.consul", "A", nothing(CONSUL_SOA)),
        // Members are no services.
        ("worker.service.consul", "A", nothing(CONSUL_SOA)),
        ("9.0.0.247.in-addr.arpa", "PTR", nothing(&SOA.replacen("steppe.internal.", "247.in-addr.arpa.", 1))),
    ] {
        assert_eq!(told(&zone, API, name, kind), expected, "{name} {kind}");
    }
}

#[test]
fn the_rest_of_the_world_is_forwarded() {
    let zone = zone();
    for (name, kind) in [
        ("www.example.com", "A"),
        ("steppe.internal.example.com", "A"),
        ("internal", "NS"),
        ("com", "DS"),
        (".", "NS"),
        ("n17.node.consul", "A"),
        ("8.8.8.8.in-addr.arpa", "PTR"),
        // It may be a real one.
        ("canary.web", "A"),
    ] {
        assert_eq!(told(&zone, API, name, kind), "forward", "{name} {kind}");
        assert_eq!(told(&zone, STRANGER, name, kind), "forward", "{name} {kind}");
    }
    let rules = Rules { consul: ConsulDns::All, ..rules() };
    for name in ["web.service.consul", "nobody.service.consul"] {
        assert_eq!(asked(&zone, &rules, API, name, "A").0, Finding::Forward);
    }
}

/// The answer to a name that is somebody else's is, byte for byte, that to one which nobody has.
#[test]
fn what_others_have_does_not_exist() {
    let zone = zone();
    let pairs = [
        ("secret.steppe.internal", "nobody.steppe.internal"),
        ("hidden.steppe.internal", "nobody.steppe.internal"),
        ("secret", "nobody"),
        ("secret.service.consul", "nobody.service.consul"),
        ("9.0.0.247.in-addr.arpa", "8.0.0.247.in-addr.arpa"),
        ("2.2.208.10.in-addr.arpa", "2.3.208.10.in-addr.arpa"),
    ];
    for (theirs, nobodys) in pairs {
        for kind in ["A", "AAAA", "SRV", "PTR", "ANY", "TXT", "TYPE65"] {
            for ip in [API, STRANGER] {
                let (finding, theirs) = asked(&zone, &rules(), ip, theirs, kind);
                let (expected, nobodys) = asked(&zone, &rules(), ip, nobodys, kind);
                assert_eq!(finding, expected);
                // The names are equally long: but for them every byte is the same.
                let but_the_name = |mut message: Vec<u8>| {
                    if let Some(name) = message.get_mut(13..19) {
                        name.fill(0);
                    }
                    message
                };
                assert_eq!(but_the_name(theirs), but_the_name(nobodys), "{kind}");
            }
        }
    }
    let why = asked(&zone, &rules(), STRANGER, "web.steppe.internal", "A").0;
    assert_eq!(why, Finding::Answered(Why::NoAsker));
}

#[test]
fn a_change_leaves_nothing_behind() {
    let mut zone = zone();
    assert_eq!(zone.counts(), (2, 4));
    zone.edit([member("alice", "10.208.1.3", &["renamed"])]);
    assert!(told(&zone, API, "worker", "A").starts_with("NXDomain"));
    assert!(told(&zone, API, "renamed", "A").contains("10.208.1.3"));
    assert!(told(&zone, API, "pair", "A").contains("pair. 5 IN A 10.208.1.4 |"));
    let ids: Vec<_> = zone.resources().iter().map(|resource| resource.id()).collect();
    assert_eq!(ids.len(), 6);
    zone.edit(ids.into_iter().map(Edit::Remove));
    zone.edit([Edit::Remove(ResourceId::new("asker 10.9.9.9"))]);
    assert_eq!(zone.counts(), (0, 0));
    assert!(zone.networks.is_empty());
    assert!(told(&zone, API, "web", "A").starts_with("NXDomain"));
}

#[test]
fn before_everything_is_known_nothing_is_denied() {
    let zone = Zone { settled: false, ..zone() };
    let (finding, message) = asked(&zone, &rules(), API, "nobody.steppe.internal", "A");
    assert_eq!((finding, message[3] & 0xf), (Finding::Unsettled, 2));
    assert_eq!(told(&zone, API, "example.com", "A"), "forward");
}

#[test]
fn members_take_turns_and_many_are_told_over_tcp() {
    let mut zone = zone();
    zone.edit((0..200).map(|i| member("alice", &format!("10.208.3.{i}"), &["many"])));
    let request = Request::new(WireName::from_text("many").unwrap(), 1);
    let mut buffer = Vec::new();
    for turn in [0, 1, 199, 200] {
        zone.answer(&rules(), API, &request, &mut buffer, TCP_LIMIT, turn);
        let message = Message::from_vec(&buffer).unwrap();
        assert_eq!(message.answers.len(), 200);
        let expected = format!("10.208.3.{}", turn % 200);
        assert_eq!(message.answers[0].data.to_string(), expected);
    }
    zone.answer(&rules(), API, &request, &mut buffer, 512, 0);
    let message = Message::from_vec(&buffer).unwrap();
    assert!(message.metadata.truncation && message.answers.is_empty() && message.edns.is_some());
}
