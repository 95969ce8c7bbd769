use proptest::prelude::*;
use std::net::SocketAddrV4;
use steppe_api::sync::Change;

use steppe_model::{DoorMode, DoorName, Endpoint, Expose, Network, Protocol, ResourceId, Takeover};

use super::*;
use crate::{
    netlink::{dump::RawElement, nftables::Operation},
    ruleset::{Balancer, Element, Parts, SetName, Value},
};

/// Ports 1 to 3 are on `br0`, 4 and 5 on `br1`; one of them will be gone.
struct Ports {
    lost: Option<u32>,
}

impl PortLookup for Ports {
    fn port(&self, ifindex: u32) -> Option<(IfName, IfName)> {
        let there = (1..=5).contains(&ifindex) && self.lost != Some(ifindex);
        let bridge = IfName::new(bridge_of(ifindex)).unwrap();
        there.then(|| (IfName::new(&format!("veth{ifindex}")).unwrap(), bridge))
    }
}

fn bridge_of(ifindex: u32) -> &'static str {
    if ifindex > 3 { "br1" } else { "br0" }
}

const ALL: Ports = Ports { lost: None };

fn limits() -> Limits {
    Limits { services: "247.0.0.0/8".parse().unwrap(), listener: Ipv4Addr::new(169, 254, 77, 54) }
}

fn workload(id: u8, ip: u8, port: u32, name: &str) -> Resource {
    Resource::Workload(Workload {
        id: WorkloadId::new(&format!("w{id}")),
        ip: Ipv4Addr::new(172, 30, 0, ip),
        mac: steppe_model::Mac([2, 66, 0, 0, 0, ip]),
        bridge: bridge_of(port).into(),
        port_ifindex: port,
        name: name.into(),
        user: id.is_multiple_of(2).then(|| "-".parse().unwrap()),
        guarded: name.len() > 2,
    })
}

fn service(vip: u8) -> ServiceKey {
    ServiceKey { user: None, name: format!("s{vip}").parse().unwrap(), tag: None }
}

fn virtual_ip(vip: u8) -> Resource {
    Resource::VirtualIp(VirtualIp { service: service(vip), vip: Ipv4Addr::new(247, 0, 0, vip) })
}

fn service_port(vip: u8, port: u16, listener: u16) -> Resource {
    service_port_with(vip, port, Some(listener), &[])
}

/// `endpoints`: the last part of each one's address, and its weight.
fn service_port_with(vip: u8, port: u16, listener: Option<u16>, endpoints: &[(u8, u8)]) -> Resource {
    let endpoint = |(last, weight): &(u8, u8)| Endpoint {
        address: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, *last), 8080),
        weight: *weight,
        node: format!("node {last}").into(),
    };
    Resource::ServicePort(ServicePort {
        service: service(vip),
        vip: Ipv4Addr::new(247, 0, 0, vip),
        port: VirtualPort::new(Protocol::Tcp, port),
        listener: listener.map(|port| SocketAddrV4::new(limits().listener, port)),
        endpoints: endpoints.iter().map(endpoint).collect(),
    })
}

fn grant(id: u8, vip: u8, port: u16) -> Resource {
    Resource::Grant(Grant {
        workload: WorkloadId::new(&format!("w{id}")),
        vip: Ipv4Addr::new(247, 0, 0, vip),
        port: VirtualPort::new(Protocol::Tcp, port),
    })
}

fn network(user: u8, bridge: u8, third: u8) -> Resource {
    Resource::Network(Network {
        user: format!("user{user}").parse().unwrap(),
        bridge: format!("br{bridge}").into(),
        subnet: format!("10.208.{third}.0/24").parse().unwrap(),
        gateway: Ipv4Addr::new(10, 208, third, 1),
    })
}

