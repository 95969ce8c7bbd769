//! Questions over UDP: one thread, which takes, looks up and answers all that there are, and waits for nothing but the next.

use std::{
    io,
    net::SocketAddrV4,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    io::{Errno, write},
    net::{SendFlags, sendto},
};
use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::{
    batch::{BATCH, Intake, Outgoing},
    socket::in_fragments,
};
use crate::{
    desk::{Desk, Step, Transport},
    limits::Waiting,
};

/// The thread, seen from outside.
#[derive(Debug)]
pub(super) struct UdpServer {
    socket: Arc<OwnedFd>,
    stop: Arc<Stop>,
    ended: oneshot::Receiver<String>,
}

/// How the thread is told to stop.
#[derive(Debug)]
struct Stop {
    wake: OwnedFd,
    /// Milliseconds of quiet after which it ends; 0 until it is told.
    quiet: AtomicU64,
}

impl UdpServer {
    pub(super) fn start(desk: Arc<Desk>, socket: OwnedFd) -> io::Result<Self> {
        let socket = Arc::new(socket);
        let wake = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let stop = Arc::new(Stop { wake, quiet: AtomicU64::new(0) });
        let (tell, ended) = oneshot::channel();
        let server = Server { desk, socket: socket.clone(), stop: stop.clone() };
        thread::Builder::new().name("udp".into()).spawn(move || {
            // Dropped without a word if it panics.
            let how = server.run();
            let _ = tell.send(how.to_string());
        })?;
        Ok(Self { socket, stop, ended })
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Tells the thread to end when nothing has come for so long.
    pub(super) fn drain(&self, quiet: Duration) {
        self.stop.quiet.store(quiet.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Release);
        // A counter of 64 bits does not fill.
        let _ = write(&self.stop.wake, &1_u64.to_ne_bytes());
    }

    /// How the thread ended.
    pub(super) async fn ended(&mut self) -> String {
        (&mut self.ended).await.unwrap_or_else(|_| "it panicked".into())
    }
}

struct Server {
    desk: Arc<Desk>,
    socket: Arc<OwnedFd>,
    stop: Arc<Stop>,
}

impl Server {
    /// Serves until it is told to stop and nothing comes any more, or until the socket breaks.
    fn run(self) -> Errno {
        let (mut intake, mut outgoing) = (Intake::new(), Outgoing::new());
        let mut quiet_since: Option<Instant> = None;
        loop {
            let quiet = Duration::from_millis(self.stop.quiet.load(Ordering::Acquire));
            match self.round(&mut intake, &mut outgoing) {
                Ok(0) => {}
                Ok(taken) => {
                    quiet_since = None;
                    // Where there were several there are more by now.
                    if taken > 1 {
                        continue;
                    }
                }
                Err(errno) => return errno,
            }
            let mut patience = None;
            if !quiet.is_zero() {
                let since = *quiet_since.get_or_insert_with(Instant::now);
                match quiet.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
                    Some(left) => patience = Timespec::try_from(left).ok(),
                    None => return Errno::SHUTDOWN,
                }
            }
            let mut events =
                [PollFd::new(&*self.socket, PollFlags::IN), PollFd::new(&self.stop.wake, PollFlags::IN)];
            // Once told, the counter has nothing more to say.
            let watched = if quiet.is_zero() { 2 } else { 1 };
            match poll(&mut events[..watched], patience.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return errno,
            }
        }
    }

    /// Sends an answer later.
    fn sender(&self, to: SocketAddrV4) -> impl FnOnce(&[u8], Waiting) + Send + 'static {
        let socket = self.socket.clone();
        move |answer, _| send(&socket, answer, to)
    }

    /// Takes what is queued, up to so many, answers what can be, and says how many those were.
    fn round(&self, intake: &mut Intake, outgoing: &mut Outgoing) -> Result<usize, Errno> {
        let taken = match intake.take(&*self.socket) {
            Ok(taken) => taken,
            Err(Errno::AGAIN) => return Ok(0),
            // There may be more.
            Err(errno) if is_passing(errno) => return Ok(BATCH),
            Err(errno) => return Err(errno),
        };
        let now = Instant::now();
        // Nobody can be answered at port 0.
        for (packet, from) in intake.packets().filter(|(_, from)| from.port() != 0) {
            match self.desk.take(*from.ip(), packet, Transport::Udp, now, outgoing.place()) {
                Step::Reply => outgoing.push(from),
                Step::Silence => {}
                Step::Forward(pending) => self.desk.forward(pending, self.sender(from)),
                Step::Await(pending) => self.desk.await_asker(pending, self.sender(from)),
            }
        }
        outgoing.send(&*self.socket, |to, errno| again(&self.socket, to, errno));
        Ok(taken)
    }
}

/// What an asker that is gone makes the next call say (udp(7)), or what passes.
fn is_passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::INTR
            | Errno::CONNREFUSED
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::HOSTDOWN
            | Errno::NETDOWN
            | Errno::NOBUFS
            | Errno::NOMEM
    )
}

/// Sends one answer.
fn send(socket: &OwnedFd, answer: &[u8], to: SocketAddrV4) {
    while let Err(errno) = sendto(socket, answer, SendFlags::DONTWAIT, &to) {
        if !again(socket, to, errno) {
            return;
        }
    }
}

/// Whether to try once more. An answer that can't be sent is lost, as one may be on its way.
fn again(socket: &OwnedFd, to: SocketAddrV4, errno: Errno) -> bool {
    match errno {
        Errno::INTR => return true,
        Errno::MSGSIZE if in_fragments(socket) => return true,
        Errno::PERM => warn!(%to, "an answer was refused by this host's own firewall"),
        error => debug!(%to, %error, "an answer could not be sent"),
    }
    false
}
