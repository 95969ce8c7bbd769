//! The proxy, played.

use super::*;

/// The proxy: it listens for `web`.
pub struct TheProxy;

#[async_trait]
impl proxy_server::Proxy for TheProxy {
    type SyncStream = Stream<SyncResponse>;
    type WatchConnectionsStream = Stream<ConnectionEvent>;

    async fn sync(&self, _: Request<tonic::Streaming<SyncRequest>>) -> Reply<Self::SyncStream> {
        Ok(Response::new(nothing()))
    }

    async fn get_status(&self, _: Request<GetProxyStatusRequest>) -> Reply<ProxyStatus> {
        Ok(Response::new(ProxyStatus { about: about(), ..ProxyStatus::default() }))
    }

    async fn list_listeners(&self, _: Request<ListListenersRequest>) -> Reply<ListListenersResponse> {
        let listener = Listener {
            service: Some(web()),
            protocol: Protocol::Tcp.into(),
            port: 80,
            address: at("169.254.77.54", 17_007),
            ..Listener::default()
        };
        let endpoint = EndpointState { address: at("10.0.0.5", 24_011), ..EndpointState::default() };
        let state = ListenerState {
            listener: Some(listener),
            clients: vec![IP.into()],
            accepted_total: 118,
            endpoints: vec![endpoint],
            ..ListenerState::default()
        };
        Ok(Response::new(ListListenersResponse { listeners: vec![state] }))
    }

    async fn list_connections(&self, _: Request<ListConnectionsRequest>) -> Reply<ListConnectionsResponse> {
        Ok(Response::new(ListConnectionsResponse::default()))
    }

    async fn watch_connections(
        &self,
        _: Request<WatchConnectionsRequest>,
    ) -> Reply<Self::WatchConnectionsStream> {
        Ok(Response::new(nothing()))
    }
}
