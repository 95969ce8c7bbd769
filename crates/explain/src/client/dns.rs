//! Asking those that answer for names: one process, or two side by side that know the same.

use std::time::Duration;

use steppe_api::v1::{DnsStatus, GetDnsStatusRequest, QueryRequest, QueryResponse, dns_client::DnsClient};
use steppe_daemon::Process;
use tonic::{Response, Status, transport::Channel};

use super::Suite;
use crate::{Answer, AwayKind};

/// The processes that may answer for names.
pub const DNS: [Process; 3] = [Process::Dns, Process::DnsA, Process::DnsB];

impl Suite {
    /// What a workload is told of a name. [`DEADLINE`](crate::DEADLINE) is enough for one of Steppe's, which dns knows at once;
    /// it gives the host's resolvers 4 s.
    ///
    /// # Errors
    /// [`Away`](crate::Away), when none of [`DNS`] answers.
    pub async fn dns_query(&self, request: QueryRequest, deadline: Duration) -> Answer<QueryResponse> {
        self.ask_dns(deadline, async |channel| DnsClient::new(channel).query(request.clone()).await).await
    }

    /// How one of [`DNS`] is.
    ///
    /// # Errors
    /// [`Away`](crate::Away), when there is no answer within [`DEADLINE`](crate::DEADLINE).
    pub async fn dns_status(&self, process: Process) -> Answer<DnsStatus> {
        self.ask(process, async |channel| DnsClient::new(channel).get_status(GetDnsStatusRequest {}).await)
            .await
    }

    /// Asks the first that answers. When none does, this is about one that should, rather than one that was never there.
    async fn ask_dns<T>(
        &self,
        deadline: Duration,
        call: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Answer<T> {
        let [alone, side_by_side @ ..] = DNS;
        let mut answer = self.ask_within(alone, deadline, &call).await;
        for process in side_by_side {
            if answer.is_ok() {
                break;
            }
            let next = self.ask_within(process, deadline, &call).await;
            if next.as_ref().err().is_none_or(|away| away.kind != AwayKind::NoSocket) {
                answer = next;
            }
        }
        answer
    }
}