/// `at`: the last parts of the addresses that it is published at; none for all.
fn publish(port: u16, at: &[u8], workload: Option<u8>, expose: Expose, name: &str) -> Resource {
    Resource::PublishedPort(PublishedPort {
        protocol: if port.is_multiple_of(2) { Protocol::Tcp } else { Protocol::Udp },
        port,
        addresses: at.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect(),
        workload: workload.map(|id| WorkloadId::new(&format!("w{id}"))),
        expose,
        name: name.into(),
        user: workload.map(|_| "alice".parse().unwrap()),
    })
}

fn expose() -> impl Strategy<Value = Expose> {
    proptest::sample::select(vec![Expose::Proxies, Expose::Host, Expose::Cluster, Expose::Public])
}

/// In the form that the state keeps them in.
fn doors() -> impl Strategy<Value = Resource> {
    let mode = proptest::sample::select(DoorMode::ALL.to_vec());
    let modes = proptest::collection::vec((proptest::sample::select(DoorName::ALL.to_vec()), mode), 0..7);
    let block = prop_oneof![
        (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, prefix)| format!("{}/{prefix}", Ipv4Addr::from(ip))),
        (0..4u8, 24..=26u8).prop_map(|(third, prefix)| format!("10.0.{third}.0/{prefix}")),
        (any::<[u8; 16]>(), 0..=128u8)
            .prop_map(|(ip, prefix)| format!("{}/{prefix}", std::net::Ipv6Addr::from(ip))),
    ];
    let peers = proptest::collection::vec(block, 0..6);
    let uids = proptest::collection::vec(prop_oneof![0..3u32, any::<u32>()], 0..4);
    let range = prop_oneof![Just((20_000, 32_000)), Just((1, u16::MAX)), Just((7, 7))];
    (modes, peers, uids, range).prop_map(|(modes, peers, local_uids, (first, last))| {
        let peers = peers.iter().map(|peer| peer.parse().unwrap()).collect();
        let modes = modes.into_iter().collect();
        Resource::Doors(super::doors::canonical(&Doors {
            modes,
            peers,
            local_uids,
            published_ports: first..=last,
        }))
    })
}

fn resource() -> impl Strategy<Value = Resource> {
    prop_oneof![
        (0..4u8, 1..5u8, 1..7u32, "[a-z ]{0,4}")
            .prop_map(|(id, ip, port, name)| workload(id, ip, port, &name)),
        (0..3u8).prop_map(virtual_ip),
        ways().prop_map(|(vip, port, listener, endpoints)| {
            service_port_with(vip, port, listener, &endpoints)
        }),
        Just(Resource::Takeover(Takeover)),
        (0..4u8, 0..3u8, 0..3u16).prop_map(|(id, vip, port)| grant(id, vip, port)),
        (0..3u8, 0..3u8, 0..3u8).prop_map(|(user, bridge, third)| network(user, bridge, third)),
        (
            1..4u16,
            proptest::collection::vec(1..4u8, 0..3),
            proptest::option::of(0..4u8),
            expose(),
            "[a-z ]{0,4}"
        )
            .prop_map(|(port, at, workload, expose, name)| publish(port, &at, workload, expose, &name)),
        doors(),
    ]
}

/// A port of a virtual IP, and where it leads: both, one, or nowhere, which is refused.
fn ways() -> impl Strategy<Value = (u8, u16, Option<u16>, Vec<(u8, u8)>)> {
    let weight = prop_oneof![3 => 1..4u8, 1 => 1..=100u8];
    let endpoints = proptest::collection::vec((1..5u8, weight), 0..5);
    (0..3u8, 0..3u16, proptest::option::of(1..4u16), endpoints)
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        3 => resource().prop_map(Change::Upsert),
        1 => resource().prop_map(|resource| Change::Remove(resource.id())),
    ];
    proptest::collection::vec(change, 0..40)
}

fn is_of_closed(set: SetName) -> bool {
    matches!(set, SetName::Closed | SetName::ClosedAt)
}

/// The kernel's side: refuses what the kernel refuses.
#[derive(Default)]
struct Kernel(BTreeMap<(SetName, Value, bool), Element>);

