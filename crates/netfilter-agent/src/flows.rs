//! Deletes connection tracking entries that must not go on, on a thread of its own: the answer to control does not wait for it.
//!
//! * Of revoked grants: their connections are cut.
//! * For as long as the kernel has taken over, of clients that the proxy did not answer or has reset: their next try would go where
//!   the last went, to a listener that may be dead. When the proxy takes over again there is nothing to do: an endpoint that did
//!   not answer yet is as alive as before.
//! * Of UDP, when they lead where their port no longer does. A UDP client begins no new connection, so that its datagrams would go to an
//!   endpoint that is gone, or to the proxy that is, for as long as it sends.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::Ipv4Addr,
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

use steppe_model::{Protocol, VirtualPort};
use tracing::{debug, warn};

use crate::{
    firewall::Shared,
    netlink::{NETFILTER, Socket, conntrack},
};

/// How long an entry stays after its grant is gone. The proxy resets its connections at the same time, and a reset finds
/// the client only as long as the entry translates it: an idle client would wait for ever. Both ends shall see the
/// cut within a second.
const GRACE: Duration = Duration::from_millis(500);
/// When unanswered entries are deleted after the kernel has taken over. A proxy that is alive has had its time to answer by
/// the first look; the second is for packets that were on their way through the old rules then. Both are before most clients'
/// first retransmission, a second after their first packet.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), GRACE];
/// And how often after them, for as long as the kernel has taken over: a proxy that has drained resets at its end whatever is
/// left, and whoever was reset begins anew.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When UDP's entries are looked at after a port has changed: one look serves all changes until then, as listing is what costs.
const ASTRAY: Duration = Duration::from_millis(100);

/// A client's address and a virtual IP of which some right was taken away.
pub(crate) type Revoked = HashSet<(Ipv4Addr, Ipv4Addr)>;

/// What there is to do.
#[derive(Debug)]
pub(crate) enum Task {
    /// These rights were taken away, then.
    Cut(Instant, Revoked),
    /// The kernel has taken over, then.
    Release(Instant),
    /// A port of UDP no longer leads where it did, then.
    Redirect(Instant),
}

/// Does what comes, until nobody can ask any more.
///
/// # Errors
/// The system's, when no socket can be opened.
pub(crate) fn follow(tasks: &Receiver<Task>, firewall: &Shared) -> io::Result<()> {
    let mut socket = Socket::open(NETFILTER)?;
    let mut waiting = Waiting::default();
    loop {
        let Some(due) = waiting.next() else {
            let Ok(task) = tasks.recv() else { return Ok(()) };
            waiting.take(task);
            continue;
        };
        match tasks.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(task) => waiting.take(task),
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            // Listing is what costs: one for all whose time has come.
            Err(RecvTimeoutError::Timeout) => {
                waiting = look(waiting, tasks, firewall, &mut socket);
            }
        }
    }
}

