use std::collections::{BTreeMap, BTreeSet};

use steppe_api::v1::sync_request::Message;
use steppe_model::{Listener, ListenerKey, Mac, Protocol, ServicePort, VirtualIp, VirtualPort, parse_grant};

use super::*;
use crate::{
    observe::{Attachment, Container, Health, Instance},
    plan::{Allocator, BridgePort, Options, UserFrom},
};

const LISTENER_IP: [u8; 4] = [169, 254, 77, 54];

struct Bench {
    core: Core,
    now: Instant,
    sent: BTreeMap<AgentName, mpsc::UnboundedReceiver<v1::SyncRequest>>,
}

impl Bench {
    /// There are no networks, and that has been told.
    fn new(sources: impl IntoIterator<Item = SourceName>) -> Self {
        let mut bench = Self::without_networks(sources);
        bench.core.observed(Observation::Networks(Vec::new()), bench.now);
        bench
    }

    fn without_networks(sources: impl IntoIterator<Item = SourceName>) -> Self {
        let allocator = Allocator::new("247.0.0.0/8".parse().unwrap(), LISTENER_IP.into(), 10_000..=19_999);
        let now = Instant::now();
        let options = Options {
            guard_all: false,
            user_cidr: "10.208.0.0/12".parse().unwrap(),
            user_from: UserFrom::Namespace,
        };
        let planner = Planner::new("n1".into(), allocator, options);
        let core = Core::new(planner, Push::new(true, now), SourcesBoard::new(sources), now);
        Self { core, now, sent: BTreeMap::new() }
    }

    /// The bridge port of [`container`].
    fn list_ports(&mut self) {
        self.core.port_changed(PortChange::Listed(vec![BridgePort {
            ifindex: 7,
            name: "veth7".into(),
            bridge: "docker0".into(),
            mac: Mac([2, 0, 0, 0, 0, 2]),
            ips: vec![[172, 17, 0, 2].into()],
        }]));
    }

    fn connect(&mut self, agent: AgentName, inventory: Vec<Resource>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.sent.insert(agent, receiver);
        self.core.link_changed(agent, LinkEvent::Connected(inventory, sender), self.now);
    }

    fn observe(&mut self, observation: Observation) -> Wishes {
        self.core.observed(observation, self.now);
        self.core.settle(self.now)
    }

    fn wait(&mut self, time: Duration) -> Wishes {
        self.now += time;
        self.core.settle(self.now)
    }

    /// The ids of the resources that were sent since the last call, and whether a snapshot was.
    fn sent(&mut self, agent: AgentName) -> (Vec<String>, bool) {
        let (mut ids, mut is_snapshot) = (Vec::new(), false);
        while let Ok(request) = self.sent.get_mut(&agent).unwrap().try_recv() {
            match request.message.unwrap() {
                Message::SnapshotEnd(_) => is_snapshot = true,
                Message::Upsert(resource) => ids.push(resource.id),
                Message::SnapshotBegin(_) | Message::Remove(_) | Message::Relieved(_) => {}
            }
        }
        (ids, is_snapshot)
    }

    fn nothing_is_sent(&mut self) {
        for agent in self.sent.keys().copied().collect::<Vec<_>>() {
            assert_eq!(self.sent(agent), (vec![], false));
        }
    }
}

fn container(connect_to: &str) -> Container {
    Container {
        id: "c1".into(),
        name: "api".into(),
        labels: BTreeMap::from([("steppe.connect_to".into(), connect_to.into())]),
        attachments: vec![Attachment {
            network: "net".into(),
            bridge: "docker0".into(),
            ip: [172, 17, 0, 2].into(),
            prefix_len: 16,
            mac: Some(Mac([2, 0, 0, 0, 0, 2])),
        }],
        published: Vec::new(),
        aliases: Vec::new(),
        health: Health::Passing,
        ports_known: 1,
    }
}

fn registrations() -> Observation {
    Observation::Registrations { node: "n1".into(), instances: Vec::new() }
}

