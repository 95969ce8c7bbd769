//! The gRPC service: what people see of networks, and what root may order.

use steppe_api::{
    uds::require_uid,
    v1::{self, networks_server::Networks},
};
use steppe_model::UserName;
use tokio::sync::{mpsc, oneshot};
use tonic::{Request, Response, Status};

use super::{Declined, Listed, Order, name};

/// Hands orders on, and their answers back.
#[derive(Debug, Clone)]
pub struct NetworksService {
    orders: mpsc::Sender<Order>,
}

impl NetworksService {
    /// Orders go into `orders`; where nobody takes them, Docker is no source.
    #[must_use]
    pub fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders }
    }

    async fn order<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<T, Declined>>) -> Order,
    ) -> Result<T, Status> {
        let (answer, answered) = oneshot::channel();
        let nobody = || Status::unavailable("Docker is off (--docker off): control makes no networks");
        self.orders.send(order(answer)).await.map_err(|_| nobody())?;
        let failed = || Status::unavailable("Docker failed meanwhile: try again");
        Ok(answered.await.map_err(|_| failed())??)
    }
}

impl From<Declined> for Status {
    fn from(declined: Declined) -> Self {
        let text = declined.to_string();
        match declined {
            Declined::Away(_) => Self::unavailable(text),
            Declined::Missing(_) => Self::not_found(text),
            Declined::Now(_) => Self::failed_precondition(text),
        }
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn user(text: &str) -> Result<UserName, Status> {
    text.parse().map_err(|error| Status::invalid_argument(format!("user: {error}")))
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn require_root<T>(request: &Request<T>) -> Result<(), Status> {
    require_uid(request, 0).map_err(|_| Status::permission_denied("only root may change networks"))
}

impl From<Listed> for v1::UserNetwork {
    fn from(listed: Listed) -> Self {
        let network = listed.network.as_ref();
        let moved = network.and_then(|network| network.moved.as_deref());
        Self {
            name: name::network(&listed.user),
            user: listed.user.to_string(),
            subnet: network.map(|network| network.subnet.to_string()).unwrap_or_default(),
            bridge: name::bridge(&listed.user).to_string(),
            attached: listed.attached.iter().map(ToString::to_string).collect(),
            moved: moved.unwrap_or_default().to_owned(),
            problem: listed.problem.as_deref().unwrap_or_default().to_owned(),
            ensured: listed.ensured,
            needed: listed.needed,
        }
    }
}

#[tonic::async_trait]
impl Networks for NetworksService {
    async fn list_networks(
        &self,
        _: Request<v1::ListUserNetworksRequest>,
    ) -> Result<Response<v1::ListUserNetworksResponse>, Status> {
        let networks = self.order(Order::List).await?;
        let networks = networks.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ListUserNetworksResponse { networks }))
    }

    async fn ensure_network(
        &self,
        request: Request<v1::EnsureNetworkRequest>,
    ) -> Result<Response<v1::UserNetwork>, Status> {
        require_root(&request)?;
        let user = user(&request.get_ref().user)?;
        let listed = self.order(|answer| Order::Ensure(user, answer)).await?;
        Ok(Response::new(listed.into()))
    }

    async fn remove_network(
        &self,
        request: Request<v1::RemoveNetworkRequest>,
    ) -> Result<Response<v1::RemoveNetworkResponse>, Status> {
        require_root(&request)?;
        let user = user(&request.get_ref().user)?;
        self.order(|answer| Order::Remove(user, answer)).await?;
        Ok(Response::new(v1::RemoveNetworkResponse {}))
    }
}