/// Deletes what is due; gives what is not due yet.
fn look(mut waiting: Waiting, tasks: &Receiver<Task>, firewall: &Shared, socket: &mut Socket) -> Waiting {
    let now = Instant::now();
    let releases = waiting.releases.iter().any(|due| *due <= now);
    let cuts = waiting.revoked.values().any(|due| *due <= now);
    let redirects = waiting.redirect.is_some_and(|due| due <= now);
    let mut why = |flow: &conntrack::Flow| {
        if releases && is_stranded(firewall, flow) {
            return Some(Why::Stranded);
        }
        if (releases || redirects) && is_astray(firewall, flow) {
            return Some(Why::Astray);
        }
        let pair = (flow.client, flow.server);
        if !waiting.revoked.contains_key(&pair) || is_allowed(firewall, flow) {
            return None;
        }
        // Asked only now: it may have been revoked a moment ago, and then this was told before.
        tasks.try_iter().for_each(|task| waiting.take(task));
        waiting.revoked.get(&pair).is_some_and(|due| *due <= now).then_some(Why::Revoked)
    };
    let (mut cut, mut released, mut redirected) = (0, 0, 0);
    let deleted = conntrack::list(socket, |flow| why(flow).is_some()).and_then(|flows| {
        for flow in &flows {
            // Asked again: there may be thousands before it, and new connections go to the proxy again meanwhile.
            let count = match why(flow) {
                Some(Why::Revoked) => &mut cut,
                Some(Why::Stranded) => &mut released,
                Some(Why::Astray) => &mut redirected,
                None => continue,
            };
            *count += usize::from(conntrack::delete(socket, flow)?);
        }
        Ok(())
    });
    match deleted {
        Ok(()) => {
            if cuts {
                debug!(flows = cut, "connections of revoked grants cut");
            }
            if releases {
                debug!(flows = released, "connections that the proxy did not answer released");
            }
            if releases || redirects {
                debug!(flows = redirected, "flows of UDP that led elsewhere redirected");
            }
        }
        Err(error) => warn!(
            %error,
            "connections of revoked grants could not be cut at once, which their next packet does, nor those released that \
             the proxy did not answer, nor flows of UDP redirected that lead elsewhere"
        ),
    }
    waiting.revoked.retain(|_, due| *due > now);
    waiting.releases.retain(|due| *due > now);
    waiting.redirect = waiting.redirect.filter(|due| *due > now);
    if releases && waiting.releases.is_empty() && firewall.lock().state.takeover() {
        waiting.releases.push(now + LOOK_EVERY);
    }
    waiting
}

/// Why an entry must go.
enum Why {
    /// Its client has no right to it any more.
    Revoked,
    /// See [`is_stranded`].
    Stranded,
    /// See [`is_astray`].
    Astray,
}

/// What is to be done, and when.
#[derive(Default)]
struct Waiting {
    revoked: HashMap<(Ipv4Addr, Ipv4Addr), Instant>,
    releases: Vec<Instant>,
    redirect: Option<Instant>,
}

impl Waiting {
    fn take(&mut self, task: Task) {
        match task {
            // A pair that is granted and revoked again waits anew.
            Task::Cut(at, pairs) => self.revoked.extend(pairs.into_iter().map(|pair| (pair, at + GRACE))),
            Task::Release(at) => self.releases.extend(LOOKS.map(|after| at + after)),
            Task::Redirect(at) => self.redirect = self.redirect.or(Some(at + ASTRAY)),
        }
    }

    fn next(&self) -> Option<Instant> {
        self.revoked.values().chain(&self.releases).chain(&self.redirect).min().copied()
    }
}

/// Whether it leads a new packet to the proxy, which may be dead: the proxy did not answer yet, or it has reset the connection, whose
/// client may begin another from the same port.
fn is_stranded(firewall: &Shared, flow: &conntrack::Flow) -> bool {
    let firewall = firewall.lock();
    let limits = firewall.limits();
    let to_listener = flow.reply.source == limits.listener && limits.services.contains(&flow.server);
    (!flow.answered || flow.closed) && to_listener && firewall.state.takeover()
}

/// Whether it leads a UDP client where its port does not lead.
fn is_astray(firewall: &Shared, flow: &conntrack::Flow) -> bool {
    if flow.protocol != Protocol::Udp.number() {
        return false;
    }
    let firewall = firewall.lock();
    let port = VirtualPort::new(Protocol::Udp, flow.server_port);
    firewall.limits().services.contains(&flow.server)
        && !firewall.state.leads_to(flow.server, port, flow.reply.from())
}

fn is_allowed(firewall: &Shared, flow: &conntrack::Flow) -> bool {
    let protocol = match flow.protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        // Never translated by us.
        _ => return true,
    };
    let port = VirtualPort::new(protocol, flow.server_port);
    firewall.lock().state.allows(flow.client, flow.server, port)
}
