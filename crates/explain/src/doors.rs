//! Questions about addresses that are no virtual IPs: which door is on the way, and whether it is shut for who asks.

mod leaving;
mod members;
mod own;
mod published;
mod rules;

use std::net::IpAddr;

use ipnet::IpNet;
use steppe_api::v1::{Attachment, DoorMode, DoorName, ListDoorsResponse, WorkloadInfo, WorkloadState};

use crate::{Facts, Firewall, Link, target::Target, text::count};

/// Who dials what, and what the kernel has about it.
pub(crate) struct Question<'a> {
    pub(crate) facts: &'a Facts,
    pub(crate) firewall: &'a Firewall,
    pub(crate) doors: &'a ListDoorsResponse,
    /// `None`: the host's own processes.
    pub(crate) workload: Option<&'a WorkloadInfo>,
    pub(crate) target: Target,
}

/// What a door keeps from whom.
pub(crate) struct Shut {
    pub(crate) door: DoorName,
    /// Where its rule is, in nft's words: family, table and chain.
    pub(crate) rule: &'static str,
    /// In a few words, for the first line.
    pub(crate) summary: &'static str,
    /// Who may, and that who asks is none of them.
    pub(crate) text: String,
    /// What opens it for who asks.
    pub(crate) fix: String,
}

/// The links from who asks to the address. Pure.
pub(crate) fn links(question: &Question<'_>) -> Vec<Link> {
    let mut links: Vec<Link> = question.address().into_iter().collect();
    if links.iter().all(|link| link.fault().is_none()) {
        links.push(question.door());
    }
    links
}

impl<'a> Question<'a> {
    /// What is wrong with the question; `None` when nothing is: where ports have doors, one must be named.
    pub(crate) fn problem(&self) -> Option<String> {
        let ip = self.target.ip;
        if self.target.port != 0 || self.is_own(ip) {
            return None;
        }
        if self.is_here(ip) {
            return Some(published::portless(self));
        }
        (members::judge(self).is_none() && self.is_peer(ip)).then(|| leaving::portless(self))
    }

    /// Whether an address is this host's.
    fn is_here(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.facts.local.contains(&ip)
    }

    /// Whether an address is dns's or the proxy's, or who asks itself.
    fn is_own(&self, ip: IpAddr) -> bool {
        let at = self.facts.addresses;
        ip == at.dns || ip == at.listener || (ip.is_loopback() && self.workload.is_some())
    }

    /// Where it sends from.
    fn address(&self) -> Option<Link> {
        const NAME: &str = "address";
        let workload = self.workload?;
        let Some(attachment) = self.attachment() else {
            return Some(Link::unknown(
                NAME,
                "it has no address of its own",
                if workload.problem.is_empty() { "it is on no bridge network" } else { &workload.problem },
                "ask about `host` if it uses the host's network: then it is one of the host's own processes",
            ));
        };
        let place = format!("{} on {}", attachment.ip, attachment.bridge);
        Some(Link::ok(
            NAME,
            match self.bound() {
                Some(bound) => format!("{place}, port {}", bound.port_name),
                None => format!("{place}, bound to no port"),
            },
        ))
    }

    /// The door on the way, and how it is.
    pub(crate) fn door(&self) -> Link {
        let Target { ip, .. } = self.target;
        let at = self.facts.addresses;
        if ip == at.dns {
            return own::dns(self);
        }
        if ip == at.listener {
            return own::listener(self);
        }
        if ip.is_loopback() && self.workload.is_some() {
            return Link::ok(NONE, format!("{ip} is the workload itself: no door of Steppe's is there"));
        }
        if ip.is_ipv6() && self.is_guarded() {
            return own::ipv6(self);
        }
        if self.is_here(ip) {
            return published::judge(self);
        }
        if let Some(link) = members::judge(self) {
            return link;
        }
        if self.is_peer(ip) {
            return leaving::judge(self);
        }
        Link::ok(NONE, format!("no door of Steppe's is on the way to {ip}"))
    }

