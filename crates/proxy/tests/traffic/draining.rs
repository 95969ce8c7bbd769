//! No connection is lost when a listener goes or the proxy stops.

use std::{io, net::SocketAddrV4};

use rustix::process::Signal;
use steppe_api::v1::sync_request::Message;
use steppe_model::Resource;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    control::{Control, client, listener},
    net::{Endpoint, Net, echoed, read_all, soon},
    process::{Proxy, RunDir},
};

/// Clients that dial at the same time.
const CLIENTS: usize = 8;
/// Connections that wait to be accepted: more than a worker takes in a turn (64), so that some still wait when it obeys.
const WAITING: usize = 400;

/// Web, in force.
async fn web(net: Net, control: &mut Control, endpoint: &Endpoint) -> (Resource, SocketAddrV4) {
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    (web, at)
}

/// Dials whatever `target` says, again and again, and tells how each connection went, until nobody listens.
async fn dial_on(net: Net, target: watch::Receiver<SocketAddrV4>, told: mpsc::Sender<io::Result<()>>) {
    loop {
        let to = *target.borrow();
        let went = async {
            let mut stream = net.dial(to).await?;
            echoed(&mut stream, b"1").await.map(|_| ())
        };
        if told.send(went.await).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn told_to_stop_under_load_it_loses_no_connection() {
    let (net, dir) = (Net::new(), RunDir::new());
    let mut proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let (_, at) = web(net, &mut control, &endpoint).await;
    let target = watch::Sender::new(at);
    let (tell, mut told) = mpsc::channel(1);
    let mut clients = JoinSet::new();
    (0..CLIENTS).for_each(|_| {
        clients.spawn(dial_on(net, target.subscribe(), tell.clone()));
    });
    let mut all_well = async |count| {
        for _ in 0..count {
            soon(told.recv()).await.unwrap().unwrap();
        }
    };

    all_well(100).await;
    proxy.signal(Signal::TERM);
    control.until_draining().await;
    // It was told, and goes on.
    all_well(300).await;
    // As the kernel does when it takes over: new connections go past the proxy, those that are on their way don't.
    target.send_replace(endpoint.address);
    control.relieve().await;
    let exit = tokio::select! {
        exit = soon(proxy.exit()) => exit,
        () = all_well(usize::MAX) => unreachable!(),
    };
    assert!(exit.success());
    assert!(proxy.log().contains("drained"));
    all_well(100).await;
}

#[tokio::test]
async fn what_waits_at_a_listener_when_it_goes_is_served() {
    for stops in [false, true] {
        let (net, dir) = (Net::new(), RunDir::new());
        let mut proxy = Proxy::start(&dir, &[]).await;
        let mut control = proxy.control().await;
        let endpoint = net.named_endpoint(b'a').await;
        let (web, at) = web(net, &mut control, &endpoint).await;
        if stops {
            proxy.signal(Signal::TERM);
            control.until_draining().await;
        }
        proxy.signal(Signal::STOP);
        let mut waiting = Vec::new();
        for _ in 0..WAITING {
            waiting.push(net.dial(at).await.unwrap());
        }
        if stops {
            control.relieve().await;
            proxy.signal(Signal::CONT);
        } else {
            control.send(Message::Remove(web.id().to_string())).await;
            proxy.signal(Signal::CONT);
            assert_eq!(control.settle().await, []);
        }
        for mut stream in waiting {
            let (bytes, ended) = read_all(&mut stream).await;
            assert!(bytes == b"a" && ended.is_ok(), "stops: {stops}, {bytes:?}, {ended:?}");
        }
        if stops {
            assert!(soon(proxy.exit()).await.success());
        }
    }
}

#[tokio::test]
async fn without_an_answer_it_stops_all_the_same() {
    for is_away in [true, false] {
        let (net, dir) = (Net::new(), RunDir::new());
        let mut proxy = Proxy::start(&dir, &[]).await;
        let mut control = proxy.control().await;
        let endpoint = net.echo_endpoint().await;
        web(net, &mut control, &endpoint).await;
        if is_away {
            drop(control);
            proxy.signal(Signal::TERM);
            assert!(soon(proxy.exit()).await.success());
            assert!(proxy.log().contains("steppe-control is away"), "{}", proxy.log());
        } else {
            proxy.signal(Signal::TERM);
            assert!(soon(proxy.exit()).await.success());
            assert!(proxy.log().contains("nobody led new connections elsewhere"), "{}", proxy.log());
        }
    }
}

#[tokio::test]
async fn control_that_comes_back_meanwhile_is_told_and_can_answer() {
    let (net, dir) = (Net::new(), RunDir::new());
    let mut proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let (web, at) = web(net, &mut control, &endpoint).await;
    proxy.signal(Signal::TERM);
    control.until_draining().await;
    let mut next = Control::open(&dir.socket()).await.unwrap();
    next.until_draining().await;
    assert_eq!(next.snapshot(&[web.clone(), client(&web, net.client())]).await, []);
    assert_eq!(echoed(&mut net.dial(at).await.unwrap(), b"1").await.unwrap(), b"1");
    next.relieve().await;
    assert!(soon(proxy.exit()).await.success());
    assert!(proxy.log().contains("nothing new leads here"), "{}", proxy.log());
}
