//! dns, played.

use super::*;

/// dns: `web` is granted to container `api`, and nobody else may name anything.
pub struct Names;

#[async_trait]
impl dns_server::Dns for Names {
    type SyncStream = Stream<SyncResponse>;
    type WatchQuestionsStream = Stream<QuestionEvent>;

    async fn sync(&self, _: Request<tonic::Streaming<SyncRequest>>) -> Reply<Self::SyncStream> {
        Ok(Response::new(nothing()))
    }

    async fn get_status(&self, _: Request<GetDnsStatusRequest>) -> Reply<DnsStatus> {
        Ok(Response::new(DnsStatus {
            about: about(),
            listening: vec!["169.254.77.53:53".into()],
            upstreams: vec![Upstream::default()],
            ..DnsStatus::default()
        }))
    }

    async fn list_askers(&self, _: Request<ListAskersRequest>) -> Reply<ListAskersResponse> {
        Ok(Response::new(ListAskersResponse::default()))
    }

    async fn list_members(&self, _: Request<ListMembersRequest>) -> Reply<ListMembersResponse> {
        Ok(Response::new(ListMembersResponse::default()))
    }

    async fn query(&self, request: Request<QueryRequest>) -> Reply<QueryResponse> {
        let QueryRequest { ip, name, .. } = request.into_inner();
        let response = if (&*ip, &*name) == (IP, "web") {
            QueryResponse {
                result: QuestionResult::Service.into(),
                rcode: "NOERROR".into(),
                records: vec![format!("web.steppe.internal. 5 IN A {VIP}")],
                ..QueryResponse::default()
            }
        } else {
            QueryResponse {
                result: QuestionResult::NoName.into(),
                rcode: "NXDOMAIN".into(),
                reason: "no such name".into(),
                ..QueryResponse::default()
            }
        };
        Ok(Response::new(response))
    }

    async fn watch_questions(&self, _: Request<WatchQuestionsRequest>) -> Reply<Self::WatchQuestionsStream> {
        Ok(Response::new(nothing()))
    }
}
