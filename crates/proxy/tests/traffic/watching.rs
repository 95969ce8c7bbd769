//! What people see.

use steppe_api::v1;
use steppe_model::Resource;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    control::{client, listener},
    net::{Net, expect_reset, slam, soon, v4},
    process::{Proxy, RunDir},
};

#[tokio::test]
async fn connections_are_listed_and_their_ends_are_told() {
    let (net, dir) = (Net::new(), RunDir::new());
    let proxy = Proxy::start(&dir, &[]).await;
    let mut control = proxy.control().await;
    let (endpoint, address) = net.listen().await;
    let at = net.free();
    let web = Resource::Listener(listener("web", at, &[address]));
    let granted = client(&web, net.client());
    control.upsert(&[web.clone(), granted.clone()]).await;
    let watch = |service: &str| v1::WatchConnectionsRequest { service: service.into() };
    let mut ends = soon(control.client.watch_connections(watch("web"))).await.unwrap().into_inner();
    let refused = soon(control.client.watch_connections(watch("not a name"))).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);

    let mut pairs = vec![];
    for _ in 0..4 {
        let mut near = net.dial(at).await.unwrap();
        near.write_all(b"123").await.unwrap();
        let mut far = soon(endpoint.accept()).await.unwrap().0;
        far.read_exact(&mut [0; 3]).await.unwrap();
        far.write_all(b"12345").await.unwrap();
        near.read_exact(&mut [0; 5]).await.unwrap();
        pairs.push((near, far));
    }
    let listed = control.connections(3).await;
    assert_eq!((listed.connections.len(), listed.left_off), (3, 1));
    let mut all = control.connections(0).await.connections;
    all.sort_by_key(|connection| connection.id);
    all.dedup_by_key(|connection| connection.id);
    assert_eq!(all.len(), 4);
    for connection in &all {
        assert_eq!(connection.listener, "web:80/tcp");
        assert_eq!(connection.endpoint, Some(address.into()));
        assert_eq!((connection.bytes_to_endpoint, connection.bytes_to_client), (3, 5));
    }

    for how in ["closed", "reset by client", "reset by endpoint", "grant revoked"] {
        let (mut near, mut far) = pairs.pop().unwrap();
        let client = v4(near.local_addr().unwrap());
        match how {
            "closed" => {
                near.shutdown().await.unwrap();
                far.shutdown().await.unwrap();
            }
            "reset by client" => slam(near),
            "reset by endpoint" => slam(far),
            _ => {
                control.remove(&granted).await;
                expect_reset(&mut near).await;
            }
        }
        let event = soon(ends.message()).await.unwrap().unwrap();
        assert_eq!((event.ended.as_str(), event.missed), (how, 0));
        assert_eq!(event.connection.unwrap().client, Some(client.into()));
    }
    assert_eq!(control.status().await.active_connections, 0);
}
