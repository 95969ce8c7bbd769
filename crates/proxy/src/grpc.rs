//! The `Proxy` service of `proto/steppe/v1/proxy.proto`.

mod wire;

use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt as _, future::join_all, stream};
use steppe_api::{
    sync::{SyncServer, SyncStream},
    v1,
};
use steppe_model::ServiceName;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    agent::{ProxyAgent, SharedTable},
    watch::ConnectionInfo,
    worker::{Command, Shared, Workers},
};

/// Connections listed when no limit is given.
const DEFAULT_LIMIT: u32 = 1_000;
/// Connections listed at the most, so that the answer stays below gRPC's usual 4 MiB.
const MAX_LIMIT: u32 = 20_000;

/// Answers for the proxy.
#[derive(Debug)]
pub(crate) struct ProxyService {
    pub(crate) sync: SyncServer<ProxyAgent>,
    pub(crate) table: SharedTable,
    pub(crate) workers: Workers,
    pub(crate) shared: Arc<Shared>,
    pub(crate) started: Instant,
}

impl ProxyService {
    /// Connections of all workers, at most `limit`, and how many more there are.
    async fn connections(&self, service: Option<&ServiceName>, limit: u32) -> (Vec<ConnectionInfo>, u64) {
        let limit = limit as usize;
        let answers = self.workers.ask(|reply| Command::List { service: service.cloned(), limit, reply });
        let (mut told, mut left_off) = (Vec::new(), 0);
        // A worker that gives no answer has died, and the process ends.
        for (some, more) in join_all(answers).await.into_iter().flatten() {
            told.extend(some);
            left_off += more;
        }
        left_off += told.len().saturating_sub(limit) as u64;
        told.truncate(limit);
        (told, left_off)
    }
}

#[tonic::async_trait]
impl v1::proxy_server::Proxy for ProxyService {
    type SyncStream = SyncStream;
    type WatchConnectionsStream = Pin<Box<dyn Stream<Item = Result<v1::ConnectionEvent, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<SyncStream>, Status> {
        self.sync.sync(request)
    }

    async fn get_status(
        &self,
        _: Request<v1::GetProxyStatusRequest>,
    ) -> Result<Response<v1::ProxyStatus>, Status> {
        let (_, active_connections) = self.connections(None, 0).await;
        Ok(Response::new(v1::ProxyStatus {
            about: Some(self.sync.about(env!("CARGO_PKG_VERSION"), self.started.elapsed())),
            active_connections,
            descriptor_limit: self.shared.descriptors.limit(),
            draining: self.table.lock().draining,
        }))
    }

    async fn list_listeners(
        &self,
        request: Request<v1::ListListenersRequest>,
    ) -> Result<Response<v1::ListListenersResponse>, Status> {
        let name = service_name(&request.into_inner().service)?;
        let table = self.table.lock();
        let wanted =
            table.entries().filter(|entry| name.as_ref().is_none_or(|name| *name == entry.service.name));
        let now = Instant::now();
        let listeners = wanted
            .map(|entry| wire::listener_state(entry, &table.clients_of(&entry.service.id), now))
            .collect();
        Ok(Response::new(v1::ListListenersResponse { listeners }))
    }

    async fn list_connections(
        &self,
        request: Request<v1::ListConnectionsRequest>,
    ) -> Result<Response<v1::ListConnectionsResponse>, Status> {
        let request = request.into_inner();
        let name = service_name(&request.service)?;
        let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit.min(MAX_LIMIT) };
        let (told, left_off) = self.connections(name.as_ref(), limit).await;
        let connections = told.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListConnectionsResponse { connections, left_off }))
    }

    async fn watch_connections(
        &self,
        request: Request<v1::WatchConnectionsRequest>,
    ) -> Result<Response<Self::WatchConnectionsStream>, Status> {
        let name = service_name(&request.into_inner().service)?;
        let ends = stream::unfold(self.shared.ends.watch(), async |mut watcher| {
            watcher.next().await.map(|next| (next, watcher))
        });
        let wanted = ends.filter_map(move |(ended, missed)| {
            let told = name.as_ref().is_none_or(|name| *name == ended.connection.service);
            std::future::ready(told.then(|| Ok(wire::event(ended, missed))))
        });
        Ok(Response::new(Box::pin(wanted)))
    }
}

/// The service to filter by; `None` for all.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn service_name(text: &str) -> Result<Option<ServiceName>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Status::invalid_argument(format!("service: {error}")))
}
