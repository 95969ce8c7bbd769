//! Steppe's own addresses: dns, and the proxy's listeners; and what a workload may send at all.

use steppe_api::v1::DoorName;

use super::{Question, Shut, rules};
use crate::Link;

const LISTENER: &str = "listener";
const DNS: &str = "dns";
/// The port that names are asked at (RFC 1035 section 4.2).
const DNS_PORT: u32 = 53;

/// A workload is heard by its own IPv4 addresses alone.
pub(super) fn ipv6(question: &Question<'_>) -> Link {
    question.shut(Shut {
        door: DoorName::Spoofing,
        rule: rules::SPOOFING,
        summary: "a workload sends IPv4 alone",
        text: "a workload is heard by its own IPv4 addresses, and by nothing else".into(),
        fix: "dial it by IPv4".into(),
    })
}

/// A listener is reached through a grant or not at all; there is no way to open it.
pub(super) fn listener(question: &Question<'_>) -> Link {
    let target = &question.target;
    let at = |address: &steppe_api::v1::SocketAddress| {
        address.port == target.port && address.ip.parse() == Ok(target.ip)
    };
    let mut ports = question.firewall.service_ports.iter();
    let port = ports.find(|port| port.listener.as_ref().is_some_and(at));
    let service = port.and_then(|port| port.service.as_ref()).map(crate::key);
    let what = match &service {
        Some(service) => format!("{target} is the listener of {service}"),
        None => format!("{target} is the proxy's"),
    };
    let rule = if question.workload.is_none() { rules::LISTENER_LOCALLY } else { rules::LISTENER };
    let connect_to = service.unwrap_or_else(|| "NAME".into());
    Link::refused(
        LISTENER,
        "a listener is reached through a grant alone",
        format!("{what}, and refuses whoever did not dial a virtual IP ({rule})"),
        format!("dial the service by its name, with the tag or label connect_to={connect_to}"),
    )
}

/// dns answers workloads, and nobody else.
pub(super) fn dns(question: &Question<'_>) -> Link {
    let target = &question.target;
    if target.port != 0 && target.port != DNS_PORT {
        let text = format!("{target}: only port {DNS_PORT} is open there");
        return Link::refused(
            DNS,
            "nothing else is at the address of dns",
            text,
            format!("ask about {}:{DNS_PORT}", target.ip),
        );
    }
    if question.workload.is_none() {
        return question.shut(Shut {
            door: DoorName::Dns,
            rule: rules::ASKING_LOCALLY,
            summary: "dns is closed to local processes",
            text: "names are told by who asks: workloads may, and of this host's own processes root alone"
                .into(),
            fix: "ask as a workload: steppe dns query --as WORKLOAD NAME".into(),
        });
    }
    match question.bound() {
        Some(bound) => Link::ok(DNS, format!("dns answers what comes from port {}", bound.port_name)),
        None => question.shut(Shut {
            door: DoorName::Dns,
            rule: rules::ASKING,
            summary: "dns does not hear it",
            text:
                "dns hears a workload alone, at its own bridge port, and the kernel has none for this address"
                    .into(),
            fix: "mend its address first: steppe workloads says why it is not bound".into(),
        }),
    }
}
