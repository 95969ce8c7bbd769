//! The kernel, Docker, and what belongs to Steppe itself.

use steppe_daemon::GROUP_GID;

use super::version;
use crate::doctor::{
    facts::{Facts, Owned, Wanted},
    finding::Finding,
};

/// What the netfilter-agent's rules are made of. The bridge family is a part of nf_tables; `nft_reject` has one module a family.
const MODULES: [&str; 7] =
    ["nf_tables", "nft_ct", "nft_nat", "nft_chain_nat", "nft_reject_inet", "nft_socket", "nf_conntrack"];
/// A host with a few hundred busy containers passes the small default of little machines.
const CONNTRACK: u64 = 65_536;

pub(super) fn kernel(facts: &Facts) -> Finding {
    let says = format!("Linux {}", facts.kernel);
    match version(&facts.kernel) {
        None => Finding::unknown("kernel", says, "Linux 5.10 or later is needed: compare with `uname -r`"),
        Some(found) if found < (5, 10) => {
            Finding::fail("kernel", format!("{says}: too old"), "run Linux 5.10 or later")
        }
        Some(found) if found < (6, 9) => Finding::warn(
            "kernel",
            format!(
                "{says}: the kernel can't keep others off Steppe's tables; the agent puts back what they change"
            ),
            "run Linux 6.9 or later where somebody flushes nftables often",
        ),
        Some(_) => Finding::ok("kernel", format!("{says}: tables are owned")),
    }
}

pub(super) fn modules(facts: &Facts) -> Vec<Finding> {
    let missing: Vec<&str> = match &facts.modules {
        Some(modules) => MODULES.into_iter().filter(|name| !modules.contains(*name)).collect(),
        None => Vec::new(),
    };
    if missing.is_empty() {
        return Vec::new();
    }
    let says = format!("this kernel lacks {}", missing.join(", "));
    vec![Finding::fail(
        "kernel",
        says,
        "install the kernel's full modules package, or build the kernel with them",
    )]
}

pub(super) fn forwarding(facts: &Facts) -> Finding {
    if facts.forwards {
        return Finding::ok("forwarding", "net.ipv4.ip_forward is 1");
    }
    let fix = "echo net.ipv4.ip_forward=1 >/etc/sysctl.d/60-steppe.conf && sysctl --system (Docker does it at its start, too)";
    Finding::fail("forwarding", "net.ipv4.ip_forward is 0: no packet of a container goes anywhere", fix)
}

pub(super) fn conntrack(facts: &Facts) -> Finding {
    let larger = "sysctl -w net.netfilter.nf_conntrack_max=262144, and the same in /etc/sysctl.d";
    match facts.conntrack {
        None => Finding::ok("conntrack", "not loaded yet: Steppe's rules load it"),
        Some((count, max)) if count >= max / 4 * 3 => Finding::fail(
            "conntrack",
            format!("{count} of {max} entries are in use: new connections fail soon"),
            larger,
        ),
        Some((_, max)) if max < CONNTRACK => {
            Finding::warn("conntrack", format!("there is room for {max} connections alone"), larger)
        }
        Some((count, max)) => Finding::ok("conntrack", format!("{count} of {max} entries are in use")),
    }
}

pub(super) fn docker(facts: &Facts) -> Vec<Finding> {
    let docker = match &facts.docker {
        Ok(docker) => docker,
        Err(why) => {
            let fix = "start Docker, and run this as root; DOCKER_HOST says where it is, if not at /var/run/docker.sock";
            return vec![Finding::fail("docker", why, fix)];
        }
    };
    let says = format!("Docker {}", docker.version);
    let mut findings = vec![match version(&docker.version) {
        None => Finding::unknown("docker", says, "Docker 20.10 or later is needed"),
        Some(found) if found < (20, 10) => {
            Finding::fail("docker", format!("{says}: too old"), "run Docker 20.10 or later")
        }
        Some(_) => Finding::ok("docker", says),
    }];
    if !docker.iptables {
        findings.push(Finding::fail(
            "docker",
            "Docker makes no rules: its published ports are those of docker-proxy, a local process, and are refused from outside",
            "take \"iptables\": false out of /etc/docker/daemon.json and --iptables=false off dockerd's command line",
        ));
    }
    if docker.security.iter().any(|option| option.starts_with("name=userns")) {
        findings.push(Finding::fail(
            "docker",
            "Docker gives containers users of their own (userns-remap): control can't be told by its uid",
            "run Steppe by systemd (deploy/systemd), or set userns_mode = \"host\" in each task of system.hcl",
        ));
    }
    if docker.security.iter().any(|option| option.starts_with("name=rootless")) {
        findings.push(Finding::fail(
            "docker",
            "Docker runs rootless: its containers are in a network that is not this host's",
            "run Docker as root",
        ));
    }
    findings
}

/// With `userland-proxy` off Docker lets its bridges carry packets for 127.0.0.0/8.
pub(super) fn localnet(facts: &Facts) -> Option<Finding> {
    if facts.localnet.is_empty() {
        return None;
    }
    Some(Finding::warn(
        "docker",
        format!(
            "{} carry packets for 127.0.0.0/8 (route_localnet): a container with NET_ADMIN reaches what listens on this host's \
             loopback alone",
            facts.localnet.join(", ")
        ),
        "leave \"userland-proxy\" on in /etc/docker/daemon.json",
    ))
}

/// As control, or `install -d`, leaves it.
const OURS: Owned = Owned { uid: 0, gid: GROUP_GID, mode: 0o1770 };
/// As Docker makes it for a mount: control puts it right.
const DOCKERS: Owned = Owned { uid: 0, gid: 0, mode: 0o755 };

pub(super) fn run_dir(wanted: &Wanted, facts: &Facts) -> Finding {
    match facts.run_dir {
        None if wanted.preflight => Finding::ok("run dir", "not there yet: control makes it"),
        None => Finding::fail("run dir", "there is no run directory", "start control, which makes it"),
        Some(OURS | DOCKERS) => Finding::ok("run dir", "root and the group steppe own it"),
        Some(Owned { uid, gid, mode }) => Finding::fail(
            "run dir",
            format!(
                "it belongs to {uid}:{gid}, mode {mode:o}: others could take the agents' places there, or they can't"
            ),
            format!("chown 0:{GROUP_GID} and chmod 1770 it"),
        ),
    }
}

pub(super) fn boot(wanted: &Wanted, facts: &Facts) -> Finding {
    if facts.boot_unit {
        return Finding::ok("boot", "steppe-boot.service refuses virtual IPs before Docker starts");
    }
    Finding::warn(
        "boot",
        format!(
            "between boot and the netfilter-agent's start, packets for {} follow the default route",
            wanted.services
        ),
        "install deploy/systemd/steppe-boot.service and enable it",
    )
}
