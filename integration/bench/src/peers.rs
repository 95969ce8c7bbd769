//! The proxies that are measured, each started with its own configuration of `peers/`.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use steppe_model::{Client, Endpoint, Listener, ListenerKey, Protocol, Resource, ServiceKey, VirtualPort};

use crate::{
    load::PORT,
    process::Process,
    stage::{HOST, Stage},
    sync::{Agent, Sync},
};

/// Backends of each contender.
const BACKENDS: u8 = 8;
/// The uid and group that the proxy has in production: pipes are bounded by uid.
const UID: u32 = 60_701;
const GID: u32 = 60_700;

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
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Direct, Self::Nginx, Self::Haproxy, Self::HaproxyForBulk, Self::Envoy, Self::Steppe];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx stream",
            Self::Haproxy => "HAProxy",
            Self::HaproxyForBulk => "HAProxy, tuned for bulk",
            Self::Envoy => "Envoy",
            Self::Steppe => "steppe-proxy",
        }
    }

    /// Whether it is one that Steppe is compared with.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Direct | Self::Steppe)
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
        };
        let log = File::create(directory.join("log"))?;
        let mut process = Process::start(&stage.host, self.name(), &mut command, log)?;
        let mut sync = None;
        if self == Self::Steppe {
            let socket = directory.join("proxy.sock");
            let mut opened = process.ready(|| Sync::open(Agent::Proxy, &socket).ok())?;
            opened.snapshot(&self.resources(sources))?;
            sync = Some(opened);
        } else {
            process.listening(&stage.host, self.address())?;
        }
        Ok(Contender { targets: vec![self.address()], process: Some(process), _sync: sync })
    }

    fn nginx(self, directory: &Path, workers: usize) -> Result<Command> {
        let servers = self.lines(|address| format!("    server {address};"));
        // With several workers it is told to spread connections as Steppe does.
        let reuseport = if workers > 1 { "reuseport" } else { "" };
        let text = include_str!("../peers/nginx.conf").replace("@REUSEPORT@", reuseport);
        let file = self.configuration(directory, "nginx.conf", &text, workers, &servers)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(file).arg("-p").arg(directory);
        // Debian keeps the modules there.
        std::os::unix::fs::symlink("/usr/share/nginx/modules", directory.join("modules-available")).ok();
        std::os::unix::fs::symlink("/usr/lib/nginx/modules", directory.join("modules")).ok();
        Ok(command)
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

    fn resources(self, sources: &[Ipv4Addr]) -> Vec<Resource> {
        let endpoint = |address| Endpoint { address, weight: 1, node: "server".into() };
        let service = ServiceKey { user: None, name: "it".parse().expect("a name"), tag: None };
        let listener = Resource::Listener(Listener {
            key: ListenerKey { service, port: VirtualPort::new(Protocol::Tcp, 80) },
            address: self.address(),
            endpoints: self.backends().map(endpoint).collect(),
            routes: vec![],
            proxy_protocol: false,
        });
        let id = listener.id();
        let client = |&ip: &Ipv4Addr| Resource::Client(Client { listener: id.clone(), ip });
        let clients: Vec<_> = sources.iter().map(client).collect();
        std::iter::once(listener).chain(clients).collect()
    }
}

/// As in production: a uid of its own, no capability.
fn steppe(directory: &Path, workers: usize) -> Result<Command> {
    chown(directory, Some(0), Some(GID))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o1770))?;
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={UID}"), format!("--regid={GID}")]);
    command.args(["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--"]);
    command.arg(programs().join("release/steppe-proxy")).arg("--run-dir").arg(directory);
    command.args(["--workers", &workers.to_string()]);
    Ok(command)
}

/// Cargo's target directory.
pub fn programs() -> PathBuf {
    let program = std::env::current_exe().expect("/proc/self/exe");
    program.ancestors().nth(2).context("target/PROFILE/bench").expect("a program of cargo's").to_owned()
}