fn web() -> Observation {
    let instance = Instance {
        source: SourceName::Consul,
        namespace: None,
        id: "web-1".into(),
        service: "web".into(),
        node: "n2".into(),
        node_address: "10.0.0.9".into(),
        address: "".into(),
        port: 24_011,
        tags: Vec::new(),
        meta: BTreeMap::new(),
        weight: 1,
        health: Health::Passing,
    };
    Observation::Instances(SourceName::Consul, "web".parse().unwrap(), vec![instance])
}

/// `web:80` as an earlier life of control chose it.
fn in_force() -> (Listener, ServicePort) {
    let service = parse_grant("web").unwrap().key(None);
    let port = VirtualPort::new(Protocol::Tcp, 80);
    let listener = Listener {
        key: ListenerKey { service: service.clone(), port },
        address: std::net::SocketAddrV4::new(LISTENER_IP.into(), 12_345),
        endpoints: Vec::new(),
        routes: Vec::new(),
        proxy_protocol: false,
    };
    let rule = ServicePort {
        service,
        vip: [247, 1, 2, 3].into(),
        port,
        listener: Some(listener.address),
        endpoints: Vec::new(),
    };
    (listener, rule)
}

const BOTH: [SourceName; 2] = [SourceName::Docker, SourceName::Consul];

#[test]
fn nothing_is_pushed_before_each_source_and_service_has_been_listed() {
    let mut bench = Bench::new(BOTH);
    bench.core.port_changed(PortChange::Listed(Vec::new()));
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    let wishes = bench.observe(Observation::Containers(vec![container("web:80")]));
    assert_eq!(wishes.wanted, Some(BTreeMap::from([("web".parse().unwrap(), BTreeSet::new())])));
    bench.observe(Observation::Live(SourceName::Docker));
    bench.observe(Observation::Failed(SourceName::Consul, "refused".into()));
    bench.wait(Duration::from_secs(3600));
    bench.nothing_is_sent();
    bench.observe(registrations());
    bench.observe(Observation::Live(SourceName::Consul));
    bench.nothing_is_sent();
    bench.observe(web());
    let (ids, is_snapshot) = bench.sent(AgentName::Proxy);
    assert!(is_snapshot && ids.first().is_some_and(|id| id == "web:80/tcp"), "{ids:?}");
    assert!(bench.sent(AgentName::NetfilterAgent).1);
}

#[test]
fn a_service_that_consul_never_answers_for_holds_up_nobody_else() {
    let mut bench = Bench::new(BOTH);
    bench.core.port_changed(PortChange::Listed(Vec::new()));
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    bench.observe(Observation::Containers(vec![container("web:80,secret")]));
    bench.observe(Observation::Live(SourceName::Docker));
    // It fails before the node's registrations come, so that Consul is never live.
    bench.observe(Observation::Failed(SourceName::Consul, "service secret: 403".into()));
    bench.observe(web());
    bench.observe(registrations());
    bench.nothing_is_sent();
    bench.wait(ANSWER_WAIT);
    let (ids, is_snapshot) = bench.sent(AgentName::Proxy);
    assert!(is_snapshot && ids.first().is_some_and(|id| id == "web:80/tcp"), "{ids:?}");
}

#[test]
fn what_is_in_force_is_not_emptied_because_consul_does_not_answer() {
    let mut bench = Bench::new(BOTH);
    bench.core.port_changed(PortChange::Listed(Vec::new()));
    let (listener, rule) = in_force();
    bench.connect(AgentName::Proxy, vec![Resource::Listener(listener)]);
    bench.connect(AgentName::NetfilterAgent, vec![Resource::ServicePort(rule)]);
    bench.observe(Observation::Containers(vec![container("web:80")]));
    bench.observe(Observation::Live(SourceName::Docker));
    bench.observe(registrations());
    bench.observe(Observation::Failed(SourceName::Consul, "service web: 500".into()));
    bench.wait(Duration::from_secs(3600));
    bench.nothing_is_sent();
    let waits_for = bench.core.waits_for();
    assert_eq!(waits_for.as_deref(), Some("what Consul says of services that are in force: web"));
    assert_eq!(bench.core.said, waits_for);
    bench.observe(web());
    assert!(bench.sent(AgentName::Proxy).1);
    assert_eq!(bench.core.waits_for(), None);
}

