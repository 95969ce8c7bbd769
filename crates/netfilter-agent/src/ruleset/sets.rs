//! The sets and maps.

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
    /// A number: nft has no datatype for plain ones, so it is that of marks.
    Number,
    /// In a map: where to go on.
    Verdict,
}

impl Key {
    /// nft's number for it, which is how `nft list` knows what to print.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ether => 9,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::IfName => 41,
            Self::Number => 19,
            // `NFT_DATA_VERDICT`: the kernel's, not nft's.
            Self::Verdict => 0xffff_ff00,
        }
    }

    /// Bytes in a key that is nothing else.
    fn length(self) -> u32 {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 | Self::Number => 4,
            Self::Ether => 6,
            Self::IfName | Self::Verdict => 16,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_addr",
            Self::Ether => "ether_addr",
            Self::Protocol => "inet_proto",
            Self::Port => "inet_service",
            Self::IfName => "ifname",
            Self::Number => "mark",
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
    /// By port of a virtual IP, the chain that chooses among its slots on the kernel path.
    Services,
    /// The same for every other TCP port of a virtual IP.
    ServicesAny,
    /// By port of a virtual IP and slot, an endpoint. The comment of an endpoint's first slot is its weight and node.
    Endpoints,
    /// The same for `ServicesAny`.
    EndpointsAny,
    /// The virtual IPs, for their counters, which count what was refused. The comment is the service.
    Vips,
    /// In the bridge table: from which port, with which hardware address, a workload's address sends.
    Bindings,
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
    /// Whether each element counts the packets that matched it.
    pub(crate) counter: bool,
}

const WHO_TO_WHERE: &[Key] = &[Key::Ipv4, Key::Ipv4, Key::Protocol, Key::Port];
const PORT: &[Key] = &[Key::Ipv4, Key::Protocol, Key::Port];
const ADDRESS: &[Key] = &[Key::Ipv4, Key::Port];

/// All of them.
pub(crate) static SETS: [Set; 12] = [
    // set workloads { type ifname . ipv4_addr; }
    set(SetName::Workloads, "workloads", Family::Inet, &[Key::IfName, Key::Ipv4], &[], false),
    // set grants { type ipv4_addr . ipv4_addr . inet_proto . inet_service; counter; }
    set(SetName::Grants, "grants", Family::Inet, WHO_TO_WHERE, &[], true),
    // set grants_any { type ipv4_addr . ipv4_addr; counter; }
    set(SetName::GrantsAny, "grants_any", Family::Inet, &[Key::Ipv4, Key::Ipv4], &[], true),
    // map listeners { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    set(SetName::Listeners, "listeners", Family::Inet, PORT, ADDRESS, false),
    // map listeners_any { type ipv4_addr : ipv4_addr . inet_service; }
    set(SetName::ListenersAny, "listeners_any", Family::Inet, &[Key::Ipv4], ADDRESS, false),
    // set takeover { type inet_proto; }
    set(SetName::Takeover, "takeover", Family::Inet, &[Key::Protocol], &[], false),
    // map services { type ipv4_addr . inet_proto . inet_service : verdict; }
    set(SetName::Services, "services", Family::Inet, PORT, &[Key::Verdict], false),
    // map services_any { type ipv4_addr : verdict; }
    set(SetName::ServicesAny, "services_any", Family::Inet, &[Key::Ipv4], &[Key::Verdict], false),
    // map endpoints { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; }
    set(
        SetName::Endpoints,
        "endpoints",
        Family::Inet,
        &[Key::Ipv4, Key::Protocol, Key::Port, Key::Number],
        ADDRESS,
        false,
    ),
    // map endpoints_any { type ipv4_addr . mark : ipv4_addr . inet_service; }
    set(SetName::EndpointsAny, "endpoints_any", Family::Inet, &[Key::Ipv4, Key::Number], ADDRESS, false),
    // set vips { type ipv4_addr; counter; }
    set(SetName::Vips, "vips", Family::Inet, &[Key::Ipv4], &[], true),
    // set bindings { type ifname . ether_addr . ipv4_addr; }
    set(SetName::Bindings, "bindings", Family::Bridge, &[Key::IfName, Key::Ether, Key::Ipv4], &[], false),
];

const fn set(
    name: SetName,
    text: &'static str,
    family: Family,
    key: &'static [Key],
    data: &'static [Key],
    counter: bool,
) -> Set {
    Set { name, text, family, key, data, counter }
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
        let counter = if self.counter { "; counter" } else { "" };
        format!("{kind} {} {{ type {}{data}{counter}; }}", self.text, list(self.key))
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
