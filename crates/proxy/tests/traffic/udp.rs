//! Datagrams.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::Signal;
use steppe_api::v1;
use steppe_model::{Listener, Protocol, Resource, VirtualPort};

use crate::{
    control::{client, listener},
    net::{Net, PATIENCE, soon, v4},
    process::{Proxy, RunDir},
};

/// After so long nothing comes any more, on a loaded machine too.
const SILENCE: Duration = Duration::from_millis(300);

/// Sends back what it gets, its name ahead, until it is dropped.
struct Endpoint {
    address: SocketAddrV4,
    heard: Arc<AtomicUsize>,
    stop: UdpSocket,
    thread: Option<thread::JoinHandle<()>>,
}

impl Endpoint {
    fn new(net: Net, name: u8) -> Self {
        let socket = UdpSocket::bind((net.ip(10), 0)).unwrap();
        let stop = UdpSocket::bind((net.ip(11), 0)).unwrap();
        let (stop_from, heard) = (stop.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let address = v4(socket.local_addr().unwrap());
        let count = heard.clone();
        let thread = thread::spawn(move || {
            let mut buffer = vec![name; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer[1..]) {
                if from == stop_from {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                // Nothing is larger than the largest datagram: that one comes back without the name.
                let answer = if length == LARGEST { &buffer[1..=length] } else { &buffer[..=length] };
                let _ = socket.send_to(answer, from);
            }
        });
        Self { address, heard, stop, thread: Some(thread) }
    }

    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.send_to(b"", self.address).unwrap();
        let _ = self.thread.take().unwrap().join();
    }
}

/// What a datagram over IPv4 carries at the most.
const LARGEST: usize = 65_507;

/// A client's socket, which hears `to` alone.
fn socket(from: Ipv4Addr, to: SocketAddrV4) -> UdpSocket {
    let socket = UdpSocket::bind((from, 0)).unwrap();
    socket.connect(to).unwrap();
    socket
}

/// Asks until there is an answer: the name of who gave it. A datagram may be lost.
fn asked(socket: &UdpSocket) -> u8 {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::time::Instant::now() < deadline {
        let mut answer = [0; 3];
        let _ = socket.send(b"?");
        if let Ok(length) = socket.recv(&mut answer) {
            assert_eq!((length, answer[1]), (2, b'?'));
            return answer[0];
        }
    }
    panic!("an answer should have come by now")
}

fn hears_nothing(socket: &UdpSocket) {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    assert!(matches!(error.kind(), std::io::ErrorKind::WouldBlock), "{error}");
}

fn dns(at: SocketAddrV4, endpoints: &[SocketAddrV4]) -> Listener {
    let mut dns = listener("dns", at, endpoints);
    dns.key.port = VirtualPort::new(Protocol::Udp, 53);
    dns
}

#[tokio::test]
async fn answers_come_from_where_was_dialled_and_a_flow_stays_with_its_endpoint() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoints = [b'a', b'b', b'c'].map(|name| Endpoint::new(net, name));
    let at = net.free();
    let dns = Resource::Listener(dns(at, &endpoints.each_ref().map(|endpoint| endpoint.address)));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let clients: Vec<_> = (0..30).map(|_| socket(net.client(), at)).collect();
    let names: Vec<_> = clients.iter().map(asked).collect();
    for name in [b'a', b'b', b'c'] {
        assert_eq!(names.iter().filter(|answered| **answered == name).count(), 10);
    }
    for _ in 0..3 {
        assert_eq!(clients.iter().map(asked).collect::<Vec<_>>(), names);
    }
    let state = control.listener_state(&dns).await;
    assert_eq!((state.accepted_total, state.active, state.failed_total), (30, 30, 0));
    for endpoint in &state.endpoints {
        assert_eq!((endpoint.connected_total, endpoint.active), (10, 10));
    }
    let listed = control.connections(25).await;
    assert_eq!((listed.connections.len(), listed.left_off), (25, 5));
    let flow = &listed.connections[0];
    assert_eq!((flow.listener.as_str(), flow.bytes_to_endpoint, flow.bytes_to_client), ("dns:53/udp", 4, 8));
    assert_eq!(control.status().await.active_connections, 30);
}

#[tokio::test]
async fn datagrams_of_any_size_pass_whole() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let socket = socket(net.client(), at);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = vec![0; 65_536];
    for size in [0, 1, 512, 1_199, 1_200, 1_472, 9_000, LARGEST] {
        let sent: Vec<_> = (0..size).map(|i| (i * 7 + size) as u8).collect();
        socket.send(&sent).unwrap();
        let length = socket.recv(&mut answer).unwrap();
        let expected = if size == LARGEST { sent } else { [b"a", sent.as_slice()].concat() };
        assert!(answer[..length] == expected, "{size} bytes came back as {length}");
    }
}

