//! Starting, stopping, being killed.

use rustix::process::Signal;
use steppe_api::uds;
use steppe_model::Resource;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    control::{client, listener},
    net::{Net, echoed, expect_reset, soon},
    process::{Proxy, RunDir, run},
};

#[tokio::test]
async fn told_to_stop_it_lets_open_connections_end_and_takes_no_new_ones() {
    let (net, dir) = (Net::new(), RunDir::new());
    let mut proxy = Proxy::start(&dir, &["--drain-timeout", "1h"]).await;
    let mut control = proxy.control().await;
    assert_eq!(health(&dir).await, ServingStatus::Serving);
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    let other = client(&web, net.ip(3));
    control.upsert(&[web.clone(), client(&web, net.client()), other.clone()]).await;
    let mut connection = net.dial(at).await.unwrap();
    let mut others = crate::net::dial_from(net.ip(3), at).await.unwrap();
    assert_eq!(echoed(&mut connection, b"1").await.unwrap(), b"1");
    assert_eq!(echoed(&mut others, b"1").await.unwrap(), b"1");

    proxy.signal(Signal::TERM);
    control.until_draining().await;
    assert_eq!(echoed(&mut net.dial(at).await.unwrap(), b"still there").await.unwrap(), b"still there");
    assert!(control.status().await.draining);
    control.relieve().await;
    soon(async { while net.dial(at).await.is_ok() {} }).await;
    assert_eq!(health(&dir).await, ServingStatus::NotServing);
    assert_eq!(echoed(&mut connection, b"2").await.unwrap(), b"2");
    // Grants can still be revoked, and a listener is not taken any more.
    control.remove(&other).await;
    expect_reset(&mut others).await;
    let late = Resource::Listener(listener("late", net.free(), &[]));
    assert!(control.upsert_all(&[late]).await[0].1.contains("stopping"));
    drop(connection);
    assert!(soon(proxy.exit()).await.success());
}

async fn health(dir: &RunDir) -> ServingStatus {
    let channel = uds::connect(&dir.socket(), None).await.unwrap();
    let request = HealthCheckRequest { service: "steppe.v1.Proxy".into() };
    soon(HealthClient::new(channel).check(request)).await.unwrap().into_inner().status()
}

#[tokio::test]
async fn what_is_left_when_the_time_is_over_is_reset() {
    for twice in [false, true] {
        let (net, dir) = (Net::new(), RunDir::new());
        let mut proxy = Proxy::start(&dir, &["--drain-timeout", if twice { "1h" } else { "10ms" }]).await;
        let mut control = proxy.control().await;
        let endpoint = net.echo_endpoint().await;
        let at = net.free();
        let web = Resource::Listener(listener("web", at, &[endpoint.address]));
        control.upsert(&[web.clone(), client(&web, net.client())]).await;
        let mut connection = net.dial(at).await.unwrap();
        assert_eq!(echoed(&mut connection, b"1").await.unwrap(), b"1");
        proxy.signal(Signal::TERM);
        control.until_draining().await;
        if twice {
            proxy.signal(Signal::INT);
        } else {
            control.relieve().await;
        }
        expect_reset(&mut connection).await;
        assert!(soon(proxy.exit()).await.success());
    }
}

#[tokio::test]
async fn killed_and_started_again_it_serves_what_it_is_told_anew() {
    let (net, dir) = (Net::new(), RunDir::new());
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    for _ in 0..3 {
        let mut proxy = Proxy::start(&dir, &[]).await;
        let mut control = proxy.control().await;
        assert_eq!(control.inventory, []);
        control.upsert(&[web.clone(), client(&web, net.client())]).await;
        assert_eq!(echoed(&mut net.dial(at).await.unwrap(), b"1").await.unwrap(), b"1");
        // Its socket file stays behind.
        proxy.signal(Signal::KILL);
        soon(proxy.exit()).await;
        assert!(dir.socket().exists());
    }
}

#[tokio::test]
async fn a_live_process_keeps_its_socket() {
    let dir = RunDir::new();
    let proxy = Proxy::start(&dir, &[]).await;
    let (code, error) = run(&dir.0, &[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("live process"), "{error}");
    assert!(proxy.control().await.status().await.about.unwrap().synced);
}

#[test]
fn bad_flags_end_it_before_it_begins() {
    let dir = RunDir::new();
    for flags in
        [["--workers", "none"], ["--connect-timeout", "1"], ["--drain-timeout", "soon"], ["--colour", "red"]]
    {
        let (code, error) = run(&dir.0, &flags);
        assert_eq!(code, Some(2), "{error}");
        assert!(error.contains(flags[0]), "{error}");
    }
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
    let (code, error) = run(&dir.0.join("missing"), &[]);
    assert_eq!(code, Some(1));
    assert!(error.contains("directory exists"), "{error}");
}

/// The kernel's keepalive timer of the socket towards an endpoint: `02` in the timer's column of /proc/net/tcp (its description is
/// in the kernel's Documentation/networking/proc_net_tcp.rst).
#[tokio::test]
async fn an_endpoint_is_asked_whether_it_still_lives() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let _near = net.dial(at).await.unwrap();
    let _far = soon(endpoint.accept()).await.unwrap();
    let ip = u32::from_ne_bytes(address.ip().octets());
    let remote = format!("{ip:08X}:{:04X}", address.port());
    let asks = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        matches!(columns[..], [_, _, there, _, _, timer, ..] if there == remote && timer.starts_with("02:"))
    };
    soon(async {
        while !std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(asks) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
