//! The `Dns` service of `proto/steppe/v1/dns.proto`.

mod wire;

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{Stream, StreamExt as _, stream};
use steppe_api::{
    sync::{SyncServer, SyncStream},
    v1,
};
use tokio::sync::oneshot;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    agent::DnsAgent,
    counters::Outcome,
    desk::{Desk, Looked, Transport, rcode_in},
    wire::{self as dns, WireName, type_from_name},
    zone::Why,
};

/// What people are told beside what the desk knows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) started: Instant,
    pub(crate) instance: &'static str,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listening: Option<SocketAddrV4>,
    draining: bool,
}

impl Shown {
    pub(crate) fn new(started: Instant, instance: &'static str) -> Self {
        Self { started, instance, state: Mutex::default() }
    }

    pub(crate) fn listening(&self, address: Option<SocketAddrV4>) {
        self.lock().listening = address;
    }

    pub(crate) fn draining(&self) {
        self.lock().draining = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers for dns.
#[derive(Debug)]
pub(crate) struct DnsService {
    pub(crate) sync: SyncServer<DnsAgent>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) shown: Arc<Shown>,
}

#[tonic::async_trait]
impl v1::dns_server::Dns for DnsService {
    type SyncStream = SyncStream;
    type WatchQuestionsStream = Pin<Box<dyn Stream<Item = Result<v1::QuestionEvent, Status>> + Send>>;

    async fn sync(
        &self,
        request: Request<Streaming<v1::SyncRequest>>,
    ) -> Result<Response<SyncStream>, Status> {
        self.sync.sync(request)
    }

    async fn get_status(
        &self,
        _: Request<v1::GetDnsStatusRequest>,
    ) -> Result<Response<v1::DnsStatus>, Status> {
        let now = Instant::now();
        let (askers, members) = self.desk.zone().counts();
        let (cached, cache_limit) = self.desk.forwarder.cache.counts();
        let upstreams = self.desk.forwarder.upstreams.list();
        let result = |&outcome: &Outcome| v1::ResultCount {
            result: v1::QuestionResult::from(outcome).into(),
            total: self.desk.counters.get(outcome),
        };
        let state = self.shown.lock();
        Ok(Response::new(v1::DnsStatus {
            about: Some(self.sync.about(env!("CARGO_PKG_VERSION"), self.shown.started.elapsed())),
            instance: self.shown.instance.into(),
            listening: state.listening.iter().map(ToString::to_string).collect(),
            upstreams: upstreams.iter().map(|upstream| wire::upstream(upstream, now)).collect(),
            askers: askers as u64,
            members: members as u64,
            results: Outcome::ALL.iter().map(result).collect(),
            cached: cached as u64,
            cache_limit: cache_limit as u64,
            draining: state.draining,
        }))
    }

    async fn list_askers(
        &self,
        _: Request<v1::ListAskersRequest>,
    ) -> Result<Response<v1::ListAskersResponse>, Status> {
        let askers = self.desk.zone().askers().map(Into::into).collect();
        Ok(Response::new(v1::ListAskersResponse { askers }))
    }

    async fn list_members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        let members = self.desk.zone().members().map(Into::into).collect();
        Ok(Response::new(v1::ListMembersResponse { members }))
    }

    async fn query(&self, request: Request<v1::QueryRequest>) -> Result<Response<v1::QueryResponse>, Status> {
        let start = Instant::now();
        let v1::QueryRequest { ip, name, r#type } = request.into_inner();
        let ip = address(&ip)?;
        let name = WireName::from_text(&name).ok_or_else(|| {
            Status::invalid_argument(format!(
                "name: `{name:.80}` is no name: labels of 1 to 63 bytes, joined by dots, are expected"
            ))
        })?;
        let kind = if r#type.is_empty() { Some(dns::types::A) } else { type_from_name(&r#type) };
        let kind = kind.filter(|kind| *kind != 0).ok_or_else(|| {
            Status::invalid_argument(format!(
                "type: `{:.40}` is no record type: A, AAAA, SRV, PTR, … or TYPE and a number are expected",
                r#type
            ))
        })?;
        let question = dns::Request::new(name, kind);
        let mut message = Vec::new();
        let reason = |why: Why<'_>| why.to_string();
        let looked = self.desk.look_up(ip, &question, Transport::Tcp, &mut message, start, reason);
        let (outcome, why) = match looked {
            Looked::Ready(outcome, why) => (outcome, why),
            Looked::Forward => (self.forward(ip, &question, &mut message).await, None),
        };
        Ok(Response::new(v1::QueryResponse {
            result: v1::QuestionResult::from(outcome).into(),
            rcode: rcode_in(&message).map(dns::rcode_name).unwrap_or_default(),
            records: dns::records(&message),
            reason: why.unwrap_or_else(|| wire::reason(outcome).into()),
            took_ms: start.elapsed().as_secs_f64() * 1e3,
        }))
    }

    async fn watch_questions(
        &self,
        request: Request<v1::WatchQuestionsRequest>,
    ) -> Result<Response<Self::WatchQuestionsStream>, Status> {
        let ip = request.into_inner().ip;
        let ip = if ip.is_empty() { None } else { Some(address(&ip)?) };
        let questions = stream::unfold(self.desk.questions.watch(), async |mut watcher| {
            watcher.next().await.map(|next| (next, watcher))
        });
        let desk = self.desk.clone();
        let wanted = questions.filter_map(move |(seen, missed)| {
            let told = ip.is_none_or(|ip| ip == seen.ip).then(|| {
                let workload = desk.zone().view(seen.ip).map(|view| view.asker().workload.to_string());
                Ok(wire::event(&seen, workload.unwrap_or_default(), missed))
            });
            std::future::ready(told)
        });
        Ok(Response::new(Box::pin(wanted)))
    }
}

impl DnsService {
    /// Asks the resolvers, if the asker may ask them now, and writes what they say.
    async fn forward(&self, ip: Ipv4Addr, question: &dns::Request, message: &mut Vec<u8>) -> Outcome {
        let outcome = match self.desk.wait(ip, Instant::now()) {
            None => Outcome::Limited,
            Some(_waiting) => {
                let (tell, told) = oneshot::channel();
                let told_by = Box::new(move |answer: Option<&Arc<dns::Answer>>| {
                    // The caller may be gone.
                    let _ = tell.send(answer.cloned());
                });
                self.desk.forwarder.ask(question, told_by);
                if let Some(answer) = told.await.ok().flatten() {
                    answer.write(message, question, dns::TCP_LIMIT, Instant::now());
                    return Outcome::Forwarded;
                }
                Outcome::Failed
            }
        };
        dns::Writer::new(message, question, dns::Rcode::ServFail, false, dns::TCP_LIMIT).finish();
        outcome
    }
}

#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn address(text: &str) -> Result<Ipv4Addr, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("ip: `{text:.40}` is not an IPv4 address")))
}