#[tokio::test]
async fn many_answers_to_one_question_all_come() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = UdpSocket::bind((net.ip(10), 0)).unwrap();
    endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[v4(endpoint.local_addr().unwrap())]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let socket = socket(net.client(), at);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for size in [1, 1_400] {
        socket.send(b"?").unwrap();
        let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap();
        for n in 0..40 {
            endpoint.send_to(&vec![n; size], from).unwrap();
        }
        for n in 0..40 {
            let mut answer = [0; 1_500];
            assert_eq!(socket.recv(&mut answer).unwrap(), size);
            assert_eq!(answer[0], n);
        }
    }
}

#[tokio::test]
async fn a_stranger_is_not_heard_and_who_lost_the_grant_no_longer() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    let (revoked, kept) = (client(&dns, net.client()), client(&dns, net.ip(3)));
    control.upsert(&[dns.clone(), revoked.clone(), kept]).await;
    let (own, other, stranger) = (socket(net.client(), at), socket(net.ip(3), at), socket(net.ip(4), at));
    assert_eq!((asked(&own), asked(&other)), (b'a', b'a'));
    let heard = endpoint.heard();
    stranger.send(b"?").unwrap();
    control.until(&dns, |state| state.refused_total == 1).await;
    let watch = v1::WatchConnectionsRequest::default();
    let mut ends = soon(control.client.watch_connections(watch)).await.unwrap().into_inner();
    control.remove(&revoked).await;
    let ended = soon(ends.message()).await.unwrap().unwrap();
    assert_eq!(ended.ended, "grant revoked");
    assert_eq!(ended.connection.unwrap().client, Some(v4(own.local_addr().unwrap()).into()));
    own.send(b"?").unwrap();
    let state = control.until(&dns, |state| state.refused_total == 2).await;
    assert_eq!((state.active, state.accepted_total), (1, 2));
    assert_eq!(endpoint.heard(), heard);
    assert_eq!(asked(&other), b'a');
    hears_nothing(&own);
}

#[tokio::test]
async fn what_an_endpoint_says_reaches_nobody_who_lost_the_grant() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = UdpSocket::bind((net.ip(10), 0)).unwrap();
    endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[v4(endpoint.local_addr().unwrap())]));
    let granted = client(&dns, net.client());
    control.upsert(&[dns.clone(), granted.clone()]).await;
    let socket = socket(net.client(), at);
    socket.send(b"?").unwrap();
    let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap();
    control.remove(&granted).await;
    let _ = endpoint.send_to(b"late", from);
    hears_nothing(&socket);
}

#[tokio::test]
async fn the_flows_of_an_endpoint_that_leaves_go_to_another() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (a, b) = (Endpoint::new(net, b'a'), Endpoint::new(net, b'b'));
    let at = net.free();
    let both = Resource::Listener(dns(at, &[a.address, b.address]));
    control.upsert(&[both.clone(), client(&both, net.client())]).await;
    let clients: Vec<_> = (0..10).map(|_| socket(net.client(), at)).collect();
    let names: Vec<_> = clients.iter().map(asked).collect();
    let from_b = names.iter().filter(|name| **name == b'b').count() as u64;
    assert_eq!(from_b, 5);
    control.upsert(&[Resource::Listener(dns(at, &[b.address]))]).await;
    let state = control.listener_state(&both).await;
    // It lives still, and its flows have ended all the same.
    assert_eq!((state.active, state.endpoints.len()), (from_b, 1));
    let heard = a.heard();
    assert!(clients.iter().all(|client| asked(client) == b'b'));
    assert_eq!(a.heard(), heard);
    // Those of the other have stayed.
    let state = control.listener_state(&both).await;
    assert_eq!((state.accepted_total, state.active), (15, 10));
    // Without any endpoint nothing is answered, and with one it is again.
    control.upsert(&[Resource::Listener(dns(at, &[]))]).await;
    clients[0].send(b"?").unwrap();
    control.until(&both, |state| state.failed_total == 1 && state.active == 0).await;
    control.upsert(&[Resource::Listener(dns(at, &[a.address]))]).await;
    assert_eq!(asked(&clients[0]), b'a');
    // With the listener everything ends.
    control.remove(&both).await;
    assert_eq!(control.status().await.active_connections, 0);
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over_and_ejected() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (dead, alive) = (Endpoint::new(net, b'd'), Endpoint::new(net, b'a'));
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[dead.address, alive.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let clients: Vec<_> = (0..20).map(|_| socket(net.client(), at)).collect();
    let names: Vec<_> = clients.iter().map(asked).collect();
    assert!(names.contains(&b'd') && names.contains(&b'a'));
    let gone = dead.address;
    drop(dead);
    // Who was with the dead one is with the other after the datagram that found it dead.
    assert!(clients.iter().all(|client| asked(client) == b'a'));
    let state = control.listener_state(&dns).await;
    assert_eq!((state.active, state.accepted_total), (20, 20));
    let dead = state.endpoints.iter().find(|endpoint| endpoint.address == Some(gone.into())).unwrap();
    assert!(dead.ejected_for_ms > 0 && dead.last_error.contains("refused"), "{dead:?}");
    assert!(dead.failed_total >= 5 && state.retried_total >= 10, "{state:?}");
    // No new flow goes there.
    let tried = dead.failed_total;
    assert!((0..10).all(|_| asked(&socket(net.client(), at)) == b'a'));
    let state = control.listener_state(&dns).await;
    let dead = state.endpoints.iter().find(|endpoint| endpoint.address == Some(gone.into())).unwrap();
    assert_eq!(dead.failed_total, tried);
}

