//! What doors and networks are in force, and what each door refused.

use steppe_api::v1;
use steppe_model::{DoorName, PublishedPort, UserName};

use crate::{
    error::Error,
    firewall::Firewall,
    kernel::Kernel,
    ruleset::{DNS_COUNTER, IfName, Parts, SPOOFING_COUNTER, SetName, counter},
    state::{Bound, HostPort, Place, State, read_port_key, read_port_key_at},
};

/// Answers `ListDoors`.
///
/// # Errors
/// The kernel's counters can't be read.
pub(super) fn list(firewall: &mut Firewall) -> Result<v1::ListDoorsResponse, Error> {
    let Firewall { state, kernel, .. } = firewall;
    let mut doors = Vec::new();
    for name in DoorName::ALL {
        let mode = state.doors().map_or(v1::DoorMode::Off, |doors| doors.mode(name).into());
        doors.push(v1::DoorState {
            name: v1::DoorName::from(name).into(),
            mode: mode.into(),
            refused_total: kernel.counted(counter_of(name))?,
        });
    }
    let mut closed =
        kernel.elements(SetName::Closed, |element| Some((None, read_port_key(&mut Parts(element.key))?)))?;
    closed.extend(kernel.elements(SetName::ClosedAt, |element| read_port_key_at(&mut Parts(element.key)))?);
    Ok(v1::ListDoorsResponse {
        doors,
        counts: counts(state, kernel)?,
        settings: state.doors().map(Into::into),
        published: state.published().map(Into::into).collect(),
        closed: closed.into_iter().map(place_text).collect(),
    })
}

fn counter_of(name: DoorName) -> &'static str {
    match name {
        DoorName::Spoofing => SPOOFING_COUNTER,
        DoorName::Networks => counter::NETWORKS,
        DoorName::Published => counter::PUBLISHED,
        DoorName::Leaving => counter::LEAVING,
        DoorName::Dns => DNS_COUNTER,
    }
}

fn port_text((protocol, port): HostPort) -> String {
    format!("{port}/{protocol}")
}

fn place_text((address, port): Place) -> String {
    let port = port_text(port);
    address.map_or_else(|| port.clone(), |address| format!("{address}:{port}"))
}

/// What was refused of whom, or at which port.
fn counts(state: &State, kernel: &mut Kernel) -> Result<Vec<v1::DoorCount>, Error> {
    let mut counts = Vec::new();
    let by_port =
        |name: IfName, packets| Some(of_workload(DoorName::Spoofing, state.workload_behind(name)?, packets));
    let by_address = |bridge: IfName, ip, packets| {
        let bound = state.workload_at(ip).filter(|bound| bound.bridge == bridge)?;
        Some(of_workload(DoorName::Leaving, bound, packets))
    };
    let by_network = |bridge: IfName, packets| {
        let network = state.network_of(bridge)?;
        let door = v1::DoorName::Networks.into();
        let (name, user) = (network.bridge.to_string(), network.user.to_string());
        Some(v1::DoorCount { door, name, user, packets_total: packets, ..v1::DoorCount::default() })
    };
    let at_port = |port, packets| Some(of_published(state.published_at(port)?, packets));
    counts.extend(
        kernel.elements(SetName::Guarded, |element| {
            by_port(Parts(element.key).interface()?, element.packets)
        })?,
    );
    counts.extend(kernel.elements(SetName::Crossed, |element| {
        by_network(Parts(element.key).interface()?, element.packets)
    })?);
    counts.extend(kernel.elements(SetName::Tried, |element| {
        at_port(read_port_key(&mut Parts(element.key))?, element.packets)
    })?);
    counts.extend(kernel.elements(SetName::Leaving, |element| {
        let mut key = Parts(element.key);
        by_address(key.interface()?, key.ip()?, element.packets)
    })?);
    counts.retain(|count| count.packets_total > 0);
    Ok(counts)
}

fn of_workload(door: DoorName, Bound { workload, .. }: &Bound, packets: u64) -> v1::DoorCount {
    v1::DoorCount {
        door: v1::DoorName::from(door).into(),
        workload: workload.id.to_string(),
        name: workload.name.to_string(),
        user: user_text(workload.user.as_ref()),
        packets_total: packets,
        ..v1::DoorCount::default()
    }
}

fn of_published(published: &PublishedPort, packets: u64) -> v1::DoorCount {
    v1::DoorCount {
        door: v1::DoorName::Published.into(),
        port: port_text((published.protocol, published.port)),
        name: published.name.to_string(),
        user: user_text(published.user.as_ref()),
        packets_total: packets,
        ..v1::DoorCount::default()
    }
}

fn user_text(user: Option<&UserName>) -> String {
    user.map(ToString::to_string).unwrap_or_default()
}

/// Answers `ListNetworks`.
pub(super) fn networks(state: &State) -> v1::ListNetfilterNetworksResponse {
    v1::ListNetfilterNetworksResponse { networks: state.networks().map(Into::into).collect() }
}
