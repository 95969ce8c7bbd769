//! Where questions come in, whatever way they came: refused, answered, or passed on.

use std::{
    net::Ipv4Addr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};

use crate::{
    cache::Key,
    counters::{Counters, Outcome},
    forward::Forwarder,
    limits::{Limits, Waiting},
    watch::{Questions, Seen},
    wire::{self, Answer, Parsed, Rcode, Request, TCP_LIMIT, Writer, types},
    zone::{Edit, Finding, Rules, Why, Zone},
};

/// How long a question waits for control to tell who asks. A workload's questions are let through as soon as the netfilter-agent
/// knows it, and dns is told of it next: some milliseconds later, or more on a busy host.
const PATIENCE: Duration = Duration::from_secs(1);

/// What all ways in share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) rules: Rules,
    zone: RwLock<Zone>,
    pub(crate) limits: Limits,
    pub(crate) forwarder: Forwarder,
    pub(crate) counters: Counters,
    pub(crate) questions: Arc<Questions>,
    /// Told when askers have changed.
    askers: watch::Sender<()>,
}

/// The way that a question came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

impl Transport {
    /// Bytes that the answer may have.
    fn limit(self, request: &Request) -> usize {
        match self {
            Self::Udp => request.udp_limit(),
            Self::Tcp => TCP_LIMIT,
        }
    }
}

/// What becomes of a packet.
#[derive(Debug)]
pub(crate) enum Step {
    /// The answer is in the buffer.
    Reply,
    /// There is none.
    Silence,
    /// A resolver must be asked.
    Forward(Pending),
    /// Who asks is new, and control may be about to tell who that is.
    Await(Pending),
}

/// A question that can't be answered at once.
#[derive(Debug)]
pub(crate) struct Pending {
    request: Box<Request>,
    transport: Transport,
    ip: Ipv4Addr,
    start: Instant,
    waiting: Waiting,
}

/// How a question was looked up.
#[derive(Debug)]
pub(crate) enum Looked<T> {
    /// Answered: how, and what was made of why, if it is our own.
    Ready(Outcome, Option<T>),
    /// A resolver must be asked.
    Forward,
}

impl Desk {
    pub(crate) fn new(rules: Rules, limits: Limits, forwarder: Forwarder) -> Self {
        Self {
            rules,
            zone: RwLock::default(),
            limits,
            forwarder,
            counters: Counters::default(),
            questions: Arc::new(Questions::new()),
            askers: watch::Sender::new(()),
        }
    }

    /// What is in force. Never held across an await, and long by nobody.
    pub(crate) fn zone(&self) -> RwLockReadGuard<'_, Zone> {
        // Nothing panics between two steps that belong together.
        self.zone.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, to change it.
    pub(crate) fn zone_mut(&self) -> RwLockWriteGuard<'_, Zone> {
        self.zone.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes that control told.
    pub(crate) fn edit(&self, edits: Vec<Edit>) {
        self.zone_mut().edit(edits);
        self.askers.send_replace(());
    }

    /// Takes a packet that `ip` sent, at `start`. `buffer` is for the answer.
    pub(crate) fn take(
        &self,
        ip: Ipv4Addr,
        packet: &[u8],
        transport: Transport,
        start: Instant,
        buffer: &mut Vec<u8>,
    ) -> Step {
        if !self.limits.admit(ip, start) {
            self.end(ip, None, Outcome::Limited, &[], start);
            return Step::Silence;
        }
        match wire::parse(packet) {
            Parsed::Silence => {
                self.end(ip, None, Outcome::Refused, &[], start);
                Step::Silence
            }
            Parsed::RefuseHead { head, rcode } => {
                wire::refusal(buffer, head, rcode);
                self.end(ip, None, Outcome::Refused, buffer, start);
                Step::Reply
            }
            Parsed::Refuse(request, rcode) => {
                Writer::new(buffer, &request, rcode, false, transport.limit(&request)).finish();
                self.end(ip, Some(&request), Outcome::Refused, buffer, start);
                Step::Reply
            }
            Parsed::Ask(request) => self.ask(ip, request, transport, buffer, start),
        }
    }

    fn ask(
        &self,
        ip: Ipv4Addr,
        request: Box<Request>,
        transport: Transport,
        buffer: &mut Vec<u8>,
        start: Instant,
    ) -> Step {
        let is_unknown = |why: Why<'_>| why == Why::NoAsker;
        let step = match self.look_up(ip, &request, transport, buffer, start, is_unknown) {
            Looked::Ready(_, Some(true)) if !self.limits.is_hopeless(ip, start) => Step::Await,
            Looked::Ready(outcome, _) => {
                self.end(ip, Some(&request), outcome, buffer, start);
                return Step::Reply;
            }
            Looked::Forward => Step::Forward,
        };
        match self.wait(ip, start) {
            Some(waiting) => step(Pending { request, transport, ip, start, waiting }),
            None => {
                // At once: the asker's next try, or next server, is better than its patience.
                fail(&request, transport, buffer);
                self.end(ip, Some(&request), Outcome::Limited, buffer, start);
                Step::Reply
            }
        }
    }

