//! Who each process runs as. A uid of its own for each, so that SO_PEERCRED tells them apart, and never `nobody`: gVisor's
//! `runsc` runs as that. The numbers are from the range that Debian policy §9.2.2 keeps for packages that are created on demand
//! (60000 to 64999), which neither useradd nor systemd's dynamic users hand out.

/// control: root's files (Docker's socket, resolv.conf), and no capability.
pub const CONTROL_UID: u32 = 0;
/// proxy: no privilege at all.
pub const PROXY_UID: u32 = 60_701;
/// netfilter-agent: CAP_NET_ADMIN.
pub const NETFILTER_AGENT_UID: u32 = 60_702;
/// dns: CAP_NET_BIND_SERVICE.
pub const DNS_UID: u32 = 60_703;
/// The group whose members may talk to the sockets.
pub const GROUP_GID: u32 = 60_700;
