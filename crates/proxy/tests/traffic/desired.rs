//! Desired state: snapshots, rejections, changes.

use std::net::SocketAddrV4;

use steppe_api::v1::{self, resource::Kind, sync_request::Message};
use steppe_model::{Protocol, Resource, VirtualPort};

use crate::{
    control::{Control, client, listener},
    net::{Net, echoed, expect_refusal, expect_reset, read_all},
    process::{Proxy, RunDir},
};

async fn name_at(net: Net, address: SocketAddrV4) -> Vec<u8> {
    read_all(&mut net.dial(address).await.unwrap()).await.0
}

#[tokio::test]
async fn what_is_not_for_the_proxy_is_rejected_and_the_rest_carries_on() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.named_endpoint(b'a').await;
    let (_holder, taken) = net.listen().await;

    let mut udp = listener("udp", net.free(), &[]);
    udp.key.port = VirtualPort::new(Protocol::Udp, 53);
    udp.proxy_protocol = true;
    let occupied = Resource::Listener(listener("occupied", taken, &[]));
    let good = Resource::Listener(listener("good", net.free(), &[endpoint.address]));
    let same_address = match &good {
        Resource::Listener(good) => Resource::Listener(listener("same", good.address, &[])),
        _ => unreachable!(),
    };
    let nowhere = Resource::Listener(listener("nowhere", net.free(), &[]));
    for resource in [
        Resource::Listener(udp),
        occupied,
        good.clone(),
        same_address,
        client(&nowhere, net.client()),
        client(&good, net.client()),
    ] {
        control.send(Message::Upsert((&resource).into())).await;
    }
    let kind = |kind| v1::Resource { id: "odd".into(), kind };
    for odd in [
        kind(None),
        kind(Some(Kind::Listener(v1::Listener::default()))),
        kind(Some(Kind::Client(v1::Client { listener: "x".into(), ip: "nonsense".into() }))),
        kind(Some(Kind::Grant(v1::Grant {
            workload: "w".into(),
            vip: "247.0.0.1".into(),
            protocol: 1,
            port: 1,
        }))),
        v1::Resource { id: "x".repeat(100_000), kind: None },
    ] {
        control.send(Message::Upsert(odd)).await;
    }
    let workload = Resource::Grant(steppe_model::Grant {
        workload: steppe_model::WorkloadId::new("w"),
        vip: [247, 0, 0, 1].into(),
        port: VirtualPort::ANY,
    });
    control.send(Message::Upsert((&workload).into())).await;
    let rejections = control.settle().await;
    let reasons = |id: &str| {
        rejections
            .iter()
            .filter(|(rejected, _)| rejected == id)
            .map(|(_, reason)| reason.as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(rejections.len(), 9, "{rejections:#?}");
    assert!(reasons("udp:53/udp")[0].contains("is for TCP"));
    let reason = reasons("occupied:80/tcp")[0];
    assert!(reason.contains(&taken.to_string()) && reason.contains("in use"), "{reason}");
    assert!(reasons("same:80/tcp")[0].contains("good:80/tcp"));
    assert!(reasons(client(&nowhere, net.client()).id().as_str()).is_empty(), "it waits for its listener");
    assert!(reasons(workload.id().as_str())[0].contains("another agent"));

    let Resource::Listener(good) = &good else { unreachable!() };
    assert_eq!(name_at(net, good.address).await, b"a");
    assert_eq!(control.listeners().await.len(), 1);
}

#[tokio::test]
async fn a_snapshot_prunes_what_it_does_not_name_and_keeps_what_it_does() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let (kept_at, gone_at) = (net.free(), net.free());
    let kept = Resource::Listener(listener("kept", kept_at, &[endpoint.address]));
    let gone = Resource::Listener(listener("gone", gone_at, &[endpoint.address]));
    let (kept_client, gone_client) = (client(&kept, net.client()), client(&gone, net.client()));
    control.upsert(&[kept.clone(), gone.clone(), kept_client.clone(), gone_client.clone()]).await;
    let mut kept_connection = net.dial(kept_at).await.unwrap();
    let mut gone_connection = net.dial(gone_at).await.unwrap();
    assert_eq!(echoed(&mut kept_connection, b"1").await.unwrap(), b"1");
    assert_eq!(echoed(&mut gone_connection, b"1").await.unwrap(), b"1");

    drop(control);
    assert_eq!(echoed(&mut kept_connection, b"control is away").await.unwrap(), b"control is away");
    let mut control = Control::open(&dir.socket()).await.unwrap();
    let mut told: Vec<_> = control.inventory.iter().map(|resource| resource.id.clone()).collect();
    told.sort();
    let mut expected = [&kept, &gone, &kept_client, &gone_client].map(|resource| resource.id().to_string());
    expected.sort();
    assert_eq!(told, expected);

    assert_eq!(control.snapshot(&[kept.clone(), kept_client]).await, []);
    expect_reset(&mut gone_connection).await;
    assert_eq!(net.dial(gone_at).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(echoed(&mut kept_connection, b"2").await.unwrap(), b"2");
    assert_eq!(control.listeners().await.len(), 1);
}

#[tokio::test]
async fn a_newer_stream_displaces_the_older() {
    let dir = RunDir::new();
    let proxy = Proxy::start(&dir, &[]).await;
    let mut old = proxy.control().await;
    let mut new = proxy.control().await;
    assert_eq!(old.response().await.unwrap_err().code(), tonic::Code::Aborted);
    assert!(new.status().await.about.unwrap().synced);
}

#[tokio::test]
async fn another_uid_may_ask_but_not_command() {
    let dir = RunDir::new();
    let _proxy = Proxy::start(&dir, &["--control-uid", "4294967294"]).await;
    let refused = Control::open(&dir.socket()).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
}

#[tokio::test]
async fn swapped_endpoints_get_the_new_connections_and_the_old_ones_drain() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (old, new) = (net.echo_endpoint().await, net.named_endpoint(b'n').await);
    let at = net.free();
    let before = Resource::Listener(listener("web", at, &[old.address]));
    control.upsert(&[before.clone(), client(&before, net.client())]).await;
    let mut connection = net.dial(at).await.unwrap();
    assert_eq!(echoed(&mut connection, b"1").await.unwrap(), b"1");

    control.upsert(&[Resource::Listener(listener("web", at, &[new.address]))]).await;
    for _ in 0..4 {
        assert_eq!(name_at(net, at).await, b"n");
    }
    assert_eq!(echoed(&mut connection, b"still here").await.unwrap(), b"still here");
    let state = control.listener_state(&before).await;
    let leaving = state.endpoints.iter().find(|endpoint| endpoint.draining).unwrap();
    assert_eq!((leaving.active, leaving.address.clone().unwrap()), (1, old.address.into()));
    assert_eq!(state.accepted_total, 5);
    drop(connection);
    control.until(&before, |state| state.endpoints.len() == 1).await;
}