#[tokio::test]
async fn the_only_endpoint_is_asked_again_when_it_is_back() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = UdpSocket::bind((net.ip(10), 0)).unwrap();
    let (at, address) = (net.free(), v4(endpoint.local_addr().unwrap()));
    drop(endpoint);
    let dns = Resource::Listener(dns(at, &[address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let client = socket(net.client(), at);
    for n in 1..=8 {
        client.send(b"?").unwrap();
        control.until(&dns, |state| state.endpoints[0].failed_total >= n).await;
    }
    let endpoint = UdpSocket::bind(address).unwrap();
    endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"!").unwrap();
    let mut heard = [0; 8];
    while endpoint.recv_from(&mut heard).unwrap().0 != 1 || heard[0] != b'!' {}
}

#[tokio::test]
async fn a_flow_ends_when_it_is_idle_and_begins_anew() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &["--udp-idle-timeout", "50ms"]).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let watch = v1::WatchConnectionsRequest { service: "dns".into() };
    let mut ends = soon(control.client.watch_connections(watch)).await.unwrap().into_inner();
    let socket = socket(net.client(), at);
    for _ in 0..3 {
        assert_eq!(asked(&socket), b'a');
        let ended = soon(ends.message()).await.unwrap().unwrap();
        assert_eq!(ended.ended, "idle");
        assert!(ended.connection.unwrap().age_ms >= 50);
        assert_eq!(control.listener_state(&dns).await.active, 0);
    }
}

#[tokio::test]
async fn who_opens_flows_without_end_displaces_his_own_alone() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start_with_descriptors(&dir, 160).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client()), client(&dns, net.ip(3))]).await;
    let honest = socket(net.ip(3), at);
    assert_eq!(asked(&honest), b'a');
    let flow_of = |listed: v1::ListConnectionsResponse| {
        let own = Some(v4(honest.local_addr().unwrap()).into());
        listed.connections.into_iter().find(|flow| flow.client == own).map(|flow| flow.id)
    };
    let id = flow_of(control.connections(0).await);
    assert!(id.is_some());
    let greedy: Vec<_> = (0..200).map(|_| socket(net.client(), at)).collect();
    let answers: HashSet<_> = greedy.iter().map(asked).collect();
    assert_eq!(answers, [b'a'].into());
    let state = control.listener_state(&dns).await;
    assert!(state.accepted_total >= 201, "{state:?}");
    // A quarter of 160 less the reserve of 64 are 24 flows, 12 a worker, of which one client may have three.
    assert_eq!(state.active, 7);
    assert_eq!(flow_of(control.connections(0).await), id);
    assert_eq!(asked(&honest), b'a');
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_room_and_no_trace() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let own = socket(net.client(), at);
    assert_eq!(asked(&own), b'a');
    let strangers: Vec<_> = (0..20).map(|_| socket(net.ip(4), at)).collect();
    for n in 0..20_000 {
        let _ = strangers[n % strangers.len()].send(&[n as u8; 100]);
        if n % 4_000 == 0 {
            assert_eq!(asked(&own), b'a');
        }
    }
    assert_eq!(asked(&own), b'a');
    let state = control.listener_state(&dns).await;
    assert_eq!((state.accepted_total, state.active), (1, 1));
    assert!(state.refused_total > 1_000, "{}", state.refused_total);
}

#[tokio::test]
async fn nobody_but_the_endpoint_can_answer() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = UdpSocket::bind((net.ip(10), 0)).unwrap();
    endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[v4(endpoint.local_addr().unwrap())]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let socket = socket(net.client(), at);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(b"?").unwrap();
    let (_, from) = endpoint.recv_from(&mut [0; 8]).unwrap();
    let liar = UdpSocket::bind((net.ip(12), 0)).unwrap();
    liar.send_to(b"lie", from).unwrap();
    endpoint.send_to(b"truth", from).unwrap();
    let mut answer = [0; 8];
    assert_eq!((socket.recv(&mut answer).unwrap(), &answer[..5]), (5, &b"truth"[..]));
}

#[tokio::test]
async fn told_to_stop_it_does_not_wait_for_flows() {
    let (net, dir) = (Net::new(), RunDir::new());
    let mut proxy = Proxy::start(&dir, &["--drain-timeout", "1h"]).await;
    let mut control = proxy.control().await;
    let endpoint = Endpoint::new(net, b'a');
    let at = net.free();
    let dns = Resource::Listener(dns(at, &[endpoint.address]));
    control.upsert(&[dns.clone(), client(&dns, net.client())]).await;
    let socket = socket(net.client(), at);
    assert_eq!(asked(&socket), b'a');
    proxy.signal(Signal::TERM);
    control.until_draining().await;
    // Until it is relieved it goes on.
    assert_eq!(asked(&socket), b'a');
    control.relieve().await;
    assert!(soon(proxy.exit()).await.success());
}
