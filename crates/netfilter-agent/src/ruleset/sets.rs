//! The sets and maps.

use std::time::Duration;

use super::Family;

/// A part of a key, by nft's datatypes (libnftnl knows nothing of them; the numbers are nft's `enum datatypes`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// An IPv4 address.
    Ipv4,
    /// A hardware address.
    Ether,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
    /// The name of an interface, 16 bytes.
    IfName,
    /// An IPv6 address.
    Ipv6,
    /// The family of a packet.
    Network,
    /// What kind of hardware an interface is.
    LinkType,
    /// A user id.
    Uid,
    /// A number: nft has no datatype for plain ones, so it is that of marks.
    Number,
    /// The number of a balancer, as a packet's priority has it.
    Balancer,
    /// In a map: where to go on.
    Verdict,
}

impl Key {
    /// nft's number for it, which is how `nft list` knows what to print.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Network => 2,
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Ether => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::IfName => 41,
            Self::Number => 19,
            Self::LinkType => 21,
            Self::Balancer => 23,
            Self::Uid => 24,
            // `NFT_DATA_VERDICT`: the kernel's, not nft's.
            Self::Verdict => 0xffff_ff00,
        }
    }

    /// Whether the kernel compares it as a number or a text of its own, and not as it stands in packets.
    pub(crate) fn is_in_host_order(self) -> bool {
        matches!(self, Self::IfName | Self::Uid | Self::LinkType | Self::Number | Self::Balancer)
    }

    /// Bytes in a key that is nothing else.
    fn length(self) -> u32 {
        match self {
            Self::Protocol | Self::Network => 1,
            Self::Port | Self::LinkType => 2,
            Self::Ipv4 | Self::Number | Self::Balancer | Self::Uid => 4,
            Self::Ether => 6,
            Self::Ipv6 | Self::IfName | Self::Verdict => 16,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ipv6 => "ipv6_addr",
            Self::Network => "nf_proto",
            Self::LinkType => "iface_type",
            Self::Uid => "uid",
            Self::Ether => "ether_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::IfName => "ifname",
            Self::Number => "mark",
            Self::Balancer => "classid",
            Self::Verdict => "verdict",
        }
    }
}

/// Names of the sets and maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetName {
    /// Bridge and address of every known workload. The comment holds what an element can't say of it.
    Workloads,
    /// Who may dial which port of which virtual IP.
    Grants,
    /// Who may dial every TCP port of which virtual IP.
    GrantsAny,
    /// Where a port of a virtual IP leads.
    Listeners,
    /// Where every other TCP port of a virtual IP leads.
    ListenersAny,
    /// The protocols whose new connections take the kernel path: none, or all while the kernel has taken over.
    Takeover,
    /// By port of a virtual IP, the balancer that chooses among its slots on the kernel path.
    Services,
    /// The same for every other TCP port of a virtual IP.
    ServicesAny,
    /// By balancer, its chain.
    Balancers,
    /// By port of a virtual IP and slot, an endpoint. The comment of an endpoint's first slot is its weight and node.
    Endpoints,
    /// The same for `ServicesAny`.
    EndpointsAny,
    /// The virtual IPs, for their counters, which count what was refused. The comment is the service.
    Vips,
    /// The bridges of networks. The comment holds the rest of the network.
    Networks,
    /// The same again, for their counters, which count what was refused there.
    Crossed,
    /// Each bridge of a network with itself: what is forwarded within.
    Siblings,
    /// The families whose packets the door `networks` looks at: none, or all.
    NetworksDoor,
    /// Those that it refuses.
    NetworksShut,
    /// Ports that are published at every address of this host. The comment holds what an element can't say.
    Published,
    /// Ports that are published at some of its addresses, with each of these and the same comment.
    PublishedAt,
    /// Those that every process and container of this host may dial.
    Exposed,
    /// Those that everybody may dial.
    Public,
    /// The published ports again, for their counters, which count what was refused.
    Tried,
    /// Ports of containers that are gone, of every address.
    Closed,
    /// Those of some addresses.
    ClosedAt,
    /// The protocols that the door `published` looks at: none, or all.
    PublishedDoor,
    /// Those that it refuses.
    PublishedShut,
    /// Other hosts.
    Peers,
    /// The same, by IPv6.
    Peers6,
    /// Their published ports.
    PeerPorts,
    /// Local processes that may dial published ports and members of networks.
    LocalUids,
    /// Bridge and address of every guarded workload, for the door `leaving`; their counters count what it refused.
    Leaving,
    /// As of `published`.
    LeavingDoor,
    /// As of `published`.
    LeavingShut,
    /// As of `networks`.
    DnsDoor,
    /// As of `networks`.
    DnsShut,
    /// In the bridge table: from which port, with which hardware address, a workload's address sends.
    Bindings,
    /// In the bridge table, as all that follow: with which hardware address a workload's port sends.
    Hardware,
    /// The ports of guarded workloads; their counters count what was not sent by their own addresses.
    Guarded,
    /// The ports of networks' known members.
    Members,
    /// The networks' addresses.
    Subnets,
    /// The kind of interface that the door `spoofing` looks at: none, or Ethernet, which bridge ports are.
    SpoofingDoor,
    /// That it refuses.
    SpoofingShut,
    /// The workloads' ports, each with what dns is asked from there beyond measure.
    Askers,
    /// As of `spoofing`.
    BridgeDnsDoor,
    /// As of `spoofing`.
    BridgeDnsShut,
}

