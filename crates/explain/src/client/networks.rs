//! Asking control for users' networks, and ordering them.

use std::time::Duration;

use steppe_api::v1::{
    EnsureNetworkRequest, RemoveNetworkRequest, UserNetwork, networks_client::NetworksClient,
};
use steppe_daemon::Process;
use tonic::{Code, Response, Status, transport::Channel};

use super::Suite;
use crate::Answer;

/// How long an order may take: Docker makes a network in a fraction of a second, and a busy one in some.
const ORDER: Duration = Duration::from_secs(45);

/// Why control did not do it, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined(pub String);

impl Suite {
    /// Makes a user's network, if there is none, and keeps it.
    ///
    /// # Errors
    /// [`Away`](crate::Away), when control does not answer; inside, why it says no.
    pub async fn ensure_network(&self, user: &str) -> Answer<Result<UserNetwork, Declined>> {
        let request = EnsureNetworkRequest { user: user.to_owned() };
        self.order(async |channel| NetworksClient::new(channel).ensure_network(request).await).await
    }

    /// Removes a user's network.
    ///
    /// # Errors
    /// The same.
    pub async fn remove_network(&self, user: &str) -> Answer<Result<(), Declined>> {
        let request = RemoveNetworkRequest { user: user.to_owned() };
        let removed =
            self.order(async |channel| NetworksClient::new(channel).remove_network(request).await).await?;
        Ok(removed.map(|_| ()))
    }

    async fn order<T>(
        &self,
        call: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>,
    ) -> Answer<Result<T, Declined>> {
        let says_no = async |channel| match call(channel).await {
            Ok(done) => Ok(Response::new(Ok(done.into_inner()))),
            Err(status) if is_no(&status) => Ok(Response::new(Err(Declined(status.message().to_owned())))),
            Err(status) => Err(status),
        };
        self.ask_within(Process::Control, ORDER, says_no).await
    }
}

/// Whether it is control that says no, and not the way to it.
fn is_no(status: &Status) -> bool {
    let codes = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::FailedPrecondition,
        Code::PermissionDenied,
        Code::Unavailable,
    ];
    // Without a word it is the connection that broke.
    codes.contains(&status.code()) && !status.message().is_empty()
}
