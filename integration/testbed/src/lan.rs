//! The network between the hosts: a bridge in a namespace of its own, which is also their router and, at
//! [`OUTSIDE`], the rest of the world. It sees every frame that leaves a host.

use crate::holder::Holder;
use crate::namespaces::Namespaces;
use crate::output::{Output, run, sh};
use crate::tools;
use crate::wait::eventually;
use serde_json::Value;
use std::fs::read_to_string;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// The hosts' default route leads here.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// An address beyond the router (TEST-NET-2, RFC 5737): what is neither a host nor a container.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The same in IPv6 (RFC 4193), in a cluster [with IPv6](crate::Spec::ipv6).
pub const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 1);
/// The hosts' IPv6 default route leads here.
pub(crate) const ROUTER6: &str = "fd77::1";
/// The hosts' network.
pub(crate) const PREFIX: u8 = 24;

/// BR_STATE_FORWARDING of linux/if_bridge.h.
const FORWARDING: &str = "3";
const PATIENCE: Duration = Duration::from_secs(10);

/// `vips` counts what must never be seen here, and `leaks` names it; both are dropped, so that no test can
/// send them any further. `cut` holds the ports of hosts whose cable is pulled.
const RULES: &str = "
table bridge testbed {
  counter vips { }
  set leaks { type ipv4_addr . ipv4_addr; flags dynamic; size 1024; }
  set cut { type ifname; }
  chain prerouting {
    type filter hook prerouting priority -400; policy accept;
    ether type ip ip daddr 247.0.0.0/8 counter name vips add @leaks { ip saddr . ip daddr } drop
    ether type ip ip saddr 247.0.0.0/8 counter name vips add @leaks { ip saddr . ip daddr } drop
    arp daddr ip 247.0.0.0/8 counter name vips add @leaks { arp saddr ip . arp daddr ip } drop
    iifname @cut drop
  }
  chain postrouting {
    type filter hook postrouting priority 400; policy accept;
    oifname @cut drop
  }
}
";

/// See the module's head.
#[derive(Debug)]
pub struct Lan {
    holder: Holder,
    namespaces: Arc<Namespaces>,
}

impl Lan {
    pub(crate) fn new(holder: Holder) -> Self {
        let namespaces = Arc::clone(&holder.home().namespaces);
        tools::install(&namespaces);
        let lan = Self { holder, namespaces };
        lan.ip(&format!(
            "link add br0 type bridge\naddr add {ROUTER}/{PREFIX} dev br0\naddr add {OUTSIDE}/32 dev lo\nlink set br0 up"
        ));
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]);
        run(&lan.namespaces, nft, RULES).ok();
        lan
    }

    /// Its init's pid as seen from outside.
    pub(crate) fn pid(&self) -> u32 {
        self.holder.pid()
    }

    /// Joins a host: its end is `eth0`, ours is `to-NAME`.
    pub(crate) fn plug(&self, name: &str, host: &Holder, address: Ipv4Addr) {
        let pid = host.pid();
        // The host's pid means something outside alone, so only the network is entered.
        let net = Namespaces::net(Path::new(&format!("/proc/{}/ns/net", self.pid())));
        ip(
            &net,
            &format!(
                "link add to-{name} type veth peer name eth0 netns {pid}\nlink set to-{name} master br0 up"
            ),
        );
        ip(
            &host.home().namespaces,
            &format!(
                "addr add {address}/{PREFIX} dev eth0\nlink set eth0 up\nroute add default via {ROUTER} dev eth0"
            ),
        );
    }

    /// Its own IPv6 addresses.
    pub(crate) fn ipv6(&self) {
        self.ip(&format!("addr add {ROUTER6}/64 dev br0 nodad\naddr add {OUTSIDE6}/128 dev lo nodad"));
    }

    /// Waits until the bridge forwards what the host sends: the kernel sees a new carrier a little later, and a
    /// SYN or an ARP request that is lost in between costs a second.
    pub(crate) fn wait_plugged(&self, name: &str) {
        let path = format!("/sys/class/net/to-{name}/brport/state");
        eventually(PATIENCE, &format!("the port of host {name} forwards"), || {
            let state = self.namespaces.enter(|| read_to_string(&path)).map_err(|e| e.to_string())?;
            if state.trim() == FORWARDING { Ok(()) } else { Err(format!("state {state}")) }
        });
    }

    /// Pulls the host's cable: nothing passes, and nobody is told.
    pub fn cut(&self, host: &str) {
        sh(&self.namespaces, &format!("nft add element bridge testbed cut '{{ \"to-{host}\" }}'")).ok();
    }

    /// Plugs it in again.
    pub fn restore(&self, host: &str) {
        sh(&self.namespaces, &format!("nft delete element bridge testbed cut '{{ \"to-{host}\" }}'")).ok();
    }

    /// Lets only so much pass to the host, in kbit/s. (A rate, not a delay: tbf is in every kernel,
    /// netem isn't.)
    pub fn slow(&self, host: &str, kbit: u32) {
        let script =
            format!("tc qdisc replace dev to-{host} root tbf rate {kbit}kbit burst 16kbit latency 400ms");
        sh(&self.namespaces, &script).ok();
    }

    /// Ends [`Lan::slow`].
    pub fn unslow(&self, host: &str) {
        sh(&self.namespaces, &format!("tc qdisc del dev to-{host} root")).ok();
    }

    /// How many packets and ARP requests from or to 247.0.0.0/8 left a host so far. Must stay zero.
    pub fn vip_packets(&self) -> u64 {
        let text = sh(&self.namespaces, "nft -j list counter bridge testbed vips").ok();
        let json: Value = serde_json::from_str(&text).expect("nft -j prints JSON");
        let counters = json["nftables"].as_array().into_iter().flatten();
        let packets = counters.filter_map(|item| item["counter"]["packets"].as_u64()).next();
        packets.unwrap_or_else(|| panic!("no counter in {text}"))
    }

    /// Who sent what [`Lan::vip_packets`] counts, in nft's words.
    pub fn vip_leaks(&self) -> String {
        sh(&self.namespaces, "nft list set bridge testbed leaks").ok()
    }

    /// Runs a shell script there.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        sh(&self.namespaces, script)
    }

    /// Runs the probe there, as root, to its end.
    #[track_caller]
    pub fn probe(&self, arguments: &[&str]) -> Output {
        tools::probe(&self.namespaces, 0, arguments)
    }

    /// The namespaces of the router and the world outside.
    pub fn namespaces(&self) -> &Arc<Namespaces> {
        &self.namespaces
    }

    fn ip(&self, batch: &str) {
        ip(&self.namespaces, batch);
    }
}

/// Runs lines of ip(8) commands.
fn ip(namespaces: &Namespaces, batch: &str) {
    let mut command = Command::new("ip");
    command.args(["-batch", "-"]);
    run(namespaces, command, batch).ok();
}