impl Kernel {
    fn perform(&mut self, edit: &Edit) {
        let mut elements = Vec::new();
        edit.elements(&mut elements);
        for (operation, element) in elements {
            let at = (element.set, element.key, element.end);
            // What is closed may be closed again.
            let may_be_there = is_of_closed(element.set) && operation == Operation::Add;
            let old = match operation {
                Operation::Add => self.0.insert(at, element),
                Operation::Delete => self.0.remove(&at),
            };
            assert!(may_be_there || old.is_some() == (operation == Operation::Delete), "{edit:?}");
        }
    }

    fn adopt(&self) -> (State, bool) {
        self.adopt_with(|element| (element.data, String::new()))
    }

    /// As releases up to 0.1.0 left it: services lead to chains.
    fn adopt_older(&self) -> (State, bool) {
        self.adopt_with(|element| match element.set {
            SetName::Services | SetName::ServicesAny => {
                let number = Parts(element.data.as_bytes()).number().unwrap();
                (Value::EMPTY, Balancer::numbered(number).unwrap().name())
            }
            _ => (element.data, String::new()),
        })
    }

    /// `leads`: the data of an element, and the chain.
    fn adopt_with(&self, leads: impl Fn(&Element) -> (Value, String)) -> (State, bool) {
        let mut found = Found::default();
        for ((set, key, _), element) in &self.0 {
            let (data, chain) = leads(element);
            let (key, data) = (key.as_bytes(), data.as_bytes());
            found.take(
                *set,
                RawElement {
                    key,
                    data,
                    chain: &chain,
                    comment: &element.comment,
                    packets: 0,
                    end: element.end,
                },
            );
        }
        found.into_state()
    }
}

impl Kernel {
    /// Elements without those that go by themselves.
    fn count(&self) -> usize {
        self.0.keys().filter(|(set, ..)| !is_of_closed(*set)).count()
    }

    fn has(&self, set: SetName, key: Value) -> bool {
        self.0.contains_key(&(set, key, false))
    }
}

/// Applies what can be applied.
fn apply(state: &mut State, kernel: &mut Kernel, changes: &[Change]) {
    for change in changes {
        for edit in state.plan(change, &ALL, limits()).unwrap_or_default() {
            state.perform(&edit);
            kernel.perform(&edit);
        }
    }
}

proptest! {
    #[test]
    fn the_kernel_holds_what_the_state_says(changes in changes()) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &changes);
        prop_assert_eq!(state.elements(), kernel.count());
        let (adopted, whole) = kernel.adopt();
        prop_assert!(whole);
        prop_assert_eq!(&adopted, &state);
        prop_assert_eq!(kernel.adopt_older(), (adopted, true));
        let mut rebuilt = State::default();
        state.edits().iter().for_each(|edit| rebuilt.perform(edit));
        prop_assert_eq!(rebuilt, state);
    }

    #[test]
    fn what_is_so_already_takes_no_edit(changes in changes()) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &changes);
        for resource in state.resources() {
            prop_assert_eq!(state.plan(&Change::Upsert(resource), &ALL, limits()), Ok(vec![]));
        }
    }

    #[test]
    fn an_upsert_is_in_force_and_a_removal_is_not(changes in changes(), resource in resource()) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &changes);
        let id = resource.id();
        if state.plan(&Change::Upsert(resource.clone()), &ALL, limits()).is_ok() {
            apply(&mut state, &mut kernel, &[Change::Upsert(resource.clone())]);
            prop_assert!(state.resources().contains(&resource));
        }
        apply(&mut state, &mut kernel, &[Change::Remove(id.clone())]);
        prop_assert!(state.resources().iter().all(|left| left.id() != id));
    }

    #[test]
    fn everything_can_be_taken_back(before in changes(), after in changes()) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &before);
        let old = state.clone();
        let mut done = Vec::new();
        for change in &after {
            let edits = state.plan(change, &ALL, limits()).unwrap_or_default();
            edits.iter().for_each(|edit| state.perform(edit));
            done.extend(edits);
        }
        done.iter().rev().for_each(|edit| state.perform(&edit.inverse()));
        prop_assert_eq!(state, old);
    }

    #[test]
    fn a_lost_port_takes_all_its_rights_along(changes in changes(), lost in 1..6u32) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &changes);
        for edit in state.plan_lost_ports(&Ports { lost: Some(lost) }) {
            state.perform(&edit);
            kernel.perform(&edit);
        }
        prop_assert!(state.workloads().all(|bound| bound.workload.port_ifindex != lost));
        prop_assert_eq!(state.elements(), kernel.count());
        let workload = |id| state.workloads().any(|bound| bound.workload.id == id);
        prop_assert!(state.published().all(|port| port.workload.clone().is_none_or(workload)));
    }

    #[test]
    fn what_is_outside_the_range_is_left_behind(changes in changes()) {
        let (mut state, mut kernel) = (State::default(), Kernel::default());
        apply(&mut state, &mut kernel, &changes);
        let (inside, kept) = state.clone().within("247.0.0.0/32".parse().unwrap());
        prop_assert_eq!(kept, inside == state);
        prop_assert!(inside.vips().all(|(vip, _)| vip.octets()[3] == 0));
        let (all, kept) = state.clone().within(limits().services);
        prop_assert!(kept);
        prop_assert_eq!(all, state);
    }
}