impl SetName {
    /// The set itself.
    pub(crate) fn set(self) -> &'static Set {
        // The names are the indices: `sets_stand_in_the_order_of_their_names` keeps it so.
        &SETS[self as usize]
    }
}

/// A set or a map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Set {
    /// What code calls it.
    pub(crate) name: SetName,
    /// What nft calls it.
    pub(crate) text: &'static str,
    /// Where it is.
    pub(crate) family: Family,
    /// What its keys are made of.
    pub(crate) key: &'static [Key],
    /// What it leads to, when it is a map.
    pub(crate) data: &'static [Key],
    /// What its elements are like.
    pub(crate) kind: Kind,
}

/// What the elements of a set are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Keys, and what they lead to.
    Plain,
    /// Each counts the packets that matched it.
    Counting,
    /// Two make a range: its first key, and the first behind it.
    Ranges,
    /// Each goes by itself after so long.
    Forgetting(Duration),
    /// Each matches only the packets beyond so many a second, and beyond so many at once.
    Beyond(u32, u32),
}

/// What a workload may send to dns: so many packets a second, and so many at once, which fit into the queue of dns's socket when
/// `net.core.rmem_max` is the kernel's default. So no flood takes the room of the others' questions.
const ASKED: Kind = Kind::Beyond(10_000, 512);

/// How long a published port stays closed after its container is gone: others may dial it until they have heard of that.
pub(crate) const CLOSED_FOR: Duration = Duration::from_secs(120);

const WHO_TO_WHERE: &[Key] = &[Key::Ipv4, Key::Ipv4, Key::Protocol, Key::Port];
const PORT: &[Key] = &[Key::Ipv4, Key::Protocol, Key::Port];
const HOST_PORT: &[Key] = &[Key::Protocol, Key::Port];
const ADDRESS: &[Key] = &[Key::Ipv4, Key::Port];

