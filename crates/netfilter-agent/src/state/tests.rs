use proptest::prelude::*;
use std::net::SocketAddrV4;
use steppe_api::sync::Change;

use steppe_model::{Endpoint, Protocol, ResourceId, Takeover};

use super::*;
use crate::{
    netlink::{dump::RawElement, nftables::Operation},
    ruleset::{Balancer, Element, SetName, Value},
};

/// Ports 1 to 4 are on `br0`; so is 5, and it will be gone.
struct Ports {
    lost: Option<u32>,
}

impl PortLookup for Ports {
    fn port(&self, ifindex: u32) -> Option<(IfName, IfName)> {
        let there = (1..=5).contains(&ifindex) && self.lost != Some(ifindex);
        there.then(|| (IfName::new(&format!("veth{ifindex}")).unwrap(), IfName::new("br0").unwrap()))
    }
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
        bridge: "br0".into(),
        port_ifindex: port,
        name: name.into(),
        user: id.is_multiple_of(2).then(|| "-".parse().unwrap()),
        guarded: false,
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

/// The kernel's side: refuses what the kernel refuses.
#[derive(Default)]
struct Kernel(BTreeMap<(SetName, Value), Element>);

impl Kernel {
    fn perform(&mut self, edit: &Edit) {
        let mut elements = Vec::new();
        edit.elements(&mut elements);
        for (operation, element) in elements {
            let at = (element.set, element.key);
            let old = match operation {
                Operation::Add => self.0.insert(at, element),
                Operation::Delete => self.0.remove(&at),
            };
            assert_eq!(old.is_some(), operation == Operation::Delete, "{edit:?}");
        }
    }

    fn adopt(&self) -> (State, bool) {
        let mut found = Found::default();
        for ((set, key), element) in &self.0 {
            let chain = element.goes_to.map(Balancer::name).unwrap_or_default();
            let (key, data) = (key.as_bytes(), element.data.as_bytes());
            found.take(*set, RawElement { key, data, chain: &chain, comment: &element.comment, packets: 0 });
        }
        found.into_state()
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
        prop_assert_eq!(state.elements(), kernel.0.len());
        let (adopted, whole) = kernel.adopt();
        prop_assert!(whole);
        prop_assert_eq!(&adopted, &state);
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
        prop_assert_eq!(state.elements(), kernel.0.len());
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
