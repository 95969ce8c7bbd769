use steppe_model::{
    AskedName, Asker, Client, DoorMode, DoorName, Doors, Endpoint, Expose, Grant, Listener, ListenerKey,
    Member, Network, PublishedPort, Resource, Route, ServicePort, Takeover, VirtualIp, Workload, WorkloadId,
};

use super::*;

fn examples() -> Vec<Resource> {
    let service =
        ServiceKey { user: Some("alice".parse().unwrap()), name: "web".parse().unwrap(), tag: None };
    let endpoint = Endpoint { address: "10.0.0.5:24011".parse().unwrap(), weight: 3, node: "n17".into() };
    let listener = Listener {
        key: ListenerKey { service: service.clone(), port: VirtualPort::ANY },
        address: "169.254.77.54:17007".parse().unwrap(),
        endpoints: vec![endpoint.clone()],
        routes: vec![Route { port: 80, endpoints: vec![endpoint] }],
        proxy_protocol: true,
    };
    let client = Client { listener: listener.id(), ip: "172.17.0.2".parse().unwrap() };
    let workload = Workload {
        id: WorkloadId::new("3f2a19c0@docker0"),
        ip: client.ip,
        mac: "02:42:ac:11:00:02".parse().unwrap(),
        bridge: "docker0".into(),
        port_ifindex: 7,
        name: "api".into(),
        user: service.user.clone(),
        guarded: true,
    };
    let vip = "247.12.8.41".parse().unwrap();
    let grant = Grant { workload: workload.id.clone(), vip, port: VirtualPort::new(Protocol::Udp, 53) };
    let port = ServicePort {
        service: service.clone(),
        vip,
        port: VirtualPort::ANY,
        listener: Some(listener.address),
        endpoints: listener.endpoints.clone(),
    };
    let network = Network {
        user: "alice".parse().unwrap(),
        bridge: "steppe-alice".into(),
        subnet: "10.209.7.0/24".parse().unwrap(),
        gateway: "10.209.7.1".parse().unwrap(),
    };
    let published = PublishedPort {
        protocol: Protocol::Tcp,
        port: 24011,
        addresses: ["10.0.0.5".parse().unwrap()].into(),
        workload: Some(workload.id.clone()),
        expose: Expose::Cluster,
        name: "api".into(),
        user: service.user.clone(),
    };
    let doors = Doors {
        modes: [(DoorName::Spoofing, DoorMode::Enforce), (DoorName::Leaving, DoorMode::Audit)].into(),
        peers: vec!["10.0.0.0/16".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        local_uids: vec![100, 60701],
        published_ports: 20000..=32000,
    };
    let name =
        AskedName { name: "redis".parse().unwrap(), vip, ports: vec![VirtualPort::new(Protocol::Tcp, 6379)] };
    let asker = Asker {
        ip: client.ip,
        workload: "api".into(),
        user: service.user.clone(),
        network: Some(network.user.clone()),
        names: vec![name],
    };
    let member = Member { network: network.user.clone(), ip: client.ip, names: vec!["api".parse().unwrap()] };
    vec![
        Resource::Listener(listener),
        Resource::Client(client),
        Resource::Workload(workload),
        Resource::VirtualIp(VirtualIp { service: service.clone(), vip }),
        Resource::ServicePort(port),
        Resource::Grant(grant),
        Resource::Takeover(Takeover),
        Resource::Network(network),
        Resource::PublishedPort(published),
        Resource::Doors(doors),
        Resource::Asker(asker),
        Resource::Member(member),
    ]
}

#[test]
fn resources_round_trip() {
    for resource in examples() {
        let wire = v1::Resource::from(&resource);
        assert_eq!(Resource::try_from(wire), Ok(resource));
    }
}

#[test]
fn an_error_names_the_field() {
    for resource in examples() {
        let mut wire = v1::Resource::from(&resource);
        let expected = match wire.kind.as_mut().unwrap() {
            v1::resource::Kind::Listener(listener) => {
                listener.routes[0].endpoints[0].weight = 101;
                "listener.routes[0].endpoints[0].weight: 1 to 100 is expected"
            }
            v1::resource::Kind::Client(client) => {
                client.ip = "::1".into();
                "client.ip: `::1` is not an IPv4 address"
            }
            v1::resource::Kind::Workload(workload) => {
                workload.port_ifindex = 0;
                "workload.port_ifindex: 0 is no interface index"
            }
            v1::resource::Kind::VirtualIp(vip) => {
                vip.vip = "v".into();
                "virtual_ip.vip: `v` is not an IPv4 address"
            }
            v1::resource::Kind::ServicePort(port) => {
                port.protocol = v1::Protocol::Udp.into();
                "service_port.port: UDP needs a port: a grant without one is for TCP"
            }
            v1::resource::Kind::Grant(grant) => {
                grant.port = 65536;
                "grant.port: 65536 is no port number"
            }
            v1::resource::Kind::Network(network) => {
                network.gateway = "10.209.8.1".into();
                "network.gateway: is not in the subnet"
            }
            v1::resource::Kind::PublishedPort(published) => {
                published.expose = 9;
                "published_port.expose: is none that is known"
            }
            v1::resource::Kind::Doors(doors) => {
                doors.first_published_port = 40000;
                "doors.last_published_port: is less than the first"
            }
            v1::resource::Kind::Asker(asker) => {
                asker.names[0].ports[0].port = 0;
                "asker.names[0].ports[0].port: is missing"
            }
            v1::resource::Kind::Member(member) => {
                member.network = "a.b".into();
                "member.network: `a.b` is not a user name: write 1 to 63 letters, digits, `-` or `_`"
            }
            // It has no field.
            v1::resource::Kind::Takeover(_) => continue,
        };
        assert_eq!(Resource::try_from(wire).unwrap_err().to_string(), expected);
    }
}

#[test]
fn an_id_that_is_not_the_contents_is_refused() {
    let mut wire = v1::Resource::from(&examples()[0]);
    wire.id = "other".into();
    assert!(Resource::try_from(wire).unwrap_err().to_string().starts_with("id: is `other` but"));
}
