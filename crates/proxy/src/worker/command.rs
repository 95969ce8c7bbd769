//! How the control side speaks to the workers.

use std::{
    collections::HashSet,
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::{Arc, mpsc},
    thread,
};

use rustix::event::{EventfdFlags, eventfd};
use steppe_model::{ResourceId, ServiceName};
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use super::{Shared, event_loop::Worker};
use crate::{ProxyError, limits::Permit, service::Service, watch::ConnectionInfo};

/// What a listening socket is known by; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ListenKey(pub(crate) u64);

/// What a worker is told. It obeys in order.
#[derive(Debug)]
pub(crate) enum Command {
    /// Accept from this socket.
    Listen { key: ListenKey, socket: OwnedFd, permit: Permit, service: Arc<Service> },
    /// Pass on what clients send to this UDP socket.
    Hear { key: ListenKey, socket: OwnedFd, permit: Permit, service: Arc<Service> },
    /// The endpoints of this listener have changed: end the flows that lead to others.
    Reroute(ListenKey),
    /// Close a listening socket, once those that wait there are accepted. Its connections stay, its flows end.
    Unlisten(ListenKey),
    /// Reset the connections, and end the flows, of these clients of these listeners.
    Cut(Arc<HashSet<(ResourceId, Ipv4Addr)>>),
    /// Reset every connection.
    CutAll,
    /// Tell up to `limit` connections and flows, and how many more there are.
    List { service: Option<ServiceName>, limit: usize, reply: oneshot::Sender<(Vec<ConnectionInfo>, u64)> },
    /// Answer when every command before this one is obeyed.
    Barrier(oneshot::Sender<()>),
    /// Close every listening socket, as with `Unlisten`, and answer when the last connection has ended.
    Drain(oneshot::Sender<()>),
}

/// A worker's end of its inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    /// Readable when commands wait (eventfd(2)).
    pub(super) bell: Arc<OwnedFd>,
}

/// The workers, as the control side sees them.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    inboxes: Arc<[Sender]>,
}

#[derive(Debug)]
struct Sender {
    commands: mpsc::Sender<Command>,
    bell: Arc<OwnedFd>,
}

impl Workers {
    /// Starts `count` threads. The receiver hears of one that ended, which none should.
    ///
    /// # Errors
    /// When the system has no more threads or descriptors.
    pub(crate) fn start(
        count: usize,
        shared: &Arc<Shared>,
    ) -> Result<(Self, tokio_mpsc::UnboundedReceiver<ProxyError>), ProxyError> {
        let (deaths, died) = tokio_mpsc::unbounded_channel();
        let inboxes = (0..count)
            .map(|number| start_one(number, count, shared.clone(), deaths.clone()))
            .collect::<io::Result<_>>()
            .map_err(|source| ProxyError::Worker { source })?;
        Ok((Self { inboxes }, died))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.inboxes.len()
    }

    /// Tells one of them.
    pub(crate) fn tell(&self, worker: usize, command: Command) {
        let inbox = &self.inboxes[worker];
        // A worker that has died takes the process down, see `app`: nobody needs the answer any more.
        if inbox.commands.send(command).is_ok() {
            // EAGAIN: the bell has rung 2^64 times and was not heard yet. It will be.
            let _ = rustix::io::write(&*inbox.bell, &1u64.to_ne_bytes());
        }
    }

    /// Tells each of them, and gives back what each will answer.
    pub(crate) fn ask<T>(
        &self,
        mut command: impl FnMut(oneshot::Sender<T>) -> Command,
    ) -> Vec<oneshot::Receiver<T>> {
        (0..self.count())
            .map(|worker| {
                let (sender, receiver) = oneshot::channel();
                self.tell(worker, command(sender));
                receiver
            })
            .collect()
    }

    /// Waits until all have obeyed what they were told before.
    pub(crate) async fn settle(&self) {
        for answer in self.ask(Command::Barrier) {
            // No answer: that worker has died, and the process ends.
            let _ = answer.await;
        }
    }
}

fn start_one(
    number: usize,
    count: usize,
    shared: Arc<Shared>,
    deaths: tokio_mpsc::UnboundedSender<ProxyError>,
) -> io::Result<Sender> {
    let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
    let (commands, receiver) = mpsc::channel();
    let inbox = Inbox { commands: receiver, bell: bell.clone() };
    let mut worker = Worker::new(number as u64, count as u64, inbox, shared)?;
    thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
        let _obituary = Obituary(deaths.clone());
        if let Err(error) = worker.run() {
            // The receiver is gone only when the process ends anyway.
            let _ = deaths.send(ProxyError::WorkerDied { reason: error.to_string() });
        }
    })?;
    Ok(Sender { commands, bell })
}

/// Tells of a worker's end even if it panicked.
struct Obituary(tokio_mpsc::UnboundedSender<ProxyError>);

impl Drop for Obituary {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send(ProxyError::WorkerDied { reason: "it panicked".into() });
        }
    }
}
