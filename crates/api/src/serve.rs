//! What every process of the suite serves beside its own service: reflection and health.

use std::{convert::Infallible, future::Future};

use tokio::net::UnixListener;
use tokio_stream::{StreamExt as _, wrappers::UnixListenerStream};
use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
    service::Routes,
    transport::Server,
};
use tonic_reflection::pb;

use crate::{DESCRIPTORS, authority::Lenient};

/// Bytes in flight on a stream before the reader must catch up: a snapshot should not wait for window updates.
const WINDOW: u32 = 1 << 20;

/// A service that a process serves beside its first.
#[derive(Debug)]
pub struct Also {
    name: &'static str,
    routes: Routes,
}

impl Also {
    /// This one.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        Self { name: S::NAME, routes: Routes::new(service) }
    }
}

/// Serves `service` on `listener` until it is dropped, with `grpc.health.v1` and server reflection, v1 and v1alpha
/// (grpcurl before 1.8.9 knows only the latter). From `draining` on, the service's health is NOT_SERVING.
///
/// # Errors
/// tonic's, when the socket fails.
pub async fn serve<S>(
    listener: UnixListener,
    service: S,
    draining: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    serve_both(listener, service, None, draining).await
}

/// As [`serve`], and one more service on the same socket.
///
/// # Errors
/// The same.
pub async fn serve_both<S>(
    listener: UnixListener,
    service: S,
    also: Option<Also>,
    draining: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>
        + NamedService
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<S>().await;
    let (also_name, also_routes) =
        also.map_or((None, Routes::default()), |also| (Some(also.name), also.routes));
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(pb::v1alpha::FILE_DESCRIPTOR_SET)
            .with_service_name(tonic_health::pb::health_server::SERVICE_NAME)
            .with_service_name(pb::v1::server_reflection_server::SERVICE_NAME)
            .with_service_name(pb::v1alpha::server_reflection_server::SERVICE_NAME)
            .with_service_name(S::NAME);
        match also_name {
            Some(name) => builder.with_service_name(name),
            None => builder,
        }
    };
    // The descriptors are a constant of this build: a test reads them through both.
    let (Ok(v1), Ok(v1alpha)) = (reflection().build_v1(), reflection().build_v1alpha()) else {
        unreachable!("the descriptor set that the build made is not one");
    };
    let connections = UnixListenerStream::new(listener).map(|stream| stream.map(Lenient::new));
    let serving = Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .add_routes(also_routes.add_service(service))
        .add_service(health)
        .add_service(v1)
        .add_service(v1alpha)
        .serve_with_incoming(connections);
    let tell_draining = async {
        draining.await;
        health_reporter.set_not_serving::<S>().await;
        std::future::pending().await
    };
    tokio::select! {
        served = serving => served,
        () = tell_draining => unreachable!("it is told only once"),
    }
}
