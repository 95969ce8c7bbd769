//! Where connections go.

use std::{collections::HashMap, net::SocketAddrV4};

use steppe_model::{Resource, Route, VirtualPort};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use crate::{
    control::{client, listener},
    net::{Endpoint, Net, expect_refusal, read_all, soon, v4},
    process::{Proxy, RunDir},
};

async fn spread(net: Net, at: SocketAddrV4, connections: usize) -> HashMap<u8, usize> {
    let mut spread = HashMap::new();
    for _ in 0..connections {
        let (bytes, ended) = read_all(&mut net.dial(at).await.unwrap()).await;
        ended.unwrap();
        *spread.entry(bytes[0]).or_default() += 1;
    }
    spread
}

async fn named(net: Net, names: &[u8]) -> (Vec<Endpoint>, Vec<SocketAddrV4>) {
    let mut endpoints = vec![];
    for &name in names {
        endpoints.push(net.named_endpoint(name).await);
    }
    let addresses = endpoints.iter().map(|endpoint| endpoint.address).collect();
    (endpoints, addresses)
}

#[tokio::test]
async fn connections_go_round_evenly_whichever_worker_takes_them() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (_endpoints, addresses) = named(net, b"abc").await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &addresses));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    assert_eq!(spread(net, at, 30).await, HashMap::from([(b'a', 10), (b'b', 10), (b'c', 10)]));
    let state = control.listener_state(&web).await;
    assert_eq!(state.accepted_total, 30);
    assert!(state.endpoints.iter().all(|endpoint| endpoint.connected_total == 10));
}

#[tokio::test]
async fn weights_are_kept() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (_endpoints, addresses) = named(net, b"ab").await;
    let at = net.free();
    let mut web = listener("web", at, &addresses);
    web.endpoints[0].weight = 3;
    let web = Resource::Listener(web);
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    assert_eq!(spread(net, at, 40).await, HashMap::from([(b'a', 30), (b'b', 10)]));
}

#[tokio::test]
async fn a_dead_endpoint_costs_the_client_nothing_and_is_ejected() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (_endpoints, mut addresses) = named(net, b"ab").await;
    let dead = net.free();
    addresses.insert(1, dead);
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &addresses));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let spread = spread(net, at, 40).await;
    assert_eq!(spread.values().sum::<usize>(), 40);
    assert!(spread.values().all(|&count| count >= 15), "{spread:?}");
    let state = control.listener_state(&web).await;
    assert_eq!((state.failed_total, state.retried_total), (0, 5));
    let ejected = state.endpoints.iter().find(|endpoint| endpoint.address == Some(dead.into())).unwrap();
    assert_eq!((ejected.failed_total, ejected.connected_total), (5, 0));
    assert!((1..=30_000).contains(&ejected.ejected_for_ms), "{ejected:?}");
    assert!(ejected.last_error.contains("refused"), "{ejected:?}");
}

#[tokio::test]
async fn when_nobody_answers_the_client_is_reset() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (at, empty_at) = (net.free(), net.free());
    let dead = [net.free(), net.free()];
    let web = Resource::Listener(listener("web", at, &dead));
    let empty = Resource::Listener(listener("empty", empty_at, &[]));
    control
        .upsert(&[web.clone(), empty.clone(), client(&web, net.client()), client(&empty, net.client())])
        .await;
    // Also when both are ejected: an endpoint that is back should be found.
    for _ in 0..12 {
        expect_refusal(net.client(), at).await;
        expect_refusal(net.client(), empty_at).await;
    }
    let state = control.listener_state(&web).await;
    assert_eq!((state.failed_total, state.retried_total, state.active), (12, 12, 0));
    assert!(state.endpoints.iter().all(|endpoint| endpoint.failed_total == 12), "{state:?}");
    assert_eq!(control.listener_state(&empty).await.failed_total, 12);
}

#[tokio::test]
async fn a_silent_endpoint_is_given_up() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &["--connect-timeout", "50ms"]).await;
    let mut control = proxy.control().await;
    // A full queue: Linux lets further SYNs go unanswered.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind((net.ip(20), 0).into()).unwrap();
    let silent = silent.listen(1).unwrap();
    let silent_at = v4(silent.local_addr().unwrap());
    let mut queue = vec![];
    while let Ok(connected) =
        tokio::time::timeout(std::time::Duration::from_millis(300), net.dial(silent_at)).await
    {
        queue.push(connected.unwrap());
    }
    let endpoint = net.named_endpoint(b'a').await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[silent_at, endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    assert_eq!(spread(net, at, 4).await, HashMap::from([(b'a', 4)]));
    let state = control.listener_state(&web).await;
    assert_eq!((state.failed_total, state.retried_total), (0, 2));
    assert!(state.endpoints[0].last_error.contains("timed out"), "{state:?}");
}

#[tokio::test]
async fn the_instance_is_told_who_called() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let mut web = listener("web", at, &[address]);
    web.proxy_protocol = true;
    let web = Resource::Listener(web);
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let mut near = net.dial(at).await.unwrap();
    near.write_all(b"hello").await.unwrap();
    let mut far = soon(endpoint.accept()).await.unwrap().0;
    let mut got = [0; 33];
    soon(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(got[16..20], net.client().octets());
    assert_eq!(got[20..24], at.ip().octets());
    assert_eq!(got[24..26], near.local_addr().unwrap().port().to_be_bytes());
    assert_eq!(got[26..28], at.port().to_be_bytes());
    assert_eq!(&got[28..], b"hello");
}

#[tokio::test]
async fn a_listener_for_every_port_goes_by_the_dialled_one() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoints, _) = named(net, b"ab").await;
    let (other_at, routed_at) = (net.free(), net.free());
    // Without a rule in between, the port that is dialled is the listener's own.
    let every = |name, at: SocketAddrV4, routed: u16| {
        let mut every = listener(name, at, &[endpoints[0].address]);
        every.key.port = VirtualPort::ANY;
        let route = listener(name, at, &[endpoints[1].address]).endpoints;
        every.routes = vec![Route { port: routed, endpoints: route }];
        Resource::Listener(every)
    };
    let other = every("other", other_at, other_at.port() ^ 1);
    let routed = every("routed", routed_at, routed_at.port());
    control
        .upsert(&[other.clone(), routed.clone(), client(&other, net.client()), client(&routed, net.client())])
        .await;
    assert_eq!(spread(net, other_at, 3).await, HashMap::from([(b'a', 3)]));
    assert_eq!(spread(net, routed_at, 3).await, HashMap::from([(b'b', 3)]));
}