#[test]
fn a_new_port_or_a_new_holder_of_an_address_starts_without_rights() {
    let (mut state, mut kernel) = (State::default(), Kernel::default());
    apply(
        &mut state,
        &mut kernel,
        &[Change::Upsert(workload(1, 2, 1, "a")), Change::Upsert(grant(1, 0, 80))],
    );
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(1, 2, 1, "renamed"))]);
    assert_eq!(state.grants().count(), 1, "only its name changed");
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(1, 2, 2, "renamed"))]);
    assert_eq!(state.grants().count(), 0, "another port");
    apply(
        &mut state,
        &mut kernel,
        &[Change::Upsert(grant(1, 0, 80)), Change::Upsert(workload(2, 2, 3, "b"))],
    );
    let ids: Vec<_> = state.resources().iter().map(Resource::id).collect();
    assert_eq!(ids, [ResourceId::new("w2")], "another holder of the address");
}

#[test]
fn a_virtual_ip_belongs_to_one_service() {
    let (mut state, mut kernel) = (State::default(), Kernel::default());
    let upserts = [virtual_ip(1), service_port(1, 80, 1)].map(Change::Upsert);
    apply(&mut state, &mut kernel, &upserts);
    let vip = Ipv4Addr::new(247, 0, 0, 1);
    let taken = Resource::VirtualIp(VirtualIp { service: service(2), vip });
    let reason = state.plan(&Change::Upsert(taken), &ALL, limits()).unwrap_err();
    assert!(reason.contains("is that of `s1` still"), "{reason}");
    let Resource::ServicePort(mut other) = service_port(1, 81, 1) else { unreachable!() };
    other.service = service(2);
    let reason = state.plan(&Change::Upsert(Resource::ServicePort(other)), &ALL, limits()).unwrap_err();
    assert!(reason.contains("not in force as that of `s2`"), "{reason}");
    apply(&mut state, &mut kernel, &[Change::Remove(virtual_ip(1).id())]);
    assert_eq!((state.elements(), kernel.0.len()), (0, 0), "its ports go with it");
}

#[test]
fn a_published_port_is_closed_when_its_workload_goes_and_opened_when_it_is_published_again() {
    let (mut state, mut kernel) = (State::default(), Kernel::default());
    let published_to =
        |workload| Change::Upsert(publish(24_010, &[], Some(workload), Expose::Proxies, "web"));
    let key = published::key((Protocol::Tcp, 24_010));
    let reason = state.plan(&published_to(1), &ALL, limits()).unwrap_err();
    assert_eq!(reason, "workload: `w1` is not in force");
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(1, 2, 1, "a")), published_to(1)]);
    // Its address moves to another port of the bridge: it is the same container.
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(1, 2, 2, "a"))]);
    assert!(kernel.has(SetName::Published, key) && !kernel.has(SetName::Closed, key));
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(2, 2, 3, "b"))]);
    assert!(!kernel.has(SetName::Published, key) && kernel.has(SetName::Closed, key));
    apply(&mut state, &mut kernel, &[published_to(2)]);
    assert!(kernel.has(SetName::Published, key) && !kernel.has(SetName::Closed, key));
    for edit in state.plan_lost_ports(&Ports { lost: Some(3) }) {
        state.perform(&edit);
        kernel.perform(&edit);
    }
    assert!(!kernel.has(SetName::Published, key) && kernel.has(SetName::Closed, key));
    assert_eq!(state.elements(), 0);
}

