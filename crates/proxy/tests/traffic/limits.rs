//! Descriptors and memory are bounded.

use std::time::Duration;

use steppe_model::Resource;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    control::{client, listener},
    net::{Net, soon},
    process::{Proxy, RunDir},
};

/// A writer that gets no further for so long is held up.
const STALLED: Duration = Duration::from_millis(500);

#[tokio::test]
async fn without_descriptors_connections_wait_and_are_served_when_others_end() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start_with_descriptors(&dir, 160).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    assert_eq!(control.status().await.descriptor_limit, 160);

    let mut waiting = vec![];
    for _ in 0..120 {
        let mut connection = net.dial(at).await.unwrap();
        connection.write_all(b"?").await.unwrap();
        waiting.push(connection);
    }
    // 160 less the reserve of 64 and two listening sockets are 94: 47 connections.
    let state = control.until(&web, |state| state.active == 47).await;
    assert_eq!(state.failed_total, 0);
    // The control side still has what it needs.
    assert_eq!(control.connections(10).await.left_off, 37);
    let more = Resource::Listener(listener("more", net.free(), &[]));
    let rejections = control.upsert_all(std::slice::from_ref(&more)).await;
    assert!(rejections[0].1.contains("ulimit -n"), "{rejections:?}");

    // Whoever was let in has an answer, leaves, and makes room: in the end everybody was served.
    let mut served = tokio::task::JoinSet::new();
    for mut connection in waiting {
        served.spawn(async move { soon(connection.read_u8()).await.unwrap() });
    }
    while let Some(answer) = served.join_next().await {
        assert_eq!(answer.unwrap(), b'?');
    }
    let state = control.until(&web, |state| state.active == 0).await;
    assert_eq!((state.accepted_total, state.failed_total), (120, 0));
    assert!(proxy.log().contains("out of descriptors"));
    control.upsert(&[more]).await;
}

#[tokio::test]
async fn a_starved_proxy_does_not_spin() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start_with_descriptors(&dir, 160).await;
    let mut control = proxy.control().await;
    let endpoint = net.echo_endpoint().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[endpoint.address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let mut connections = vec![];
    for _ in 0..120 {
        connections.push(net.dial(at).await.unwrap());
    }
    control.until(&web, |state| state.active == 47).await;
    // Connections wait at both workers. Each sleeps between two looks: one that spun would never give up the CPU, and one that
    // hardly slept would be far ahead of the other.
    let before = sleeps(&proxy);
    let slept = soon(async {
        loop {
            let slept: Vec<_> =
                sleeps(&proxy).iter().zip(&before).map(|(now, before)| now - before).collect();
            if slept.iter().all(|&times| times >= 5) {
                return slept;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(slept.len() == 2 && slept.iter().all(|&times| times < 200), "{slept:?}");
    drop(connections);
    control.until(&web, |state| state.active == 0).await;
}

#[tokio::test]
async fn clients_that_read_nothing_do_not_fill_the_memory() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[address]));
    control.upsert(&[web.clone(), client(&web, net.client())]).await;
    let before = memory(&proxy);
    let mut connections = vec![];
    let mut floods = tokio::task::JoinSet::new();
    for _ in 0..400 {
        connections.push(net.dial(at).await.unwrap());
        let (mut far, _) = soon(endpoint.accept()).await.unwrap();
        floods.spawn(async move { while timeout(STALLED, far.write(&[3; 65_536])).await.is_ok() {} });
    }
    while floods.join_next().await.is_some() {}
    // 8 MiB a worker, and little beyond. Without a bound each keeps some 70 KB that its client does not take.
    let grown = memory(&proxy) - before;
    assert!(grown < 22 << 20, "{grown} bytes");
    drop(connections);
    control.until(&web, |state| state.active == 0).await;
}

/// Bytes of memory that the process holds itself.
fn memory(proxy: &Proxy) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How often each worker has gone to sleep.
fn sleeps(proxy: &Proxy) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
    let statuses = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).unwrap());
    let workers = statuses.filter(|status| status.contains("worker-"));
    let slept = |status: String| {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse().unwrap()
    };
    workers.map(slept).collect()
}
