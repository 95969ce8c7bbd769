//! Collects the facts: from /proc, the kernel's netlink, and the sockets of Docker and Nomad. It runs no program.

mod acl;
mod docker;
mod http;
mod nftables;
mod nomad;
mod proc;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use ipnet::Ipv4Net;

use super::facts::{Facts, Leftovers, Owned, Wanted};

/// Where systemd looks for units.
const UNIT_DIRECTORIES: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// Everything that is looked at.
pub(crate) async fn gather(wanted: &Wanted, run_dir: &Path) -> Facts {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let counts = (
        proc::number(&read("/proc/sys/net/netfilter/nf_conntrack_count")),
        proc::number(&read("/proc/sys/net/netfilter/nf_conntrack_max")),
    );
    let (docker, nomad) = (docker::ask().await, nomad::ask(wanted.preflight).await);
    Facts {
        modules: modules(&kernel),
        kernel,
        forwards: read("/proc/sys/net/ipv4/ip_forward").trim() == "1",
        conntrack: counts.0.zip(counts.1),
        ephemeral: proc::range(&read("/proc/sys/net/ipv4/ip_local_port_range")),
        chains: nftables::chains(),
        legacy_iptables: !read("/proc/net/ip_tables_names").trim().is_empty(),
        ufw: proc::says_yes(&read("/etc/ufw/ufw.conf"), "ENABLED"),
        routes: proc::routes(&read("/proc/net/route")),
        addresses: addresses(),
        resolvers: ["tcp", "tcp6", "udp", "udp6"]
            .iter()
            .flat_map(|name| proc::resolvers(&read(&format!("/proc/net/{name}"))))
            .collect(),
        localnet: localnet(),
        docker,
        nomad,
        run_dir: fs::metadata(run_dir).ok().map(|found| Owned {
            uid: found.uid(),
            gid: found.gid(),
            mode: found.mode() & 0o7777,
        }),
        boot_unit: UNIT_DIRECTORIES.iter().any(|dir| Path::new(dir).join("steppe-boot.service").exists()),
    }
}

/// What Steppe put that is still there.
pub(crate) fn leftovers(services: Ipv4Net, own: [Ipv4Addr; 2]) -> Leftovers {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (chains, unseen) = match nftables::chains() {
        Ok(chains) => (chains, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let routes = proc::routes(&read("/proc/net/route"));
    Leftovers {
        tables: chains.iter().any(|chain| chain.table == "steppe"),
        route: routes.iter().any(|route| route.to == services && route.device.is_none()),
        address: addresses().iter().any(|address| own.contains(address)),
        unseen,
    }
}

/// This host's own IPv4 addresses, without loopback.
fn addresses() -> Vec<Ipv4Addr> {
    let v4 = |address| match address {
        IpAddr::V4(address) => Some(address).filter(|address| !address.is_loopback()),
        IpAddr::V6(_) => None,
    };
    steppe_explain::local_addresses().into_iter().filter_map(v4).collect()
}

/// Interfaces with `route_localnet`.
fn localnet() -> Vec<String> {
    const CONF: &str = "/proc/sys/net/ipv4/conf";
    let interfaces = fs::read_dir(CONF).into_iter().flatten().flatten();
    let names = interfaces.filter_map(|entry| entry.file_name().into_string().ok());
    let is_on = |name: &String| {
        fs::read_to_string(Path::new(CONF).join(name).join("route_localnet"))
            .is_ok_and(|text| text.trim() == "1")
    };
    names.filter(is_on).collect()
}

/// Names of modules that are built in or on the disk, with `_` for `-`; `None` where the kernel's files are not, as in a container.
fn modules(kernel: &str) -> Option<BTreeSet<String>> {
    let directory = Path::new("/lib/modules").join(kernel);
    let built_in = fs::read_to_string(directory.join("modules.builtin"));
    let on_disk = fs::read_to_string(directory.join("modules.dep"));
    let text = built_in.ok()? + &on_disk.ok()?;
    Some(text.lines().filter_map(proc::module).collect())
}
