//! Where a listener's connections go.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddrV4,
    sync::Arc,
    time::Instant,
};

use steppe_model::{Endpoint, Listener};

use super::{LiveEndpoint, Pool};

/// Most endpoints that one pool may have: a rotation's size is bounded by a hundred times this.
pub(crate) const MAX_ENDPOINTS: usize = 4096;

/// A listener's endpoints, pooled by the port that was dialled.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    default: Arc<Pool>,
    routes: HashMap<u16, Arc<Pool>>,
    every_port: bool,
    proxy_protocol: bool,
}

impl Targets {
    /// What `listener` says, going on where `previous` was. `live` are its endpoints so far, and then also the new ones.
    pub(crate) fn new(listener: &Listener, previous: &Self, live: &mut Vec<Arc<LiveEndpoint>>) -> Self {
        let default = Arc::new(pool(&listener.endpoints, &previous.default, live));
        let none = Arc::default();
        let routes = listener
            .routes
            .iter()
            .map(|route| {
                let previous = previous.routes.get(&route.port).unwrap_or(&none);
                (route.port, Arc::new(pool(&route.endpoints, previous, live)))
            })
            .collect();
        Self {
            default,
            routes,
            every_port: listener.key.port.number.is_none(),
            proxy_protocol: listener.proxy_protocol,
        }
    }

    /// Whether the dialled address must be known to serve a connection: asking for it costs a system call.
    pub(crate) fn need_dialled(&self) -> bool {
        self.every_port || self.proxy_protocol
    }

    /// Whether the instance is told who called.
    pub(crate) fn proxy_protocol(&self) -> bool {
        self.proxy_protocol
    }

    /// The endpoints for a connection; with a listener for every port, to the port that was dialled.
    pub(crate) fn pool(&self, dialled: Option<u16>) -> &Arc<Pool> {
        let route = dialled.filter(|_| self.every_port).and_then(|port| self.routes.get(&port));
        route.unwrap_or(&self.default)
    }

    /// Where all its endpoints are.
    pub(crate) fn endpoints(&self) -> HashSet<SocketAddrV4> {
        self.pools().flat_map(Pool::addresses).collect()
    }

    /// Every pool.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.routes.values().chain([&self.default]).map(|pool| &**pool)
    }

    /// Milliseconds for which an endpoint is still ejected from any of its pools.
    pub(crate) fn ejected_for_ms(&self, endpoint: &Arc<LiveEndpoint>, now: Instant) -> u64 {
        let longest = self.pools().filter_map(|pool| pool.ejected_for(endpoint, now)).max();
        // 0 means that it is in use, and one whose time is just over is not yet.
        longest.map_or(0, |left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1))
    }
}

fn pool(endpoints: &[Endpoint], previous: &Pool, live: &mut Vec<Arc<LiveEndpoint>>) -> Pool {
    let mut named = HashSet::<SocketAddrV4>::new();
    let members = endpoints
        .iter()
        // An instance that is registered twice gets one share.
        .filter(|endpoint| named.insert(endpoint.address))
        .map(|endpoint| (find_or_add(endpoint, live), endpoint.weight))
        .collect();
    Pool::new(members, previous)
}

fn find_or_add(endpoint: &Endpoint, live: &mut Vec<Arc<LiveEndpoint>>) -> Arc<LiveEndpoint> {
    let same = |known: &&Arc<LiveEndpoint>| known.address == endpoint.address && known.node == endpoint.node;
    if let Some(known) = live.iter().find(same) {
        return known.clone();
    }
    let new = Arc::new(LiveEndpoint::new(endpoint.address, endpoint.node.clone()));
    live.push(new.clone());
    new
}

#[cfg(test)]
mod tests {
    use steppe_model::{ListenerKey, Protocol, Route, ServiceKey, VirtualPort};

    use super::*;
    use crate::balance::Tried;

    fn endpoints(ports: &[u16]) -> Vec<Endpoint> {
        let endpoint = |port| Endpoint {
            address: SocketAddrV4::new([10, 0, 0, 1].into(), port),
            weight: 1,
            node: "n".into(),
        };
        ports.iter().map(|&port| endpoint(port)).collect()
    }

    fn listener(port: u16) -> Listener {
        let service = ServiceKey { user: None, name: "web".parse().unwrap(), tag: None };
        Listener {
            key: ListenerKey { service, port: VirtualPort::new(Protocol::Tcp, port) },
            address: "127.0.0.1:17000".parse().unwrap(),
            endpoints: endpoints(&[1]),
            routes: vec![],
            proxy_protocol: false,
        }
    }

    fn picked(targets: &Targets, dialled: Option<u16>) -> Option<u16> {
        let pool = targets.pool(dialled);
        pool.pick(&Tried::default()).map(|member| pool.endpoint(member).address.port())
    }

    #[test]
    fn the_dialled_port_decides_only_where_every_port_is_served() {
        let mut every = listener(0);
        every.routes =
            vec![Route { port: 80, endpoints: endpoints(&[2]) }, Route { port: 81, endpoints: vec![] }];
        let targets = Targets::new(&every, &Targets::default(), &mut vec![]);
        assert!(targets.need_dialled());
        assert_eq!(picked(&targets, Some(80)), Some(2));
        assert_eq!(picked(&targets, Some(81)), None);
        assert_eq!(picked(&targets, Some(82)), Some(1));
        assert_eq!(picked(&targets, None), Some(1));
        assert!(!Targets::new(&listener(80), &targets, &mut vec![]).need_dialled());
    }

    #[test]
    fn an_endpoint_named_twice_has_one_share_and_keeps_its_counters() {
        let mut twice = listener(80);
        twice.endpoints = endpoints(&[1, 2, 1]);
        let mut live = vec![];
        let targets = Targets::new(&twice, &Targets::default(), &mut live);
        assert_eq!(live.len(), 2);
        let picks: Vec<_> = (0..4).map(|_| picked(&targets, None).unwrap()).collect();
        assert_eq!(picks, [1, 2, 1, 2]);
        Targets::new(&listener(80), &targets, &mut live);
        assert_eq!(live.len(), 2);
    }
}
