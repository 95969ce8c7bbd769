//! What can go wrong, and what to check then.

use std::io;

use thiserror::Error;

use crate::host::HostError;

/// Why the agent can't start, or why a change can't be made.
#[derive(Debug, Error)]
pub(crate) enum Error {
    /// No CAP_NET_ADMIN.
    #[error(
        "the kernel does not let this process change nftables and links: CAP_NET_ADMIN is missing; start it as root, or give the file \
         the capability (setcap cap_net_admin+ep …/steppe-netfilter-agent)"
    )]
    NotPermitted,
    /// Another process holds the tables.
    #[error("table `steppe` belongs to a running process: is another netfilter-agent running? Stop it first")]
    Owned,
    /// The kernel lacks something.
    #[error("the kernel refused `{words}` ({source}): {needs}")]
    Refused {
        /// In nft's words.
        words: String,
        /// What to check.
        needs: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket failed.
    #[error("nftables could not be {doing}")]
    Netlink {
        /// Such as "read".
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Links can't be seen.
    #[error("this host's links could not be {doing}")]
    Links {
        /// Such as "listed".
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The address or the route.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Error {
    /// A failure of the nftables socket; EPERM is explained.
    pub(crate) fn netlink(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            _ => Self::Netlink { doing, source },
        }
    }

    /// A failure of the routing socket; EPERM is explained.
    pub(crate) fn links(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            _ => Self::Links { doing, source },
        }
    }

    /// A part of the ruleset that the kernel refused.
    pub(crate) fn refused(words: &str, errno: i32) -> Self {
        let source = io::Error::from_raw_os_error(errno);
        Self::Refused { words: words.into(), needs: needs(words), source }
    }
}

/// What the kernel must have for a part of the ruleset: the options of linux/net/netfilter/Kconfig. The oldest kernel that has all of
/// it is 5.10, for the comment of a table.
fn needs(words: &str) -> &'static str {
    const NEEDS: [(&str, &str); 11] = [
        ("fib ", "it needs CONFIG_NFT_FIB_INET (module nft_fib_inet)"),
        ("numgen ", "it needs CONFIG_NFT_NUMGEN (module nft_numgen)"),
        ("masquerade", "it needs CONFIG_NFT_MASQ (module nft_masq)"),
        ("socket ", "it needs CONFIG_NFT_SOCKET (module nft_socket), Linux 4.18"),
        ("reject ", "it needs CONFIG_NFT_REJECT_INET (module nft_reject_inet), in prerouting Linux 5.9"),
        ("dnat ", "it needs CONFIG_NFT_NAT (module nft_nat)"),
        ("ifkind", "it needs Linux 5.6"),
        ("ct ", "it needs CONFIG_NFT_CT (module nft_ct), Linux 4.17"),
        ("chain bridge", "it needs CONFIG_NF_TABLES_BRIDGE"),
        ("chain inet nat", "it needs CONFIG_NFT_NAT and CONFIG_NF_TABLES_INET, Linux 5.2"),
        ("counter;", "it needs Linux 5.7"),
    ];
    NEEDS.iter().find(|(part, _)| words.contains(part)).map_or(
        "check that this kernel is Linux 5.10 or newer, with CONFIG_NF_TABLES_INET and _BRIDGE",
        |(_, needs)| needs,
    )
}
