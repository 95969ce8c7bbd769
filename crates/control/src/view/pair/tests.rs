use std::{collections::BTreeMap, sync::Arc};

use steppe_model::Mac;

use super::*;
use crate::{
    observe::{Alloc, AllocNetwork, Attachment, Container, Health, Life, Observation, SourceName},
    plan::{Allocator, BridgePort, Options, Planner, PortChange, UserFrom},
    push::{Push, session::LinkEvent},
    source_health::SourcesBoard,
};

fn container(n: u8, id: &str, name: &str, labels: &[(&str, &str)]) -> Container {
    Container {
        id: id.into(),
        name: name.into(),
        labels: labels
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect::<BTreeMap<_, _>>(),
        attachments: vec![Attachment {
            network: "net".into(),
            bridge: "docker0".into(),
            ip: [172, 17, 0, n].into(),
            prefix_len: 16,
            mac: Some(Mac([2, 0, 0, 0, 0, n])),
        }],
        published: Vec::new(),
        aliases: Vec::new(),
        health: Health::Passing,
        ports_known: 0,
    }
}

fn core(containers: Vec<Container>) -> Core {
    let allocator =
        Allocator::new("247.0.0.0/8".parse().unwrap(), [169, 254, 77, 54].into(), 10_000..=19_999);
    let options = Options {
        guard_all: false,
        user_cidr: "10.208.0.0/12".parse().unwrap(),
        user_from: UserFrom::Namespace,
    };
    let now = Instant::now();
    let mut core = Core::new(
        Planner::new("n1".into(), allocator, options),
        Push::new(true, now),
        SourcesBoard::new([SourceName::Docker]),
        now,
    );
    core.observed(Observation::Containers(containers), now);
    // By then no agent is waited for.
    core.settle(now + std::time::Duration::from_secs(60));
    core
}

#[test]
fn a_workload_is_found_by_whatever_names_it_alone() {
    let alloc = "5d6c1f0a-0000-0000-0000-000000000000";
    let nomad = [
        ("com.hashicorp.nomad.alloc_id", alloc),
        ("com.hashicorp.nomad.job_name", "shop"),
        ("com.hashicorp.nomad.task_group_name", "g"),
        ("com.hashicorp.nomad.task_name", "api"),
    ];
    let core = core(vec![
        container(2, "aaaa1111", "api", &nomad),
        container(3, "aaaa2222", "beef", &[]),
        container(4, "beef3333", "other", &[]),
    ]);
    let found =
        |text: &str| find_workload(&core, text).map(|(workload, _)| workload.container.id.to_string());
    for text in ["api", "aaaa1", "5d6c", "shop", "shop/g", "shop/g/api", "172.17.0.2", "aaaa1111"] {
        assert_eq!(found(text).as_deref(), Ok("aaaa1111"), "{text}");
    }
    assert_eq!(found("beef").as_deref(), Ok("aaaa2222"), "a name goes before the beginning of an id");
    assert!(found("aaaa").unwrap_err().contains("several workloads: api, beef"));
    for text in ["aaa", "", "ap", "172.17.0", "sho", "shop/", "/", "//"] {
        assert!(found(text).unwrap_err().starts_with("no workload"), "{text}");
    }
}

/// The port of the grant that covers what is asked.
fn covered(connect_to: &str, service: &str) -> Option<(String, u32)> {
    let core = core(vec![container(2, "aaaa1111", "api", &[("steppe.connect_to", connect_to)])]);
    let request = v1::GetPairRequest { workload: "api".into(), service: service.into() };
    let pair = pair(&core, &request, Instant::now());
    assert_eq!((pair.workload_problem, pair.service_problem), (String::new(), String::new()));
    pair.grant.map(|grant| (grant.text, grant.port))
}

#[test]
fn the_more_exact_grant_covers_a_port() {
    let grant = |text: &str, port| Some((text.to_owned(), port));
    assert_eq!(covered("web,web:80", "web:80"), grant("web:80", 80));
    assert_eq!(covered("web:80,web", "web:81"), grant("web", 0));
    assert_eq!(covered("web:80,web", "web"), grant("web", 0));
    assert_eq!(covered("web:80", "web"), grant("web:80", 80));
    for (connect_to, service) in [
        ("web:80", "web:81"),
        ("web", "web:53/udp"),
        ("web:53/udp", "web"),
        ("web#v1", "web"),
        ("bob/web", "web"),
    ] {
        assert_eq!(covered(connect_to, service), None, "{connect_to} {service}");
    }
}