    /// Looks a question up, without counting it. `reason` makes of why it is answered so what the caller wants to know.
    pub(crate) fn look_up<T>(
        &self,
        ip: Ipv4Addr,
        request: &Request,
        transport: Transport,
        buffer: &mut Vec<u8>,
        now: Instant,
        reason: impl FnOnce(Why<'_>) -> T,
    ) -> Looked<T> {
        let limit = transport.limit(request);
        let turn = fastrand::usize(..);
        match self.zone().answer(&self.rules, ip, request, buffer, limit, turn) {
            Finding::Answered(why) => return Looked::Ready(outcome_of(why), Some(reason(why))),
            Finding::Unsettled => return Looked::Ready(Outcome::Failed, None),
            Finding::Forward => {}
        }
        // Our own address asks when a resolver of this host has been told to ask us: forwarded, the question would come back.
        if ip == self.rules.address || request.kind == types::ANY {
            Writer::new(buffer, request, Rcode::Refused, false, limit).finish();
            return Looked::Ready(Outcome::Refused, None);
        }
        match self.forwarder.cache.get(&Key::new(request), now) {
            Some(answer) => {
                answer.write(buffer, request, limit, now);
                Looked::Ready(Outcome::Cached, None)
            }
            None => Looked::Forward,
        }
    }

    /// Leave to wait, for one more question of `ip`.
    pub(crate) fn wait(&self, ip: Ipv4Addr, now: Instant) -> Option<Waiting> {
        let user = self.zone().view(ip).and_then(|view| view.asker().user.clone());
        self.limits.wait(ip, user.as_ref(), now)
    }

    /// Answers when control has told who asks, or after [`PATIENCE`] all the same. `told` gets the answer, from whatever thread, and
    /// the question's place, which is the asker's for as long as it keeps the answer.
    pub(crate) fn await_asker(
        self: &Arc<Self>,
        pending: Pending,
        told: impl FnOnce(&[u8], Waiting) + Send + 'static,
    ) {
        let desk = self.clone();
        self.forwarder.spawn(async move {
            let mut changes = desk.askers.subscribe();
            let known = async {
                while desk.zone().view(pending.ip).is_none() {
                    // The sender is the desk's own.
                    let _ = changes.changed().await;
                }
            };
            let is_known = timeout(PATIENCE, known).await.is_ok();
            let now = Instant::now();
            let mut buffer = Vec::with_capacity(512);
            let Pending { request, transport, ip, start, .. } = &pending;
            if !is_known {
                desk.limits.note_in_vain(*ip, now);
            }
            match desk.look_up(*ip, request, *transport, &mut buffer, now, |_| ()) {
                Looked::Ready(outcome, _) => {
                    desk.end(*ip, Some(request), outcome, &buffer, *start);
                    told(&buffer, pending.waiting);
                }
                Looked::Forward => desk.forward(pending, told),
            }
        });
    }

    /// Passes a question on. `told` as with [`Desk::await_asker`].
    pub(crate) fn forward(
        self: &Arc<Self>,
        pending: Pending,
        told: impl FnOnce(&[u8], Waiting) + Send + 'static,
    ) {
        let desk = self.clone();
        let request = pending.request.clone();
        let told = Box::new(move |answer: Option<&Arc<Answer>>| {
            let mut buffer = Vec::with_capacity(512);
            desk.finish(&pending, answer.map(|answer| &**answer), &mut buffer);
            told(&buffer, pending.waiting);
        });
        self.forwarder.ask(&request, told);
    }

    fn finish(&self, pending: &Pending, answer: Option<&Answer>, buffer: &mut Vec<u8>) {
        let Pending { request, transport, ip, start, .. } = pending;
        let outcome = match answer {
            Some(answer) => {
                answer.write(buffer, request, transport.limit(request), Instant::now());
                Outcome::Forwarded
            }
            None => {
                fail(request, *transport, buffer);
                Outcome::Failed
            }
        };
        self.end(*ip, Some(request), outcome, buffer, *start);
    }

    /// A packet has ended with this answer.
    fn end(&self, ip: Ipv4Addr, request: Option<&Request>, outcome: Outcome, answer: &[u8], start: Instant) {
        self.counters.count(outcome);
        self.questions.tell(|| Seen {
            ip,
            question: request.map(|request| (request.asked, request.kind)),
            outcome,
            rcode: rcode_in(answer),
            took: start.elapsed(),
        });
    }
}

fn fail(request: &Request, transport: Transport, buffer: &mut Vec<u8>) {
    Writer::new(buffer, request, Rcode::ServFail, false, transport.limit(request)).finish();
}

fn outcome_of(why: Why<'_>) -> Outcome {
    match why {
        Why::Service(_) => Outcome::Service,
        Why::Member(_) => Outcome::Member,
        Why::Everybodys | Why::NoRecord | Why::NoName | Why::NoAsker => Outcome::NoName,
    }
}

/// The response code in a message's head.
pub(crate) fn rcode_in(message: &[u8]) -> Option<u16> {
    message.get(3).map(|flags| u16::from(flags & 0xf))
}
