//! A client, a host and a server in network namespaces of their own, joined by veth: what is measured stands on the host.
//!
//! Every address of [`Stage::source`] and [`Stage::backend`] is local at its end (a route of type `local`, ip-route(8)), so that a
//! run never meets the ports and addresses that an earlier one used up.

use std::{
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use steppe_model::Mac;
use steppe_testbed::Namespaces;

/// The host, as the client sees it.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Addresses that the client has as a container has its own, on the bridge.
const OWN: std::ops::RangeInclusive<u8> = 10..=59;

/// A network namespace, gone with its holder.
#[derive(Debug)]
pub struct Room {
    holder: Child,
    namespaces: Namespaces,
}

/// See the module's head.
#[derive(Debug)]
pub struct Stage {
    /// Where questions come from.
    pub client: Room,
    /// Where what is measured runs.
    pub host: Room,
    /// Where answers come from.
    pub server: Room,
}

impl Room {
    /// # Errors
    /// Without root.
    pub fn new() -> Result<Self> {
        // It reads until our end of the pipe is closed, by whatever ends us.
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare, of Debian's util-linux")?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().context("a pipe")?).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "no network namespace: this needs root");
        let namespaces = Namespaces::net(Path::new(&format!("/proc/{}/ns/net", holder.id())));
        let room = Self { holder, namespaces };
        room.ip("link set lo up")?;
        Ok(room)
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.namespaces
            .enter(|| command.spawn())
            .with_context(|| format!("{program}: see `make install-needs`"))
    }

    /// Runs a shell script inside, to its end.
    ///
    /// # Errors
    /// What it complains of when it fails.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = Command::new("bash");
        command.args(["-euc", script]);
        let output = self.namespaces.enter(|| command.output())?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {complaint}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Does something inside, on a thread of its own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespaces.enter(work)
    }

    fn ip(&self, arguments: &str) -> Result<String> {
        self.sh(&format!("ip {arguments}"))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // It holds nothing but the namespace.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Stage {
    /// # Errors
    /// Without root, or when the kernel lacks veth.
    pub fn raise() -> Result<Self> {
        let stage = Self { client: Room::new()?, host: Room::new()?, server: Room::new()? };
        let ports = "sysctl -qw net.ipv4.ip_local_port_range='1024 65535'";
        let host = |room: &Room, name: &str| -> Result<()> {
            room.ip(&format!("link add eth0 type veth peer name {name} netns {}", stage.host.holder.id()))?;
            Ok(())
        };
        host(&stage.client, "client")?;
        host(&stage.server, "server")?;
        // The client is behind a bridge, as a container is.
        stage.host.sh(&format!(
            "{ports}; sysctl -qw net.ipv4.ip_forward=1
             ip link add br0 type bridge; ip addr add {HOST}/24 dev br0; ip link set br0 up
             ip link set client master br0 up
             ip addr add 10.3.0.1/24 dev server; ip link set server up
             ip route add 10.1.128.0/17 via {CLIENT}
             ip route add 10.2.0.0/16 via 10.3.0.2"
        ))?;
        let own: String =
            Self::own_sources().iter().map(|ip| format!("ip addr add {ip}/24 dev eth0; ")).collect();
        stage.client.sh(&format!(
            "{ports}; ip addr add {CLIENT}/24 dev eth0; ip link set eth0 up; ip route add default via {HOST}
             ip route add local 10.1.128.0/17 dev lo; {own}"
        ))?;
        stage.server.sh(&format!(
            "{ports}; ip addr add 10.3.0.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.3.0.1
             ip route add local 10.2.0.0/16 dev lo"
        ))?;
        Ok(stage)
    }

    /// The nth address of the client.
    pub fn source(nth: u16) -> Ipv4Addr {
        let [high, low] = (0x8000 + nth).to_be_bytes();
        Ipv4Addr::new(10, 1, high, low)
    }

    /// The client's addresses on the bridge, which answer for themselves.
    pub fn own_sources() -> Vec<Ipv4Addr> {
        OWN.map(|nth| Ipv4Addr::new(10, 1, 0, nth)).collect()
    }

    /// The client's bridge port on the host, and its hardware address.
    ///
    /// # Errors
    /// When `ip` says something else than links.
    pub fn client_port(&self) -> Result<(u32, Mac)> {
        let link = |room: &Room, name: &str| -> Result<serde_json::Value> {
            Ok(serde_json::from_str(&room.ip(&format!("-j link show {name}"))?)?)
        };
        let port = link(&self.host, "client")?[0]["ifindex"].as_u64().context("an ifindex")?;
        let mac = link(&self.client, "eth0")?;
        let mac = mac[0]["address"].as_str().context("a hardware address")?.parse()?;
        Ok((u32::try_from(port)?, mac))
    }

    /// The nth address of the server that belongs to one contender.
    pub fn backend(contender: u8, nth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 2, contender, nth)
    }
}
