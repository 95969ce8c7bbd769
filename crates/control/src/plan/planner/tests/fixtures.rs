//! Facts that tests begin with, and the world that a plan makes.

use super::*;

pub(super) const NODE: &str = "n1";

pub(super) fn options() -> Options {
    Options { guard_all: false, user_cidr: "10.208.0.0/12".parse().unwrap(), user_from: UserFrom::Namespace }
}

pub(super) fn planner() -> Planner {
    let services = "247.0.0.0/8".parse().unwrap();
    Planner::new(NODE.into(), Allocator::new(services, [169, 254, 77, 54].into(), 10_000..=19_999), options())
}

pub(super) fn container(n: u8, labels: &[(&str, &str)]) -> Container {
    let labels = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Container {
        id: format!("{n:064x}").into(),
        name: format!("c{n}").into(),
        labels,
        attachments: vec![Attachment {
            network: "net".into(),
            bridge: "docker0".into(),
            ip: [172, 17, 0, n].into(),
            prefix_len: 16,
            mac: Some(Mac([2, 0, 0, 0, 0, n])),
        }],
        published: vec![PublishedPort {
            protocol: Protocol::Tcp,
            host_ip: Ipv4Addr::UNSPECIFIED.into(),
            host_port: 20_000 + u16::from(n),
            container_port: 8080,
        }],
        aliases: Vec::new(),
        health: Health::Passing,
        ports_known: u64::MAX,
    }
}

pub(super) fn port(n: u8) -> BridgePort {
    BridgePort {
        ifindex: 100 + u32::from(n),
        name: format!("veth{n}").into(),
        bridge: "docker0".into(),
        mac: Mac([2, 0, 0, 0, 0, n]),
        ips: vec![[172, 17, 0, n].into()],
    }
}

pub(super) fn instance(node: &str, id: &str, address: &str, port: u16, tags: &[&str]) -> Instance {
    Instance {
        source: SourceName::Consul,
        namespace: None,
        id: id.into(),
        service: "web".into(),
        node: node.into(),
        node_address: "10.0.0.9".into(),
        address: address.into(),
        port,
        tags: tags.iter().map(ToString::to_string).collect(),
        meta: BTreeMap::new(),
        weight: 1,
        health: Health::Passing,
    }
}

pub(super) fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

/// Desired state as the agents would hold it.
#[derive(Default)]
pub(super) struct World(pub(super) BTreeMap<(AgentName, ResourceId), Planned>);

impl World {
    pub(super) fn apply(&mut self, delta: Delta) {
        for (agent, id, planned) in delta.resources {
            match planned {
                Some(planned) => self.0.insert((agent, id), planned),
                None => self.0.remove(&(agent, id)),
            };
        }
    }

    pub(super) fn ids(&self) -> Vec<&str> {
        self.0.keys().map(|(_, id)| id.as_str()).collect()
    }

    pub(super) fn endpoints(&self, listener: &str) -> Vec<String> {
        let planned = &self.0[&(AgentName::Proxy, ResourceId::new(listener))];
        let Resource::Listener(listener) = &*planned.resource else { panic!("{planned:?}") };
        listener.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
    }
}

impl World {
    /// The endpoints of every listener of a service.
    pub(super) fn endpoints_of(&self, service: &str) -> Vec<String> {
        let key = service.parse_key();
        let listeners = self.0.values().filter_map(|planned| match &*planned.resource {
            Resource::Listener(listener) if listener.key.service == key => Some(listener),
            _ => None,
        });
        listeners.flat_map(|l| &l.endpoints).map(|endpoint| endpoint.address.to_string()).collect()
    }
}

pub(super) fn settle(planner: &mut Planner, observations: Vec<Observation>) -> World {
    let mut world = World::default();
    for observation in observations {
        planner.observe(observation);
        world.apply(planner.plan(Instant::now()));
    }
    world
}

pub(super) trait ParseKey {
    fn parse_key(&self) -> ServiceKey;
}

impl ParseKey for str {
    fn parse_key(&self) -> ServiceKey {
        let spec = steppe_model::parse_grant(self).unwrap();
        spec.key(spec.user.clone())
    }
}

/// The network of a user: alice's is 10.208.1.0/24, everybody else's 10.208.2.0/24.
pub(super) fn network(user: &str) -> Network {
    let third = if user == "alice" { 1 } else { 2 };
    Network {
        id: format!("network of {user}").into(),
        user: user.parse().unwrap(),
        bridge: format!("steppe-{user}").into(),
        subnet: format!("10.208.{third}.0/24").parse().unwrap(),
        gateway: [10, 208, third, 1].into(),
        moved: None,
    }
}

/// The same container on the network of a user alone.
pub(super) fn on_network(user: &str, container: Container) -> Container {
    let of = network(user);
    let place = |attachment: &Attachment| Attachment {
        network: of.id.clone(),
        bridge: of.bridge.clone(),
        ip: ip_on(&of, attachment.ip.octets()[3]),
        prefix_len: 24,
        mac: attachment.mac,
    };
    Container { attachments: container.attachments.iter().map(place).collect(), ..container }
}

pub(super) fn ip_on(network: &Network, n: u8) -> Ipv4Addr {
    let [a, b, c, _] = network.subnet.network().octets();
    [a, b, c, n].into()
}

/// [`port`] on the network of a user.
pub(super) fn port_on(user: &str, n: u8) -> BridgePort {
    let of = network(user);
    BridgePort { ips: vec![ip_on(&of, n)], bridge: of.bridge, ..port(n) }
}

impl World {
    pub(super) fn has(&self, id: &str) -> bool {
        self.ids().contains(&id)
    }

    pub(super) fn asker(&self, ip: &str) -> (steppe_model::Asker, Vec<ResourceId>) {
        let planned = &self.0[&(AgentName::Dns, ResourceId::new(&format!("asker {ip}")))];
        let Resource::Asker(asker) = &*planned.resource else { panic!("{planned:?}") };
        (asker.clone(), planned.requires.clone())
    }

    /// The names that somebody may ask for, with their services' virtual IPs.
    pub(super) fn names_of(&self, ip: &str) -> BTreeMap<String, Ipv4Addr> {
        self.asker(ip).0.names.into_iter().map(|asked| (asked.name.to_string(), asked.vip)).collect()
    }
}
