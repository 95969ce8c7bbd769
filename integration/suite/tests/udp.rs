//! Datagrams, from one container to another: to an instance, to the next when that is gone, and to nobody without a grant.

use std::{
    collections::HashSet,
    io::{ErrorKind, Result},
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use serde_json::Value;
use steppe_testbed::{Cluster, Container, Host, Run, Service, eventually};

use crate::common::{SOON, consume, reach::refused, vip};

/// A datagram that was not answered for so long is sent again.
const AGAIN: Duration = Duration::from_millis(20);
/// While a proxy is replaced a client asks again for so long at the most: a resolver does so after 5 s.
const GAP: Duration = Duration::from_secs(1);

/// A client that goes on and on from one port of a container.
struct Sender(UdpSocket);

impl Sender {
    fn new(from: &Container, to: SocketAddr) -> Self {
        let socket = from.enter(|| UdpSocket::bind(("0.0.0.0", 0))).expect("a port is free");
        socket.connect(to).expect("there is a route");
        socket.set_read_timeout(Some(AGAIN)).expect("it is a socket");
        Self(socket)
    }

    fn asks(&self) -> Result<String> {
        let mut name = [0; 64];
        let length = self.0.send(b"who\n").and_then(|_| self.0.recv(&mut name))?;
        Ok(String::from_utf8_lossy(&name[..length]).into_owned())
    }

    /// Asks until somebody answers, or somebody of that name.
    #[track_caller]
    fn answered(&self, by: Option<&str>) -> String {
        eventually(SOON, &format!("{by:?} answers"), || match self.asks() {
            Ok(name) if by.is_none_or(|by| by == name) => Ok(name),
            other => Err(format!("{other:?}")),
        })
    }

    /// Asks until it is told that it may not.
    #[track_caller]
    fn refused(&self) {
        eventually(SOON, "it is refused", || match self.asks() {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}

/// `dns-N`, which answers at port 53 with its name.
fn provide(host: &Host, name: &str) -> Container {
    host.docker.run(Run::serve_all(name, 53).label("steppe.service", "dns:53"))
}

/// What `steppe explain` says: its exit code, and the text.
fn explained(host: &Host, who: &str) -> (i32, String) {
    let explained = host.steppe(&["explain", who, "dns:53/udp"]);
    (explained.code, explained.stdout)
}

#[track_caller]
fn explains(host: &Host, who: &str, code: i32) {
    eventually(SOON, &format!("explain says {code} of {who}"), || match explained(host, who) {
        (said, _) if said == code => Ok(()),
        (said, text) => Err(format!("{said}: {text}")),
    });
}

/// Flows of the proxy.
fn flows(host: &Host) -> usize {
    let listed = host.grpcurl(&host.suite.proxy, &[], &["steppe.v1.Proxy/ListConnections"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap_or_default();
    listed["connections"].as_array().map_or(0, Vec::len)
}

#[test]
fn datagrams_go_to_an_instance_and_to_the_next_when_it_is_gone_and_nobody_elses_do() {
    let cluster = Cluster::hosts(2).start();
    let [a, b] = cluster.all();
    a.suite.start();
    let mut instances = vec![provide(a, "dns-1"), provide(a, "dns-2")];
    let api = consume(a, "api", "dns:53/udp");
    let stranger = a.docker.run(Run::idle("stranger"));
    let dns = vip(a, "dns", 53);

    let first = Sender::new(&api, dns);
    let name = first.answered(None);
    eventually(SOON, "both are asked", || {
        let names: HashSet<_> = (0..4).map(|_| Sender::new(&api, dns).answered(None)).collect();
        if names.len() == 2 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    for _ in 0..10 {
        assert_eq!(first.answered(None), name);
    }
    explains(a, "api", 0);
    Sender::new(&stranger, dns).refused();
    explains(a, "stranger", 1);
    // Nor is it a grant for TCP.
    refused(&api, dns);
    refused(&api, (dns.ip(), 54).into());

    // Who goes on sending is led to the other.
    let at = instances.iter().position(|instance| instance.name == name).expect("it is one of them");
    instances.remove(at).kill();
    let left = instances[0].name.clone();
    first.answered(Some(&left));
    explains(a, "api", 0);

    // On another host the published port is dialled.
    let far = b.docker.run(Run::serve_all("far-1", 53).publish_both(53, None, 24_053));
    b.consul.register(&Service::new("far").at(b.address, 24_053));
    let asks = consume(a, "asks", "far:53/udp");
    Sender::new(&asks, vip(a, "far", 53)).answered(Some("far-1"));
    drop(far);

    // A grant that goes takes its flows along, also of who goes on sending.
    a.consul.register(&Service::new("api").at(api.address(), 1));
    first.refused();
    Sender::new(&api, dns).refused();
    explains(a, "api", 1);
    cluster.assert_no_leak();
}

#[test]
fn who_goes_on_sending_hardly_notices_that_the_proxy_is_replaced_or_killed() {
    let cluster = Cluster::hosts(1).start();
    let a = cluster.one();
    a.suite.start();
    let instances = [provide(a, "dns-1"), provide(a, "dns-2")];
    let api = consume(a, "api", "dns:53/udp");
    let dns = vip(a, "dns", 53);
    let sender = Sender::new(&api, dns);
    sender.answered(None);

    for round in 0..2 {
        // A new one goes by the proxy, whatever the others do.
        let by_proxy = eventually(SOON, "the proxy has a flow", || {
            let sender = Sender::new(&api, dns);
            sender.answered(None);
            if flows(a) > 0 { Ok(sender) } else { Err("none") }
        });
        if round == 0 {
            assert!(a.suite.proxy.terminate(SOON).success());
        } else {
            a.suite.proxy.kill();
        }
        let away = Instant::now();
        for sender in [&sender, &by_proxy] {
            sender.answered(None);
        }
        assert!(away.elapsed() < GAP, "answered after {:?}", away.elapsed());
        a.suite.proxy.start();
        a.suite.wait_socket(&a.suite.proxy);
        for sender in [&sender, &by_proxy] {
            sender.answered(None);
        }
    }
    // Those who went past the proxy are led elsewhere as well when their instance is gone.
    let gone = sender.answered(None);
    let [one, other] = &instances;
    let (dead, left) = if one.name == gone { (one, other) } else { (other, one) };
    dead.kill();
    sender.answered(Some(&left.name));
    cluster.assert_no_leak();
}