    /// The address that it dials from: one on the target's bridge, if it has several.
    pub(crate) fn attachment(&self) -> Option<&'a Attachment> {
        let attachments = &self.workload?.attachments;
        let there = self.bound_at(self.target.ip).and_then(|state| state.workload.as_ref());
        let near = there.and_then(|there| attachments.iter().find(|own| own.bridge == there.bridge));
        near.or_else(|| attachments.iter().find(|own| own.in_force)).or(attachments.first())
    }

    /// Its workload in the kernel's tables.
    fn bound(&self) -> Option<&'a WorkloadState> {
        let own = self.attachment()?;
        self.firewall.workloads.iter().find(|state| {
            state.id == own.id
                || state.workload.as_ref().is_some_and(|w| w.ip == own.ip && w.bridge == own.bridge)
        })
    }

    /// The workload in the kernel's tables that has an address.
    fn bound_at(&self, ip: IpAddr) -> Option<&'a WorkloadState> {
        let has = |state: &&WorkloadState| state.workload.as_ref().is_some_and(|w| w.ip.parse() == Ok(ip));
        self.firewall.workloads.iter().find(has)
    }

    /// Whether the doors `spoofing` and `leaving` are kept for who asks.
    fn is_guarded(&self) -> bool {
        self.bound().and_then(|state| state.workload.as_ref()).is_some_and(|workload| workload.guarded)
    }

    fn is_peer(&self, ip: IpAddr) -> bool {
        let peers = self.doors.settings.iter().flat_map(|settings| &settings.peers);
        peers.filter_map(|peer| peer.parse::<IpNet>().ok()).any(|peer| peer.contains(&ip))
    }

    /// `10.0.0.0/24 and fd00::/64`
    fn peers_text(&self) -> String {
        let peers = self.doors.settings.as_ref().map_or(&[][..], |settings| &settings.peers);
        if peers.is_empty() { "no other host".to_owned() } else { peers.join(" and ") }
    }

    /// `root and the uids 1000, 60701`
    fn local_text(&self) -> String {
        let uids = self.doors.settings.as_ref().map_or(&[][..], |settings| &settings.local_uids);
        let uids: Vec<_> = uids.iter().filter(|uid| **uid != 0).map(ToString::to_string).collect();
        match uids.as_slice() {
            [] => "root".to_owned(),
            [one] => format!("root and the uid {one}"),
            several => format!("root and the uids {}", several.join(", ")),
        }
    }

    /// The service that somebody here is granted and that leads to the target; what to write to be granted it.
    fn connect_to(&self) -> Option<String> {
        let at = |address: &steppe_api::v1::SocketAddress| {
            address.ip.parse() == Ok(self.target.ip) && address.port == self.target.port
        };
        let listeners = self.facts.proxy.iter().flatten();
        let listener = listeners
            .filter(|state| state.endpoints.iter().any(|endpoint| endpoint.address.as_ref().is_some_and(at)));
        let mut services = listener.filter_map(|state| state.listener.as_ref()?.service.clone());
        let mut service = services.next()?;
        if self.workload.is_some_and(|workload| workload.user == service.user) {
            service.user.clear();
        }
        Some(format!("connect_to={}", crate::key(&service)))
    }

    /// A door that is shut for who asks, as it is kept.
    fn shut(&self, Shut { door, rule, summary, text, fix }: Shut) -> Link {
        let name = name(door);
        let packets = count(self.packets(door), "packet");
        let off = format!("{fix}; steppe-control --door {name}=audit lets everything pass and counts it");
        match self.mode(door) {
            DoorMode::Enforce => {
                Link::refused(name, summary, format!("{text} ({rule}; {packets} refused so far)"), off)
            }
            DoorMode::Audit => Link::watched(
                name,
                summary,
                format!(
                    "audit: it passes, and enforced it would not: {text} ({rule}; {packets} counted so far)"
                ),
                fix,
            ),
            DoorMode::Off | DoorMode::Unspecified => Link::ok(name, "the door is off: nothing is looked at"),
        }
    }

    fn mode(&self, door: DoorName) -> DoorMode {
        let states = self.doors.doors.iter();
        states.filter(|state| state.name() == door).map(|state| state.mode()).next().unwrap_or(DoorMode::Off)
    }

    /// What a door counted of who asks, and of the port that is asked about.
    fn packets(&self, door: DoorName) -> u64 {
        let own = |id: &str| {
            self.workload.is_some_and(|workload| workload.attachments.iter().any(|own| own.id == id))
        };
        let port = self.target.port_text();
        let counts = self.doors.counts.iter().filter(|count| count.door() == door);
        let counts = counts.filter(|count| count.port.is_empty() || count.port == port);
        counts
            .filter(|count| count.workload.is_empty() || own(&count.workload))
            .map(|count| count.packets_total)
            .sum()
    }
}

/// The link of who meets no door.
const NONE: &str = "door";

/// A door's name in flags, and as a link.
#[must_use]
pub fn name(door: DoorName) -> &'static str {
    match door {
        DoorName::Spoofing => "spoofing",
        DoorName::Networks => "networks",
        DoorName::Published => "published",
        DoorName::Leaving => "leaving",
        DoorName::Dns => "dns",
        DoorName::Unspecified => "door",
    }
}