#[test]
fn a_port_is_closed_at_the_addresses_that_it_was_published_at() {
    let (mut state, mut kernel) = (State::default(), Kernel::default());
    let at = |last: u8| Value::EMPTY.ip(Ipv4Addr::new(10, 0, 0, last)).protocol(Protocol::Tcp).port(24_010);
    let everywhere = published::key((Protocol::Tcp, 24_010));
    let mut publish_at = |places: &[u8]| {
        apply(
            &mut state,
            &mut kernel,
            &[Change::Upsert(publish(24_010, places, None, Expose::Proxies, "web"))],
        );
        let has = |set, key| kernel.has(set, key);
        let open = [
            has(SetName::Published, everywhere),
            has(SetName::PublishedAt, at(1)),
            has(SetName::PublishedAt, at(2)),
        ];
        let closed =
            [has(SetName::Closed, everywhere), has(SetName::ClosedAt, at(1)), has(SetName::ClosedAt, at(2))];
        (open, closed)
    };
    assert_eq!(publish_at(&[1, 2]), ([false, true, true], [false, false, false]));
    assert_eq!(publish_at(&[2]), ([false, false, true], [false, true, false]));
    assert_eq!(publish_at(&[]), ([true, false, false], [false, true, true]));
    assert_eq!(publish_at(&[1]), ([false, true, false], [true, false, true]));
}

#[test]
fn who_is_on_a_networks_bridge_is_a_member_whichever_comes_first() {
    let (mut state, mut kernel) = (State::default(), Kernel::default());
    let port = |name| Value::EMPTY.interface(IfName::new(name).unwrap());
    apply(&mut state, &mut kernel, &[Change::Upsert(workload(1, 2, 1, "a"))]);
    assert!(!kernel.has(SetName::Guarded, port("veth1")));
    let more = [network(0, 0, 0), workload(2, 3, 2, "b"), workload(3, 4, 4, "c")].map(Change::Upsert);
    apply(&mut state, &mut kernel, &more);
    for (name, member) in [("veth1", true), ("veth2", true), ("veth4", false)] {
        assert_eq!(kernel.has(SetName::Guarded, port(name)), member, "{name}");
        assert_eq!(kernel.has(SetName::Members, port(name)), member, "{name}");
    }
    let refused = |new| state.plan(&Change::Upsert(new), &ALL, limits()).unwrap_err();
    assert_eq!(refused(network(1, 0, 1)), "bridge: `br0` is that of `user0`");
    assert!(refused(network(1, 1, 0)).contains("overlaps that of `user0`"));
    apply(&mut state, &mut kernel, &[Change::Upsert(network(0, 1, 0))]);
    assert!(kernel.has(SetName::Members, port("veth4")) && !kernel.has(SetName::Members, port("veth1")));
    apply(&mut state, &mut kernel, &[Change::Remove(network(0, 1, 0).id())]);
    assert!(!kernel.has(SetName::Guarded, port("veth4")));
}

#[test]
fn neighbouring_blocks_of_peers_are_one_range() {
    let ends = |blocks| super::doors::range_elements(SetName::PeerPorts, blocks).len();
    assert_eq!(ends(vec![(1, 2), (3, 4), (6, 6)]), 4);
    assert_eq!(ends(vec![(20_000, 65_535)]), 1, "there is nothing behind the last");
}