#[tokio::test]
async fn a_removed_listener_refuses_and_its_connections_go_on_until_their_client_goes() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    let granted = client(&web, net.client());
    control.upsert(&[web.clone(), granted.clone()]).await;
    let mut connection = net.dial(at).await.unwrap();
    assert_eq!(echoed(&mut connection, b"1").await.unwrap(), b"1");

    control.remove(&web).await;
    assert_eq!(net.dial(at).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(echoed(&mut connection, b"2").await.unwrap(), b"2");
    assert_eq!(control.status().await.active_connections, 1);
    control.remove(&granted).await;
    expect_reset(&mut connection).await;

    // The address is free again, at once.
    let other = Resource::Listener(listener("other", at, &[endpoint.address]));
    control.upsert(&[other.clone(), client(&other, net.client())]).await;
    assert_eq!(echoed(&mut net.dial(at).await.unwrap(), b"3").await.unwrap(), b"3");
}

#[tokio::test]
async fn a_listener_moves_with_its_clients_and_connections() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let (from, to) = (net.free(), net.free());
    let web = Resource::Listener(listener("web", from, &[endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let mut connection = net.dial(from).await.unwrap();
    assert_eq!(echoed(&mut connection, b"1").await.unwrap(), b"1");

    let (_holder, taken) = net.listen().await;
    let rejections =
        control.upsert_all(&[Resource::Listener(listener("web", taken, &[endpoint.address]))]).await;
    assert_eq!(rejections.len(), 1);
    assert_eq!(echoed(&mut net.dial(from).await.unwrap(), b"as before").await.unwrap(), b"as before");

    // Somebody else gets the old address in the same breath.
    let heir = Resource::Listener(listener("heir", from, &[endpoint.address]));
    control.upsert(&[Resource::Listener(listener("web", to, &[endpoint.address])), heir.clone()]).await;
    assert_eq!(echoed(&mut net.dial(to).await.unwrap(), b"2").await.unwrap(), b"2");
    assert_eq!(echoed(&mut connection, b"3").await.unwrap(), b"3");
    expect_refusal(net.client(), from).await;
    assert_eq!(control.listener_state(&heir).await.refused_total, 1);
}
