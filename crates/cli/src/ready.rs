//! `steppe ready`: whether one process does its work, for whoever starts it (Nomad's script checks, systemd, scripts).

use clap::ValueEnum;
use steppe_api::v1::{GetNetfilterStatusRequest, GetProxyStatusRequest};
use steppe_daemon::Process;
use steppe_explain::{Answer, Suite};

/// A process that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Component {
    /// It has listed its sources and made a plan.
    Control,
    /// It answers.
    Proxy,
    /// It answers: the tables are in force before it does.
    NetfilterAgent,
    /// It answers.
    Dns,
    /// It answers.
    DnsA,
    /// It answers.
    DnsB,
}

/// Asks it.
///
/// # Errors
/// [`Away`](steppe_explain::Away), with why it can't do its work.
pub(crate) async fn ask(suite: &Suite, component: Component) -> Answer<()> {
    match component {
        Component::Control => suite.ready_control().await.map(drop),
        Component::Proxy => suite.proxy_status(GetProxyStatusRequest {}).await.map(drop),
        Component::NetfilterAgent => suite.netfilter_status(GetNetfilterStatusRequest {}).await.map(drop),
        Component::Dns => suite.dns_status(Process::Dns).await.map(drop),
        Component::DnsA => suite.dns_status(Process::DnsA).await.map(drop),
        Component::DnsB => suite.dns_status(Process::DnsB).await.map(drop),
    }
}
