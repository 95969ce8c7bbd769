//! The gRPC service: each call is a question that the core's task answers between two events.

use std::time::Instant;

use steppe_api::v1::{self, control_server::Control};
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use crate::{core::Core, view};

/// A question to the core, with the time at which it is answered.
pub type Ask = Box<dyn FnOnce(&Core, Instant) + Send>;

/// Answers from the core.
#[derive(Debug, Clone)]
pub struct ControlService {
    asks: mpsc::Sender<Ask>,
}

impl ControlService {
    /// Questions go into `asks`.
    #[must_use]
    pub fn new(asks: mpsc::Sender<Ask>) -> Self {
        Self { asks }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core, Instant) -> T + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let (answer, answered) = oneshot::channel();
        let ask: Ask = Box::new(move |core, now| {
            // Whoever asked may have gone.
            let _ = answer.send(question(core, now));
        });
        let stopping = || Status::unavailable("control is stopping");
        self.asks.send(ask).await.map_err(|_| stopping())?;
        answered.await.map(Response::new).map_err(|_| stopping())
    }
}

#[tonic::async_trait]
impl Control for ControlService {
    async fn get_status(
        &self,
        _: Request<v1::GetControlStatusRequest>,
    ) -> Result<Response<v1::ControlStatus>, Status> {
        self.ask(view::status).await
    }

    async fn list_services(
        &self,
        _: Request<v1::ListServicesRequest>,
    ) -> Result<Response<v1::ListServicesResponse>, Status> {
        self.ask(|core, now| v1::ListServicesResponse { services: view::services(core, now) }).await
    }

    async fn list_workloads(
        &self,
        _: Request<v1::ListWorkloadsRequest>,
    ) -> Result<Response<v1::ListWorkloadsResponse>, Status> {
        self.ask(|core, _| v1::ListWorkloadsResponse { workloads: view::workloads(core) }).await
    }

    async fn get_pair(&self, request: Request<v1::GetPairRequest>) -> Result<Response<v1::Pair>, Status> {
        let asked = request.into_inner();
        self.ask(move |core, now| view::pair(core, &asked, now)).await
    }
}
