//! `listener`: the proxy listens for the service, and takes the workload as a client. Not shown where no connection goes to
//! the proxy.

use steppe_api::v1::ListenerState;

use crate::{
    Link,
    case::Case,
    text::{count, socket_address},
};

const NAME: &str = "listener";
const AGENT: &str = "proxy";

pub(super) fn judge(case: &Case<'_>) -> Option<Link> {
    if case.takes_kernel_path() {
        return None;
    }
    if case.is_taken_over() && case.is_past_the_proxy() {
        return Some(Link::ok(NAME, taken_over(case)));
    }
    match &case.facts.proxy {
        Err(away) if away.is_down() => {
            Some(Link::broken(NAME, "the proxy is down", away.to_string(), away.fix()))
        }
        Err(away) => Some(Link::unknown(NAME, away.short(), away.to_string(), away.fix())),
        Ok(_) => match case.listener() {
            Some(listener) if case.is_client(listener) => Some(in_force(listener)),
            _ if case.is_empty() => None,
            _ if !case.workload.problem.is_empty() || !case.is_bound() => {
                let what = "the workload's address";
                let text = format!("no client of the listener yet: it waits for {what}");
                Some(Link::unknown(
                    NAME,
                    "the proxy does not take it as a client",
                    text,
                    format!("mend {what} first"),
                ))
            }
            Some(listener) => {
                let ip = case.attachment().map_or("the workload", |attachment| &attachment.ip);
                let text = format!("{} does not take {ip} as a client", address(listener));
                Some(broken(case, "the proxy does not take it as a client", text))
            }
            None => {
                let text = format!("none for {}", case.service_text());
                Some(broken(case, "the proxy does not listen for it", text))
            }
        },
    }
}

fn taken_over(case: &Case<'_>) -> String {
    const CARRIES: &str = "the kernel carries new connections";
    match &case.facts.proxy {
        Ok(_) => format!("{CARRIES} until the proxy is ready"),
        Err(away) => format!("{CARRIES} until the proxy is back: {away}"),
    }
}

fn address(listener: &ListenerState) -> String {
    let address = listener.listener.as_ref().and_then(|listener| listener.address.as_ref());
    address.map_or_else(|| listener.id.clone(), socket_address)
}

fn in_force(listener: &ListenerState) -> Link {
    let connections = count(listener.accepted_total, "connection");
    Link::ok(NAME, format!("{}, {connections}, {} open", address(listener), listener.active))
}

fn broken(case: &Case<'_>, summary: &str, text: String) -> Link {
    let (text, fix) = match (&case.facts.control, case.held_up(AGENT)) {
        (Err(away), _) => (text, away.fix()),
        (Ok(_), Some(problem)) => (
            format!("{text}: {problem}"),
            "remove what the reason names; it is tried again every few seconds".to_owned(),
        ),
        (Ok(_), None) => (
            text,
            "restart steppe-proxy: control then sends it everything again; its log says why it does not listen".into(),
        ),
    };
    Link::broken(NAME, summary, text, fix)
}