/// All of them.
pub(crate) static SETS: [Set; 45] = [
    // set workloads { type ifname . ipv4_addr; }
    set(SetName::Workloads, "workloads", Family::Inet, &[Key::IfName, Key::Ipv4], &[], Kind::Plain),
    // set grants { type ipv4_addr . ipv4_addr . inet_proto . inet_service; counter; }
    set(SetName::Grants, "grants", Family::Inet, WHO_TO_WHERE, &[], Kind::Counting),
    // set grants_any { type ipv4_addr . ipv4_addr; counter; }
    set(SetName::GrantsAny, "grants_any", Family::Inet, &[Key::Ipv4, Key::Ipv4], &[], Kind::Counting),
    // map listeners { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    set(SetName::Listeners, "listeners", Family::Inet, PORT, ADDRESS, Kind::Plain),
    // map listeners_any { type ipv4_addr : ipv4_addr . inet_service; }
    set(SetName::ListenersAny, "listeners_any", Family::Inet, &[Key::Ipv4], ADDRESS, Kind::Plain),
    // set takeover { type inet_proto; }
    set(SetName::Takeover, "takeover", Family::Inet, &[Key::Protocol], &[], Kind::Plain),
    // map services { type ipv4_addr . inet_proto . inet_service : classid; }
    set(SetName::Services, "services", Family::Inet, PORT, &[Key::Balancer], Kind::Plain),
    // map services_any { type ipv4_addr : classid; }
    set(SetName::ServicesAny, "services_any", Family::Inet, &[Key::Ipv4], &[Key::Balancer], Kind::Plain),
    // map balancers { type classid : verdict; }
    set(SetName::Balancers, "balancers", Family::Inet, &[Key::Balancer], &[Key::Verdict], Kind::Plain),
    // map endpoints { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; }
    set(
        SetName::Endpoints,
        "endpoints",
        Family::Inet,
        &[Key::Ipv4, Key::Protocol, Key::Port, Key::Number],
        ADDRESS,
        Kind::Plain,
    ),
    // map endpoints_any { type ipv4_addr . mark : ipv4_addr . inet_service; }
    set(
        SetName::EndpointsAny,
        "endpoints_any",
        Family::Inet,
        &[Key::Ipv4, Key::Number],
        ADDRESS,
        Kind::Plain,
    ),
    // set vips { type ipv4_addr; counter; }
    set(SetName::Vips, "vips", Family::Inet, &[Key::Ipv4], &[], Kind::Counting),
    // set networks { type ifname; }
    inet(SetName::Networks, "networks", &[Key::IfName], Kind::Plain),
    // set crossed { type ifname; counter; }
    inet(SetName::Crossed, "crossed", &[Key::IfName], Kind::Counting),
    // set siblings { type ifname . ifname; }
    inet(SetName::Siblings, "siblings", &[Key::IfName, Key::IfName], Kind::Plain),
    // set networks_door { type nf_proto; }
    inet(SetName::NetworksDoor, "networks_door", &[Key::Network], Kind::Plain),
    // set networks_shut { type nf_proto; }
    inet(SetName::NetworksShut, "networks_shut", &[Key::Network], Kind::Plain),
    // set published { type inet_proto . inet_service; }
    inet(SetName::Published, "published", HOST_PORT, Kind::Plain),
    // set published_at { type ipv4_addr . inet_proto . inet_service; }
    inet(SetName::PublishedAt, "published_at", PORT, Kind::Plain),
    // set exposed { type inet_proto . inet_service; }
    inet(SetName::Exposed, "exposed", HOST_PORT, Kind::Plain),
    // set public { type inet_proto . inet_service; }
    inet(SetName::Public, "public", HOST_PORT, Kind::Plain),
    // set tried { type inet_proto . inet_service; counter; }
    inet(SetName::Tried, "tried", HOST_PORT, Kind::Counting),
    // set closed { type inet_proto . inet_service; timeout 120s; }
    inet(SetName::Closed, "closed", HOST_PORT, Kind::Forgetting(CLOSED_FOR)),
    // set closed_at { type ipv4_addr . inet_proto . inet_service; timeout 120s; }
    inet(SetName::ClosedAt, "closed_at", PORT, Kind::Forgetting(CLOSED_FOR)),
    // set published_door { type inet_proto; }
    inet(SetName::PublishedDoor, "published_door", &[Key::Protocol], Kind::Plain),
    // set published_shut { type inet_proto; }
    inet(SetName::PublishedShut, "published_shut", &[Key::Protocol], Kind::Plain),
    // set peers { type ipv4_addr; flags interval; }
    inet(SetName::Peers, "peers", &[Key::Ipv4], Kind::Ranges),
    // set peers6 { type ipv6_addr; flags interval; }
    inet(SetName::Peers6, "peers6", &[Key::Ipv6], Kind::Ranges),
    // set peer_ports { type inet_service; flags interval; }
    inet(SetName::PeerPorts, "peer_ports", &[Key::Port], Kind::Ranges),
    // set local_uids { type uid; }
    inet(SetName::LocalUids, "local_uids", &[Key::Uid], Kind::Plain),
    // set leaving { type ifname . ipv4_addr; counter; }
    inet(SetName::Leaving, "leaving", &[Key::IfName, Key::Ipv4], Kind::Counting),
    // set leaving_door { type inet_proto; }
    inet(SetName::LeavingDoor, "leaving_door", &[Key::Protocol], Kind::Plain),
    // set leaving_shut { type inet_proto; }
    inet(SetName::LeavingShut, "leaving_shut", &[Key::Protocol], Kind::Plain),
    // set dns_door { type nf_proto; }
    inet(SetName::DnsDoor, "dns_door", &[Key::Network], Kind::Plain),
    // set dns_shut { type nf_proto; }
    inet(SetName::DnsShut, "dns_shut", &[Key::Network], Kind::Plain),
    // set bindings { type ifname . ether_addr . ipv4_addr; }
    bridge(SetName::Bindings, "bindings", &[Key::IfName, Key::Ether, Key::Ipv4], Kind::Plain),
    // set hardware { type ifname . ether_addr; }
    bridge(SetName::Hardware, "hardware", &[Key::IfName, Key::Ether], Kind::Plain),
    // set guarded { type ifname; counter; }
    bridge(SetName::Guarded, "guarded", &[Key::IfName], Kind::Counting),
    // set members { type ifname; }
    bridge(SetName::Members, "members", &[Key::IfName], Kind::Plain),
    // set subnets { type ipv4_addr; flags interval; }
    bridge(SetName::Subnets, "subnets", &[Key::Ipv4], Kind::Ranges),
    // set spoofing_door { type iface_type; }
    bridge(SetName::SpoofingDoor, "spoofing_door", &[Key::LinkType], Kind::Plain),
    // set spoofing_shut { type iface_type; }
    bridge(SetName::SpoofingShut, "spoofing_shut", &[Key::LinkType], Kind::Plain),
    // set askers { type ifname; limit rate over 10000/second burst 512 packets; }
    bridge(SetName::Askers, "askers", &[Key::IfName], ASKED),
    // set dns_door { type iface_type; }
    bridge(SetName::BridgeDnsDoor, "dns_door", &[Key::LinkType], Kind::Plain),
    // set dns_shut { type iface_type; }
    bridge(SetName::BridgeDnsShut, "dns_shut", &[Key::LinkType], Kind::Plain),
];

