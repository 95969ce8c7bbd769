//! The proxies that are measured, each started with its own configuration of `peers/`.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use steppe_model::{
    Client, Endpoint, Grant, Listener, ListenerKey, Protocol, Resource, ServiceKey, ServicePort, VirtualIp,
    VirtualPort, Workload, WorkloadId,
};
use steppe_testbed::{GROUP, Identity};

use crate::{
    load::PORT,
    process::Process,
    stage::{HOST, Stage},
    sync::{Agent, Sync},
};

/// Backends of each contender.
const BACKENDS: u8 = 8;
/// What clients of the kernel path dial.
const VIP: Ipv4Addr = Ipv4Addr::new(247, 7, 7, 7);
const VIP_PORT: u16 = 80;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// No proxy: the host routes.
    Direct,
    Nginx,
    Haproxy,
    /// With large buffers and pipes, and splice (docs/performance.md).
    HaproxyForBulk,
    Envoy,
    Steppe,
    /// Steppe's kernel path: no proxy either, but grants and balancing (`steppe.path=kernel`).
    Kernel,
}

/// One of them, running.
#[derive(Debug)]
pub struct Contender {
    /// Where clients dial.
    pub targets: Vec<SocketAddrV4>,
    /// None for [`Who::Direct`].
    pub process: Option<Process>,
    _sync: Option<Sync>,
}

impl Who {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx stream",
            Self::Haproxy => "HAProxy",
            Self::HaproxyForBulk => "HAProxy, tuned for bulk",
            Self::Envoy => "Envoy",
            Self::Steppe => "steppe-proxy",
            Self::Kernel => "kernel path",
        }
    }

    /// Whether it is one that Steppe is compared with.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Direct | Self::Steppe | Self::Kernel)
    }

    fn number(self) -> u8 {
        self as u8 + 1
    }

    fn backends(self) -> impl Iterator<Item = SocketAddrV4> {
        (1..=BACKENDS).map(move |nth| SocketAddrV4::new(Stage::backend(self.number(), nth), PORT))
    }

    fn address(self) -> SocketAddrV4 {
        SocketAddrV4::new(HOST, 8000 + u16::from(self.number()))
    }

    /// Starts it on the host; its files are in `directory`.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub fn start(
        self,
        stage: &Stage,
        directory: &Path,
        workers: usize,
        sources: &[Ipv4Addr],
    ) -> Result<Contender> {
        let directory = directory.join(self.number().to_string());
        fs::create_dir_all(&directory)?;
        let mut command = match self {
            Self::Direct => {
                let targets = self.backends().collect();
                return Ok(Contender { targets, process: None, _sync: None });
            }
            Self::Nginx => self.nginx(&directory, workers)?,
            Self::Haproxy => self.haproxy(&directory, workers, "", "")?,
            Self::HaproxyForBulk => self.haproxy(
                &directory,
                workers,
                "  tune.pipesize 524288\n  tune.bufsize 131072\n",
                "  option splice-request\n  option splice-response\n",
            )?,
            Self::Envoy => self.envoy(&directory, workers)?,
            Self::Steppe => steppe(&directory, workers)?,
            Self::Kernel => production(&directory, Identity::NETFILTER_AGENT)?,
        };
        let log = File::create(directory.join("log"))?;
        let mut process = Process::start(&stage.host, self.name(), &mut command, log)?;
        let (targets, sync) = match self {
            Self::Steppe => {
                let socket = directory.join("proxy.sock");
                let mut sync = process.ready(|| Sync::open(Agent::Proxy, &socket).ok())?;
                sync.snapshot(&listener(Protocol::Tcp, self.address(), self.backends(), sources))?;
                (vec![self.address()], Some(sync))
            }
            Self::Kernel => {
                let socket = directory.join("netfilter-agent.sock");
                let mut sync = process.ready(|| Sync::open(Agent::Netfilter, &socket).ok())?;
                sync.snapshot(&self.service_port(stage, sources)?)?;
                (vec![SocketAddrV4::new(VIP, VIP_PORT)], Some(sync))
            }
            _ => {
                process.listening(&stage.host, self.address())?;
                (vec![self.address()], None)
            }
        };
        Ok(Contender { targets, process: Some(process), _sync: sync })
    }

    fn nginx(self, directory: &Path, workers: usize) -> Result<Command> {
        let servers = self.lines(|address| format!("    server {address};"));
        // With several workers it is told to spread connections as Steppe does.
        let reuseport = if workers > 1 { "reuseport" } else { "" };
        let text = include_str!("../peers/nginx.conf").replace("@REUSEPORT@", reuseport);
        let file = self.configuration(directory, "nginx.conf", &text, workers, &servers)?;
        Ok(nginx(directory, &file))
    }

    fn haproxy(self, directory: &Path, workers: usize, tuning: &str, options: &str) -> Result<Command> {
        let mut number = 0;
        let servers = self.lines(|address| {
            number += 1;
            format!("  server s{number} {address}")
        });
        let text = include_str!("../peers/haproxy.cfg")
            .replace("@TUNING@\n", tuning)
            .replace("@OPTIONS@\n", options);
        let file = self.configuration(directory, "haproxy.cfg", &text, workers, &servers)?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    }

    fn envoy(self, directory: &Path, workers: usize) -> Result<Command> {
        let servers = self.lines(|address| {
            let (ip, port) = (address.ip(), address.port());
            format!("        - endpoint: {{ address: {{ socket_address: {{ address: {ip}, port_value: {port} }} }} }}")
        });
        let text = include_str!("../peers/envoy.yaml");
        let file = self.configuration(directory, "envoy.yaml", text, workers, &servers)?;
        let mut command = Command::new(programs().join("needs/envoy"));
        command.arg("-c").arg(file).args([
            "--concurrency",
            &workers.to_string(),
            "--disable-hot-restart",
            "-l",
            "warn",
        ]);
        Ok(command)
    }

    fn lines(self, line: impl FnMut(SocketAddrV4) -> String) -> String {
        self.backends().map(line).collect::<Vec<_>>().join("\n")
    }

    fn configuration(
        self,
        directory: &Path,
        name: &str,
        text: &str,
        workers: usize,
        servers: &str,
    ) -> Result<PathBuf> {
        let address = self.address();
        let text = text
            .replace("@WORKERS@", &workers.to_string())
            .replace("@ADDRESS@", &address.to_string())
            .replace("@IP@", &address.ip().to_string())
            .replace("@PORT@", &address.port().to_string())
            .replace("@SERVERS@", servers);
        let file = directory.join(name);
        fs::write(&file, text)?;
        Ok(file)
    }

    /// What the netfilter-agent is told.
    fn service_port(self, stage: &Stage, sources: &[Ipv4Addr]) -> Result<Vec<Resource>> {
        let port = VirtualPort::new(Protocol::Tcp, VIP_PORT);
        let (port_ifindex, mac) = stage.client_port()?;
        let mut all = vec![
            Resource::VirtualIp(VirtualIp { service: service(), vip: VIP }),
            Resource::ServicePort(ServicePort {
                service: service(),
                vip: VIP,
                port,
                listener: None,
                endpoints: endpoints(self.backends()),
            }),
        ];
        for &ip in sources {
            let id = WorkloadId::new(&format!("client-{ip}"));
            all.push(Resource::Workload(Workload {
                id: id.clone(),
                ip,
                mac,
                bridge: "br0".into(),
                port_ifindex,
                name: "client".into(),
                user: None,
                guarded: true,
            }));
            all.push(Resource::Grant(Grant { workload: id, vip: VIP, port }));
        }
        Ok(all)
    }
}

