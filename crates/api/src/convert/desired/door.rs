//! Doors and published ports.

use std::collections::{BTreeMap, BTreeSet};

use steppe_model::{DoorMode, DoorName, Doors, Expose, PublishedPort, WorkloadId};

use super::{
    super::{FieldError, ipv4, port, protocol, text},
    optional, or_empty, shown_name,
};
use crate::v1;

/// Most peers, and most uids, that are taken.
const LIST: usize = 1_024;

impl TryFrom<v1::PublishedPort> for PublishedPort {
    type Error = FieldError;

    fn try_from(wire: v1::PublishedPort) -> Result<Self, FieldError> {
        let expose = match wire.expose() {
            v1::Expose::Proxies => Expose::Proxies,
            v1::Expose::Host => Expose::Host,
            v1::Expose::Cluster => Expose::Cluster,
            v1::Expose::Public => Expose::Public,
            v1::Expose::Unspecified => return Err(FieldError::new("expose", "is none that is known")),
        };
        if wire.addresses.len() > Self::ADDRESSES {
            return Err(FieldError::new("addresses", format!("{} at most are expected", Self::ADDRESSES)));
        }
        let addresses = wire.addresses.iter().map(|address| ipv4("addresses", address));
        let addresses = addresses.collect::<Result<_, _>>()?;
        Ok(Self {
            protocol: protocol(wire.protocol)?,
            port: port("port", wire.port)?,
            workload: (!wire.workload.is_empty()).then(|| WorkloadId::new(&wire.workload)),
            expose,
            name: shown_name(&wire.name),
            user: optional("user", &wire.user)?,
            addresses,
        })
    }
}

impl From<&PublishedPort> for v1::PublishedPort {
    fn from(published: &PublishedPort) -> Self {
        let expose = match published.expose {
            Expose::Proxies => v1::Expose::Proxies,
            Expose::Host => v1::Expose::Host,
            Expose::Cluster => v1::Expose::Cluster,
            Expose::Public => v1::Expose::Public,
        };
        Self {
            protocol: v1::Protocol::from(published.protocol).into(),
            port: published.port.into(),
            workload: or_empty(published.workload.as_ref()),
            expose: expose.into(),
            name: published.name.to_string(),
            user: or_empty(published.user.as_ref()),
            addresses: published.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<DoorName> for v1::DoorName {
    fn from(name: DoorName) -> Self {
        match name {
            DoorName::Spoofing => Self::Spoofing,
            DoorName::Networks => Self::Networks,
            DoorName::Published => Self::Published,
            DoorName::Leaving => Self::Leaving,
            DoorName::Dns => Self::Dns,
        }
    }
}

impl From<DoorMode> for v1::DoorMode {
    fn from(mode: DoorMode) -> Self {
        match mode {
            DoorMode::Enforce => Self::Enforce,
            DoorMode::Audit => Self::Audit,
            DoorMode::Off => Self::Off,
        }
    }
}

fn door(wire: &v1::Door) -> Result<(DoorName, DoorMode), FieldError> {
    let name = match wire.name() {
        v1::DoorName::Spoofing => DoorName::Spoofing,
        v1::DoorName::Networks => DoorName::Networks,
        v1::DoorName::Published => DoorName::Published,
        v1::DoorName::Leaving => DoorName::Leaving,
        v1::DoorName::Dns => DoorName::Dns,
        v1::DoorName::Unspecified => return Err(FieldError::new("name", "is none that is known")),
    };
    let mode = match wire.mode() {
        v1::DoorMode::Enforce => DoorMode::Enforce,
        v1::DoorMode::Audit => DoorMode::Audit,
        v1::DoorMode::Off => DoorMode::Off,
        v1::DoorMode::Unspecified => return Err(FieldError::new("mode", "is none that is known")),
    };
    Ok((name, mode))
}

impl TryFrom<v1::Doors> for Doors {
    type Error = FieldError;

    fn try_from(wire: v1::Doors) -> Result<Self, FieldError> {
        if wire.peers.len() > LIST || wire.local_uids.len() > LIST {
            return Err(FieldError::new("peers, local_uids", format!("{LIST} of each at most are expected")));
        }
        let door = |(i, wire): (usize, &v1::Door)| door(wire).map_err(|e| e.within(&format!("doors[{i}]")));
        let modes = wire.doors.iter().enumerate().map(door).collect::<Result<BTreeMap<_, _>, _>>()?;
        let peers = wire.peers.iter().map(|peer| text("peers", peer)).collect::<Result<BTreeSet<_>, _>>()?;
        let local_uids: BTreeSet<u32> = wire.local_uids.into_iter().collect();
        let first = port("first_published_port", wire.first_published_port)?;
        let last = port("last_published_port", wire.last_published_port)?;
        if first > last {
            return Err(FieldError::new("last_published_port", "is less than the first"));
        }
        Ok(Self {
            modes,
            peers: peers.into_iter().collect(),
            local_uids: local_uids.into_iter().collect(),
            published_ports: first..=last,
        })
    }
}

impl From<&Doors> for v1::Doors {
    fn from(doors: &Doors) -> Self {
        let door = |(name, mode): (&DoorName, &DoorMode)| v1::Door {
            name: v1::DoorName::from(*name).into(),
            mode: v1::DoorMode::from(*mode).into(),
        };
        Self {
            doors: doors.modes.iter().map(door).collect(),
            peers: doors.peers.iter().map(ToString::to_string).collect(),
            local_uids: doors.local_uids.clone(),
            first_published_port: (*doors.published_ports.start()).into(),
            last_published_port: (*doors.published_ports.end()).into(),
        }
    }
}