const fn set(
    name: SetName,
    text: &'static str,
    family: Family,
    key: &'static [Key],
    data: &'static [Key],
    kind: Kind,
) -> Set {
    Set { name, text, family, key, data, kind }
}

const fn inet(name: SetName, text: &'static str, key: &'static [Key], kind: Kind) -> Set {
    set(name, text, Family::Inet, key, &[], kind)
}

const fn bridge(name: SetName, text: &'static str, key: &'static [Key], kind: Kind) -> Set {
    set(name, text, Family::Bridge, key, &[], kind)
}

impl Set {
    /// nft's number for a concatenation: six bits a part.
    pub(crate) fn type_number(parts: &[Key]) -> u32 {
        parts.iter().fold(0, |number, part| number << 6 | part.number())
    }

    /// Bytes of a key, or of what a map leads to. In a concatenation each part is padded to whole registers of four bytes.
    pub(crate) fn length(parts: &[Key]) -> u32 {
        match parts {
            [single] => single.length(),
            parts => parts.iter().map(|part| part.length().next_multiple_of(4)).sum(),
        }
    }

    /// Its definition in nft's words.
    pub(crate) fn words(&self) -> String {
        let list = |parts: &[Key]| parts.iter().map(|part| part.word()).collect::<Vec<_>>().join(" . ");
        let kind = if self.data.is_empty() { "set" } else { "map" };
        let data = if self.data.is_empty() { String::new() } else { format!(" : {}", list(self.data)) };
        let more = match self.kind {
            Kind::Plain => String::new(),
            Kind::Counting => "; counter".into(),
            Kind::Ranges => "; flags interval".into(),
            Kind::Forgetting(after) => format!("; timeout {}s", after.as_secs()),
            Kind::Beyond(rate, burst) => format!("; limit rate over {rate}/second burst {burst} packets"),
        };
        format!("{kind} {} {{ type {}{data}{more}; }}", self.text, list(self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_stand_in_the_order_of_their_names() {
        for (i, set) in SETS.iter().enumerate() {
            assert_eq!(set.name as usize, i);
        }
    }

    #[test]
    fn words_are_nfts() {
        assert_eq!(
            SetName::Listeners.set().words(),
            "map listeners { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }"
        );
        assert_eq!(SetName::Vips.set().words(), "set vips { type ipv4_addr; counter; }");
    }
}
