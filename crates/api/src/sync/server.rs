//! Serves Sync streams, one at a time.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::{FutureExt as _, Stream, StreamExt as _};
use tokio::sync::{Mutex, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use super::{
    Agent, Change, Rejection, Session,
    relief::Relief,
    session::{ProtocolError, Step},
};
use crate::{
    uds::require_uid,
    v1::{self, sync_response::Message},
};

/// How many requests are put in force together at the most: enough for one transaction to carry a large snapshot in a
/// few rounds, and bounded.
const BATCH: usize = 16_384;
/// Resources in one `Inventory` message: far below tonic's 4 MiB limit for a message.
const INVENTORY_PART: usize = 1_000;
/// Responses that may wait for control to read them.
const RESPONSES: usize = 64;

/// The stream of responses.
pub type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::SyncResponse, Status>> + Send>>;

/// Serves `Sync` for an [`Agent`], to one uid, one stream at a time: a newer stream takes the place of an older one.
#[derive(Debug)]
pub struct SyncServer<A> {
    agent: Arc<Mutex<A>>,
    control_uid: u32,
    /// The number of the stream that counts; it grows with each new one.
    current: watch::Sender<u64>,
    in_force: Arc<AtomicU64>,
    relief: Arc<Relief>,
}

impl<A: Agent> SyncServer<A> {
    /// Serves `agent` to whoever runs as `control_uid`.
    pub fn new(agent: A, control_uid: u32) -> Self {
        Self {
            agent: Arc::new(Mutex::new(agent)),
            control_uid,
            current: watch::Sender::new(0),
            in_force: Arc::default(),
            relief: Arc::default(),
        }
    }

    /// What the agent can say of itself without more knowledge.
    #[must_use]
    pub fn about(&self, version: &str, uptime: std::time::Duration) -> v1::About {
        v1::About {
            version: version.into(),
            uptime_seconds: uptime.as_secs(),
            in_force_version: self.in_force.load(Ordering::Relaxed),
            synced: self.relief.is_open(),
        }
    }

    /// From its first poll on, tells control on the open stream, and on one that opens meanwhile, that the agent is about to
    /// stop. Ends with `true` when control says that nothing new leads to the agent any more, and with `false` when no stream
    /// is open. Without an answer it does not end: the caller puts the time limit.
    pub fn drain(&self) -> impl Future<Output = bool> + use<A> {
        let relief = self.relief.clone();
        async move { relief.ask().await }
    }

    /// Handles the `Sync` call of the agent's gRPC service.
    ///
    /// # Errors
    /// `PERMISSION_DENIED` for another uid.
    #[allow(clippy::result_large_err, reason = "tonic's own error type")]
    pub fn sync(&self, request: Request<Streaming<v1::SyncRequest>>) -> Result<Response<SyncStream>, Status> {
        require_uid(&request, self.control_uid)?;
        let mut number = 0;
        self.current.send_modify(|current| {
            *current += 1;
            number = *current;
        });
        let (responses, receiver) = mpsc::channel(RESPONSES);
        let stream = Conversation {
            requests: request.into_inner(),
            responses,
            agent: self.agent.clone(),
            in_force: self.in_force.clone(),
            relief: self.relief.clone(),
            has_asked: false,
            number,
            current: self.current.subscribe(),
            session: Session::default(),
        };
        tokio::spawn(stream.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One stream being served.
struct Conversation<A> {
    requests: Streaming<v1::SyncRequest>,
    responses: mpsc::Sender<Result<v1::SyncResponse, Status>>,
    agent: Arc<Mutex<A>>,
    in_force: Arc<AtomicU64>,
    relief: Arc<Relief>,
    /// Whether control was told on this stream that the agent is about to stop.
    has_asked: bool,
    number: u64,
    current: watch::Receiver<u64>,
    session: Session,
}

/// Why a conversation ended without an error: control went away.
struct Gone;

/// What a stream goes on with.
enum Next {
    /// These have arrived.
    Requests(Vec<v1::SyncRequest>),
    /// The agent wants to stop.
    Drain,
    /// control went away.
    End,
}

impl<A: Agent> Conversation<A> {
    async fn run(mut self) {
        info!(stream = self.number, "control connected");
        self.relief.opened(self.number);
        self.in_force.store(0, Ordering::Relaxed);
        let ended = self.converse().await;
        self.relief.closed(self.number);
        match ended {
            Ok(Gone) => info!(stream = self.number, "control disconnected: what is in force stays"),
            Err(status) => {
                warn!(stream = self.number, %status, "Sync ended: what is in force stays");
                // If control is gone nobody is left to be told.
                let _ = self.responses.send(Err(status)).await;
            }
        }
    }

    async fn converse(&mut self) -> Result<Gone, Status> {
        if self.tell_inventory().await.is_err() {
            return Ok(Gone);
        }
        loop {
            let went_on = match self.next().await? {
                Next::Requests(batch) => self.settle(batch).await?,
                Next::Drain => {
                    self.has_asked = true;
                    self.respond(Message::Draining(v1::Draining {})).await
                }
                Next::End => Err(Gone),
            };
            if let Err(gone) = went_on {
                return Ok(gone);
            }
        }
    }

    async fn tell_inventory(&self) -> Result<(), Gone> {
        let resources = self.agent.lock().await.inventory();
        for part in resources.chunks(INVENTORY_PART) {
            let resources = part.iter().map(Into::into).collect();
            self.respond(Message::Inventory(v1::Inventory { resources })).await?;
        }
        self.respond(Message::InventoryEnd(v1::InventoryEnd {})).await
    }

    /// Waits for a request, and takes with it all that have arrived; or for the agent's wish to stop, which comes first.
    async fn next(&mut self) -> Result<Next, Status> {
        let number = self.number;
        let displaced = self.current.wait_for(|current| *current != number);
        let first = tokio::select! {
            biased;
            _ = displaced => return Err(Status::aborted("a newer Sync stream took the place of this one")),
            () = self.relief.asked(), if !self.has_asked => return Ok(Next::Drain),
            request = self.requests.message() => request?,
        };
        let Some(first) = first else { return Ok(Next::End) };
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match self.requests.next().now_or_never() {
                Some(Some(request)) => batch.push(request?),
                Some(None) | None => break,
            }
        }
        Ok(Next::Requests(batch))
    }

    /// Puts a batch in force, tells what was rejected, and acknowledges.
    async fn settle(&mut self, batch: Vec<v1::SyncRequest>) -> Result<Result<(), Gone>, Status> {
        let agent = self.agent.clone();
        let mut agent = agent.lock().await;
        if *self.current.borrow() != self.number {
            return Err(Status::aborted("a newer Sync stream took the place of this one"));
        }
        let mut changes = Vec::with_capacity(batch.len());
        let mut rejected = Vec::new();
        let mut has_settled = false;
        for request in batch {
            match self.session.take(request).map_err(breach)? {
                Step::Nothing => {}
                Step::Apply(change) => changes.push(change),
                Step::Reject(rejection) => rejected.push(rejection),
                Step::Relieved if self.has_asked => {
                    info!("nothing new leads here any more");
                    self.relief.give();
                }
                // Nobody asked: a later wish to stop must not take this for the answer.
                Step::Relieved => {}
                Step::Prune => {
                    rejected.extend(agent.apply(std::mem::take(&mut changes)).await);
                    let in_force = agent.inventory().into_iter().map(|resource| resource.id());
                    changes.extend(self.session.leftovers(in_force).into_iter().map(Change::Remove));
                    has_settled = true;
                }
            }
        }
        if !changes.is_empty() {
            rejected.extend(agent.apply(changes).await);
        }
        if has_settled {
            agent.settled();
        }
        drop(agent);
        let version = self.session.version();
        self.in_force.store(version, Ordering::Relaxed);
        for Rejection { id, reason } in rejected {
            warn!(%id, reason, "rejected");
            let reject = v1::Reject { version, id: id.to_string(), reason };
            if self.respond(Message::Reject(reject)).await.is_err() {
                return Ok(Err(Gone));
            }
        }
        Ok(self.respond(Message::Ack(v1::Ack { version })).await)
    }

    async fn respond(&self, message: Message) -> Result<(), Gone> {
        let response = v1::SyncResponse { message: Some(message) };
        self.responses.send(Ok(response)).await.map_err(|_| Gone)
    }
}

fn breach(error: ProtocolError) -> Status {
    Status::invalid_argument(error.to_string())
}
