//! Behind a rule that turns a virtual address to a listener, as the netfilter-agent's do. In a network namespace of its own.

use std::{net::SocketAddrV4, process::Command};

use rustix::process::geteuid;
use steppe_model::{Resource, Route, VirtualPort};
use tokio::io::AsyncReadExt as _;

use crate::{
    control::{client, listener},
    net::{Net, read_all, soon},
    process::{Proxy, RunDir},
};

const INSIDE: &str = "STEPPE_TEST_INSIDE_NAMESPACE";
const VIP: [u8; 4] = [247, 1, 2, 3];

/// Runs a test of this binary once more, in a new network namespace, which goes when it ends.
fn run_in_namespace(test: &str) {
    let mut unshare = Command::new("unshare");
    if !geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    // Its output is kept for the failure: a summary in the middle of the outer one would end that for whoever reads it.
    let output = unshare
        .args(["--net", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare (of util-linux) is needed");
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "inside the namespace: {}\n{}",
        output.status,
        String::from_utf8_lossy(&said)
    );
}

fn command(line: &str) {
    let mut words = line.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap_or_else(|error| panic!("`{line}` is needed: {error}")).success(), "{line}");
}

#[test]
fn the_dialled_port_decides_and_the_dialled_address_is_told() {
    if std::env::var_os(INSIDE).is_none() {
        return run_in_namespace("dnat::the_dialled_port_decides_and_the_dialled_address_is_told");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    command("ip link set lo up");
    command("ip address add 247.1.2.3/32 dev lo");
    runtime.block_on(inside());
}

async fn inside() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (a, b) = (net.named_endpoint(b'a').await, net.named_endpoint(b'b').await);
    let (told, told_at) = net.listen().await;
    let at = net.free();
    let endpoints = |address| listener("redis", at, &[address]).endpoints;
    let mut redis = listener("redis", at, &[a.address]);
    redis.key.port = VirtualPort::ANY;
    redis.routes =
        vec![Route { port: 6379, endpoints: endpoints(b.address) }, Route { port: 7000, endpoints: vec![] }];
    let redis = Resource::Listener(redis);
    control.upsert(&[redis.clone(), client(&redis, net.client())]).await;

    command("nft add table ip steppe_test");
    command("nft add chain ip steppe_test out { type nat hook output priority -100 ; }");
    command(&format!("nft add rule ip steppe_test out ip daddr 247.1.2.3 tcp dport 1-65535 dnat to {at}"));

    let vip = |port| SocketAddrV4::new(VIP.into(), port);
    for (port, name) in [(6379, b"b"), (80, b"a"), (65535, b"a"), (1, b"a")] {
        let (bytes, ended) = read_all(&mut net.dial(vip(port)).await.unwrap()).await;
        assert_eq!((bytes.as_slice(), ended.is_ok()), (name.as_slice(), true), "port {port}");
    }
    crate::net::expect_refusal(net.client(), vip(7000)).await;
    crate::net::expect_refusal(net.ip(3), vip(6379)).await;

    let mut header = listener("redis", at, &[told_at]);
    header.key.port = VirtualPort::ANY;
    header.proxy_protocol = true;
    control.upsert(&[Resource::Listener(header)]).await;
    let near = net.dial(vip(8080)).await.unwrap();
    let mut far = soon(told.accept()).await.unwrap().0;
    let mut got = [0; 28];
    soon(far.read_exact(&mut got)).await.unwrap();
    assert_eq!(got[16..20], net.client().octets());
    assert_eq!(got[20..24], VIP);
    assert_eq!(got[24..26], near.local_addr().unwrap().port().to_be_bytes());
    assert_eq!(got[26..28], 8080u16.to_be_bytes());
}