#[test]
fn what_the_first_push_waits_for_is_told() {
    let mut bench = Bench::new(BOTH);
    AgentName::TRAFFIC.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    let waits_for = |bench: &Bench| bench.core.waits_for().unwrap();
    assert_eq!(waits_for(&bench), "the first full listing of Docker and Consul");
    bench.observe(Observation::Containers(Vec::new()));
    assert_eq!(waits_for(&bench), "the first full listing of Consul");
    assert_eq!(bench.core.said, None, "not yet for long");
    bench.wait(LONG_WAIT);
    assert_eq!(bench.core.said.as_deref(), Some("the first full listing of Consul"));
    bench.observe(registrations());
    assert!(waits_for(&bench).contains("the netfilter-agent"));
    bench.list_ports();
    bench.wait(Duration::ZERO);
    assert_eq!(bench.core.waits_for(), None);
}

#[test]
fn the_first_plan_waits_for_what_agents_have_in_force_and_keeps_it() {
    let mut bench = Bench::new([SourceName::Docker]);
    let (listener, rule) = in_force();
    bench.connect(AgentName::Proxy, Vec::new());
    bench.observe(Observation::Containers(vec![container("web:80")]));
    bench.observe(Observation::Live(SourceName::Docker));
    assert_eq!(bench.sent(AgentName::Proxy), (vec![], false));
    let virtual_ip = VirtualIp { service: rule.service.clone(), vip: rule.vip };
    let inventory = vec![Resource::VirtualIp(virtual_ip), Resource::ServicePort(rule.clone())];
    bench.connect(AgentName::NetfilterAgent, inventory);
    bench.core.settle(bench.now);
    let planned = &bench.core.planner.services()[&rule.service];
    assert_eq!(planned.vip, Some(rule.vip));
    let provider = Container {
        id: "c2".into(),
        labels: BTreeMap::from([("steppe.service".into(), "web:8080".into())]),
        ..container("")
    };
    bench.observe(Observation::Container(provider));
    let planned = &bench.core.planner.services()[&rule.service];
    assert_eq!(
        planned.ports[&rule.port].listener,
        Some(listener.address),
        "the proxy lost it, the rule says where it was"
    );
}

#[test]
fn an_agent_that_stays_away_holds_up_the_other_for_a_moment_only() {
    let mut bench = Bench::new([SourceName::Docker]);
    bench.connect(AgentName::NetfilterAgent, Vec::new());
    bench.list_ports();
    bench.observe(Observation::Containers(vec![container("web:80")]));
    bench.observe(Observation::Live(SourceName::Docker));
    assert_eq!(bench.sent(AgentName::NetfilterAgent), (vec![], false));
    bench.wait(INVENTORY_WAIT);
    let (ids, is_snapshot) = bench.sent(AgentName::NetfilterAgent);
    assert!(is_snapshot);
    assert!(
        !ids.iter().any(|id| id.ends_with(":80/tcp") && !id.contains('>')),
        "no rule without the proxy: {ids:?}"
    );
}

#[test]
fn dns_is_not_waited_for() {
    let mut bench = Bench::new([SourceName::Docker]);
    bench.list_ports();
    AgentName::TRAFFIC.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    bench.observe(Observation::Containers(vec![container("web:80")]));
    bench.observe(Observation::Live(SourceName::Docker));
    assert!(bench.sent(AgentName::NetfilterAgent).1);
}

#[test]
fn what_is_in_force_is_not_taken_away_because_bridge_ports_are_known_later_than_containers() {
    let mut bench = Bench::new([SourceName::Docker]);
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    let asked_early = Container { ports_known: 0, ..container("web:80") };
    bench.observe(Observation::Containers(vec![asked_early]));
    bench.observe(Observation::Live(SourceName::Docker));
    bench.wait(2 * ANSWER_WAIT);
    bench.nothing_is_sent();
    bench.list_ports();
    let wishes = bench.wait(Duration::ZERO);
    assert_eq!(wishes.reread.len(), 1, "Docker must say again whose the port is");
    bench.nothing_is_sent();
    bench.observe(Observation::Container(container("web:80")));
    let (ids, is_snapshot) = bench.sent(AgentName::NetfilterAgent);
    assert!(is_snapshot && ids.iter().any(|id| id.contains('>')), "{ids:?}");
}