#[test]
fn a_service_can_be_given_by_its_virtual_ip() {
    let core = core(vec![container(2, "aaaa1111", "api", &[("steppe.connect_to", "bob/web#v1:80")])]);
    let (key, planned) = core.planner.services().iter().next().unwrap();
    let vip = planned.vip.unwrap();
    let ask = |service: String| {
        pair(&core, &v1::GetPairRequest { workload: "api".into(), service }, Instant::now())
    };
    let answer = ask(format!("{vip}:80"));
    assert_eq!(answer.asked, Some(key.into()));
    assert_eq!(answer.grant.unwrap().text, "bob/web#v1:80");
    assert!(ask("247.9.9.9".into()).service_problem.contains("virtual IP of no service"));
    assert!(ask(format!("{vip}:99999")).service_problem.contains("1 to 65535"));
}

#[test]
fn an_allocation_with_an_address_stands_for_its_containers() {
    let id = "5d6c1f0a-0000-0000-0000-000000000000";
    let bare = |n, id: &str, name: &str, alloc: &str| Container {
        attachments: Vec::new(),
        ..container(n, id, name, &[("com.hashicorp.nomad.alloc_id", alloc)])
    };
    let mut core =
        core(vec![bare(2, "aaaa", &format!("nomad_init_{id}"), id), bare(3, "bbbb", &format!("t-{id}"), id)]);
    let alloc = Alloc {
        id: id.into(),
        namespace: "default".into(),
        user_in_meta: None,
        user_in_labels: None,
        job: "api".into(),
        group: "g".into(),
        name: "api.g[0]".into(),
        node: "n1".into(),
        life: Life::Placed,
        network: AllocNetwork::Bridge { address: Some([172, 26, 64, 9].into()), ports_known: 0 },
        ports: Vec::new(),
        asks: Vec::new(),
        services: Vec::new(),
    };
    core.observed(Observation::Allocs(vec![Arc::new(alloc)]), Instant::now());
    core.settle(Instant::now() + std::time::Duration::from_secs(60));
    for text in ["5d6c", "api.g[0]", &format!("t-{id}"), "api", "api/g", "api/g/t", "172.26.64.9"] {
        let (found, _) = find_workload(&core, text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(&*found.container.id, id, "{text}");
    }
    let told = workload::info(&core, core.planner.workload("bbbb").unwrap().0, &[]);
    assert_eq!((told.job.as_str(), told.group.as_str(), told.task.as_str()), ("api", "g", "t"));
    assert!(told.problem.contains("allocation"), "{}", told.problem);
}

#[test]
fn it_says_what_dns_waits_for() {
    let now = Instant::now() + std::time::Duration::from_secs(60);
    let mut core = core(vec![container(2, "aaaa1111", "api", &[("steppe.connect_to", "web:80")])]);
    core.port_changed(PortChange::Listed(vec![BridgePort {
        ifindex: 7,
        name: "veth7".into(),
        bridge: "docker0".into(),
        mac: Mac([2, 0, 0, 0, 0, 2]),
        ips: vec![[172, 17, 0, 2].into()],
    }]));
    core.observed(
        Observation::Container(Container {
            ports_known: 1,
            ..container(2, "aaaa1111", "api", &[("steppe.connect_to", "web:80")])
        }),
        now,
    );
    let (sender, _receiver) = tokio::sync::mpsc::unbounded_channel();
    core.link_changed(AgentName::DnsA, LinkEvent::Connected(Vec::new(), sender), now);
    core.settle(now);
    let request = v1::GetPairRequest { workload: "api".into(), service: "web:80".into() };
    let pair = pair(&core, &request, now);
    let told: Vec<_> = pair.resources.iter().filter(|resource| resource.agent.starts_with("dns")).collect();
    let [asker] = told[..] else { panic!("{:?}", pair.resources) };
    assert_eq!((&*asker.agent, &*asker.id, asker.in_force), ("dns-a", "asker 172.17.0.2", false));
    assert_eq!(asker.problem, "waits for the netfilter-agent's aaaa1111@docker0:7");
}