/// nginx, which finds its modules where Debian keeps them.
pub fn nginx(directory: &Path, configuration: &Path) -> Command {
    // Of an earlier case there is one already.
    std::os::unix::fs::symlink("/usr/lib/nginx/modules", directory.join("modules")).ok();
    let mut command = Command::new("nginx");
    command.arg("-c").arg(configuration).arg("-p").arg(directory);
    command
}

/// What the proxy is told: one service, and who may use it.
pub fn listener(
    protocol: Protocol,
    address: SocketAddrV4,
    backends: impl Iterator<Item = SocketAddrV4>,
    sources: &[Ipv4Addr],
) -> Vec<Resource> {
    let listener = Resource::Listener(Listener {
        key: ListenerKey { service: service(), port: VirtualPort::new(protocol, VIP_PORT) },
        address,
        endpoints: endpoints(backends),
        routes: vec![],
        proxy_protocol: false,
    });
    let id = listener.id();
    let client = |&ip: &Ipv4Addr| Resource::Client(Client { listener: id.clone(), ip });
    let clients: Vec<_> = sources.iter().map(client).collect();
    std::iter::once(listener).chain(clients).collect()
}

fn endpoints(backends: impl Iterator<Item = SocketAddrV4>) -> Vec<Endpoint> {
    backends.map(|address| Endpoint { address, weight: 1, node: "server".into() }).collect()
}

fn service() -> ServiceKey {
    ServiceKey { user: None, name: "it".parse().expect("a name"), tag: None }
}

/// The proxy.
///
/// # Errors
/// When its directory can't be made its own.
pub fn steppe(directory: &Path, workers: usize) -> Result<Command> {
    let mut command = production(directory, Identity::PROXY)?;
    command.args(["--workers", &workers.to_string()]);
    Ok(command)
}

/// One of Steppe's processes, as it runs in production.
fn production(directory: &Path, identity: Identity) -> Result<Command> {
    chown(directory, Some(0), Some(GROUP))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o1770))?;
    let name = if identity == Identity::PROXY { "steppe-proxy" } else { "steppe-netfilter-agent" };
    let words = identity.command();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program(name)).arg("--run-dir").arg(directory);
    Ok(command)
}

/// A program of the workspace, as it is released.
pub fn program(name: &str) -> PathBuf {
    programs().join("release").join(name)
}

/// Cargo's target directory.
pub fn programs() -> PathBuf {
    let program = std::env::current_exe().expect("/proc/self/exe");
    program.ancestors().nth(2).context("target/PROFILE/bench").expect("a program of cargo's").to_owned()
}