#[test]
fn the_kernel_takes_over_as_soon_as_the_proxy_goes_and_a_proxy_that_drains_is_told() {
    let mut bench = Bench::new([SourceName::Docker]);
    bench.list_ports();
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    bench.observe(Observation::Containers(Vec::new()));
    bench.observe(Observation::Live(SourceName::Docker));
    AgentName::ALL.into_iter().for_each(|agent| {
        assert_eq!(bench.sent(agent), (vec![], true));
        bench.core.link_changed(agent, LinkEvent::Acknowledged(u64::MAX), bench.now);
    });

    bench.core.link_changed(AgentName::Proxy, LinkEvent::Draining, bench.now);
    bench.core.settle(bench.now);
    assert_eq!(bench.sent(AgentName::NetfilterAgent).0, ["takeover"]);
    bench.core.link_changed(AgentName::NetfilterAgent, LinkEvent::Acknowledged(u64::MAX), bench.now);
    bench.core.settle(bench.now);
    let told = bench.sent.get_mut(&AgentName::Proxy).unwrap().try_recv().unwrap();
    assert!(matches!(told.message, Some(Message::Relieved(_))), "{told:?}");

    // Its successor comes, and dies.
    bench.core.link_changed(AgentName::Proxy, LinkEvent::Disconnected("gone".into()), bench.now);
    bench.connect(AgentName::Proxy, Vec::new());
    bench.core.settle(bench.now);
    bench.core.link_changed(AgentName::Proxy, LinkEvent::Acknowledged(u64::MAX), bench.now);
    bench.core.settle(bench.now);
    assert!(!bench.core.push.is_taken_over());
    bench.core.link_changed(AgentName::NetfilterAgent, LinkEvent::Acknowledged(u64::MAX), bench.now);
    bench.core.link_changed(AgentName::Proxy, LinkEvent::Disconnected("gone".into()), bench.now);
    bench.core.settle(bench.now);
    assert_eq!(bench.sent(AgentName::NetfilterAgent).0, ["takeover"]);
}

#[test]
fn nobody_is_told_of_containers_before_it_is_known_whose_networks_they_are_on() {
    let mut bench = Bench::new([SourceName::Docker, SourceName::Nomad]);
    bench.list_ports();
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    bench.observe(Observation::Allocs(Vec::new()));
    let user: UserName = "alice".parse().unwrap();
    let network = crate::observe::Network {
        id: "n".into(),
        user: user.clone(),
        bridge: "docker0".into(),
        subnet: "172.17.0.0/16".parse().unwrap(),
        gateway: [172, 17, 0, 1].into(),
        moved: None,
    };
    bench.observe(Observation::Networks(vec![network]));
    let labels = BTreeMap::from([("steppe.user".into(), "alice".into())]);
    bench.observe(Observation::Containers(vec![Container { labels, ..container("") }]));
    let wishes = bench.observe(Observation::Live(SourceName::Docker));
    assert_eq!(wishes.services_of, None, "wished for before");
    bench.nothing_is_sent();
    bench.observe(Observation::ServicesOf(user, BTreeSet::from(["web".parse().unwrap()])));
    bench.nothing_is_sent();
    let Observation::Instances(_, name, instances) = web() else { panic!("{:?}", web()) };
    bench.observe(Observation::Instances(SourceName::Nomad, name, instances));
    assert!(bench.sent(AgentName::NetfilterAgent).1);
}

#[test]
fn who_never_tells_of_networks_holds_up_everybody_for_a_moment_only() {
    let mut bench = Bench::without_networks([SourceName::Docker, SourceName::Nomad]);
    bench.list_ports();
    AgentName::ALL.into_iter().for_each(|agent| bench.connect(agent, Vec::new()));
    bench.observe(Observation::Allocs(Vec::new()));
    bench.observe(Observation::Containers(Vec::new()));
    bench.observe(Observation::Live(SourceName::Docker));
    bench.nothing_is_sent();
    bench.wait(ANSWER_WAIT);
    assert!(bench.sent(AgentName::NetfilterAgent).1);
}
