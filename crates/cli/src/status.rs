//! `steppe status`.

mod component;
mod doors;
mod view;

use serde::Serialize;
use steppe_api::v1::{
    ControlStatus, DnsStatus, GetControlStatusRequest, GetNetfilterStatusRequest, GetProxyStatusRequest,
    ListDoorsRequest, ListDoorsResponse, NetfilterStatus, ProxyStatus,
};
use steppe_daemon::Process;
use steppe_explain::{Answer, Away, AwayKind, DNS, Suite};
use thiserror::Error;

use component::Component;
use doors::Door;

/// Nothing can be said, because nobody may be asked.
#[derive(Debug, Error)]
#[error("{}: {}", .0.reason(), .0.fix())]
pub(crate) struct NobodyAnswers(Box<Away>);

impl From<Away> for NobodyAnswers {
    fn from(away: Away) -> Self {
        Self(Box::new(away))
    }
}

/// Everything that the processes say of themselves.
#[derive(Debug, Clone)]
struct Answers {
    control: Answer<ControlStatus>,
    proxy: Answer<ProxyStatus>,
    netfilter: Answer<NetfilterStatus>,
    /// Of each process that may answer for names.
    dns: Vec<(Process, Answer<DnsStatus>)>,
    /// Unknown without the netfilter-agent, or with one of an earlier release.
    doors: Option<ListDoorsResponse>,
}

/// The suite at a glance.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    node: String,
    ok: bool,
    components: Vec<Component>,
    sources: Vec<Source>,
    /// Unknown with control down.
    counts: Option<Counts>,
    /// Unknown with the netfilter-agent down.
    doors: Option<Vec<Door>>,
    moved_networks: Vec<Moved>,
    missing_networks: Vec<Missing>,
    ignored: Vec<Ignored>,
    /// What to do next; empty when there is nothing to do.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Source {
    name: String,
    /// `live`, `starting` or `stale`.
    state: &'static str,
    age_ms: u64,
    last_error: String,
}

#[derive(Debug, Serialize)]
struct Counts {
    workloads: u64,
    workloads_without_address: u64,
    workloads_not_attached: u64,
    services: u64,
    services_empty: u64,
}

/// A network whose addresses are not those that its user has elsewhere.
#[derive(Debug, Serialize)]
struct Moved {
    user: String,
    subnet: String,
    reason: String,
}

/// A user who needs a network and has none.
#[derive(Debug, Serialize)]
struct Missing {
    user: String,
    reason: String,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Ignored {
    origin: String,
    text: String,
    reason: String,
}

/// Asks every process how it is.
///
/// # Errors
/// When none of the sockets may be opened by who runs this.
pub(crate) async fn gather(suite: &Suite) -> Result<Status, NobodyAnswers> {
    let [alone, a, b] = DNS;
    let (control, proxy, netfilter, doors, alone_says, a_says, b_says) = tokio::join!(
        suite.control_status(GetControlStatusRequest {}),
        suite.proxy_status(GetProxyStatusRequest {}),
        suite.netfilter_status(GetNetfilterStatusRequest {}),
        suite.doors(ListDoorsRequest {}),
        suite.dns_status(alone),
        suite.dns_status(a),
        suite.dns_status(b),
    );
    let dns = vec![(alone, alone_says), (a, a_says), (b, b_says)];
    let denied = |away: Option<&Away>| away.is_some_and(|away| away.kind == AwayKind::Denied);
    match control {
        Err(away)
            if denied(Some(&away)) && denied(proxy.as_ref().err()) && denied(netfilter.as_ref().err()) =>
        {
            Err(away.into())
        }
        control => Ok(Answers { control, proxy, netfilter, dns, doors: doors.ok() }.into()),
    }
}

impl Status {
    /// 0 when all is well, 1 when something is not.
    pub(crate) fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }
}
