//! Who may use a listener.

use steppe_model::Resource;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::{
    control::{client, listener},
    net::{Net, dial_from, echoed, expect_refusal, expect_reset, soon},
    process::{Proxy, RunDir},
};

#[tokio::test]
async fn a_stranger_is_reset_and_counted() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    for _ in 0..5 {
        expect_refusal(net.ip(3), at).await;
    }
    let state = control.listener_state(&web).await;
    assert_eq!((state.accepted_total, state.refused_total, state.active), (5, 5, 0));
    assert_eq!(state.clients, [net.client().to_string()]);

    // The endpoint has heard nothing of it: the first to reach it is the client.
    let granted = net.dial(at).await.unwrap();
    let (taken, _) = soon(endpoint.accept()).await.unwrap();
    drop((granted, taken));
}

#[tokio::test]
async fn revoking_cuts_that_client_at_both_ends_and_nobody_else() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[address]));
    let (revoked, kept) = (client(&web, net.client()), client(&web, net.ip(3)));
    control.upsert(&[web.clone(), revoked.clone(), kept]).await;
    let mut pairs: Vec<(TcpStream, TcpStream)> = vec![];
    for from in [net.client(), net.ip(3), net.client(), net.client(), net.client()] {
        let near = dial_from(from, at).await.unwrap();
        pairs.push((near, soon(endpoint.accept()).await.unwrap().0));
    }
    control.remove(&revoked).await;
    for (i, (near, far)) in pairs.iter_mut().enumerate() {
        if i == 1 {
            tokio::io::AsyncWriteExt::write_all(far, b"x").await.unwrap();
            assert_eq!(soon(near.read_u8()).await.unwrap(), b'x');
        } else {
            expect_reset(near).await;
            expect_reset(far).await;
        }
    }
    expect_refusal(net.client(), at).await;
    let state = control.listener_state(&web).await;
    assert_eq!((state.active, state.refused_total), (1, 1));
}

#[tokio::test]
async fn a_grant_that_comes_back_works() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    let granted = client(&web, net.client());
    control.upsert(&[web]).await;
    for round in 0..20u8 {
        control.upsert(std::slice::from_ref(&granted)).await;
        let mut connection = net.dial(at).await.unwrap();
        assert_eq!(echoed(&mut connection, &[round]).await.unwrap(), [round]);
        control.remove(&granted).await;
        expect_reset(&mut connection).await;
        expect_refusal(net.client(), at).await;
    }
}

#[tokio::test]
async fn a_grant_may_come_before_its_listener_and_holds_what_outlives_it() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    let granted = client(&web, net.client());
    control.upsert(&[granted.clone(), web.clone()]).await;
    let mut connection = net.dial(at).await.unwrap();
    assert_eq!(echoed(&mut connection, b"a").await.unwrap(), b"a");
    control.remove(&web).await;
    assert_eq!(echoed(&mut connection, b"b").await.unwrap(), b"b");
    control.remove(&granted).await;
    expect_reset(&mut connection).await;
}
