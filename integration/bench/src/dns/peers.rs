//! The name servers that are measured, each started with its own configuration of `peers/`.

use std::{
    fs::{self, File},
    net::{SocketAddrV4, UdpSocket},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Result;
use steppe_model::{AskedName, Asker, Resource};

use super::{
    SERVERS_CPU,
    message::{Names, ZONE},
};
use crate::{
    peers::programs,
    process::Process,
    stage::{HOST, Stage},
    sync::{Agent, Sync},
};

/// Nobody reaches it: ten askers ask as much as a thousand.
const ASKER_RATE: u32 = 1_000_000;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Unbound,
    Dnsmasq,
    Aardvark,
    Steppe,
}

/// One of them, running.
#[derive(Debug)]
pub struct Contender {
    pub who: Who,
    pub address: SocketAddrV4,
    pub process: Process,
    _sync: Option<Sync>,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Unbound, Self::Dnsmasq, Self::Aardvark, Self::Steppe];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unbound => "unbound",
            Self::Dnsmasq => "dnsmasq",
            Self::Aardvark => "aardvark-dns",
            Self::Steppe => "steppe-dns",
        }
    }

    fn address(self) -> SocketAddrV4 {
        SocketAddrV4::new(HOST, 5301 + self as u16)
    }

    /// Starts it on the host, on a processor of its own; its files are in `directory`.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start(
        self,
        stage: &Stage,
        directory: &Path,
        names: Names,
        upstream: SocketAddrV4,
    ) -> Result<Contender> {
        let directory = directory.join(self.name());
        fs::create_dir_all(&directory)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &SERVERS_CPU.to_string()]);
        match self {
            Self::Unbound => {
                let text = include_str!("../../peers/unbound.conf").replace("@UPSTREAM@", &at(upstream, "@"));
                let line = |number| {
                    format!(
                        "  local-data: \"{}.{ZONE}. 5 IN A {}\"",
                        Names::name(number),
                        Names::address(number)
                    )
                };
                command
                    .arg("unbound")
                    .arg("-d")
                    .arg("-c")
                    .arg(self.configure(&directory, &text, names, line)?);
            }
            Self::Dnsmasq => {
                let text = include_str!("../../peers/dnsmasq.conf").replace("@UPSTREAM@", &at(upstream, "#"));
                let line =
                    |number| format!("host-record={}.{ZONE},{}", Names::name(number), Names::address(number));
                command.arg("dnsmasq").arg("-C").arg(self.configure(&directory, &text, names, line)?);
            }
            Self::Aardvark => {
                // A file a network: where to listen, then who is on it.
                let address = self.address();
                let askers: Vec<_> = names.sources().collect();
                let line = |(number, ip)| format!("{number} {ip}  {}.{ZONE}", Names::name(number));
                let lines: Vec<String> = askers.into_iter().enumerate().map(line).collect();
                let networks = directory.join("networks");
                fs::create_dir_all(&networks)?;
                fs::write(networks.join("it"), format!("{}\n{}\n", address.ip(), lines.join("\n")))?;
                // It leaves its parent, and would be lost without a namespace of its own.
                command.args([
                    "unshare",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-c",
                    "\"$@\"; exec sleep infinity",
                    "sh",
                ]);
                command.arg("/usr/lib/podman/aardvark-dns").arg("--config").arg(networks);
                command.args(["--port", &address.port().to_string(), "run"]);
            }
            Self::Steppe => {
                let address = self.address();
                command.arg(programs().join("release/steppe-dns")).arg("--run-dir").arg(&directory);
                command.args(["--control-uid", "0", "--upstream", &upstream.to_string()]);
                command.args([
                    "--dns-address",
                    &address.ip().to_string(),
                    "--dns-port",
                    &address.port().to_string(),
                ]);
                command.args(["--asker-rate", &ASKER_RATE.to_string()]);
            }
        }
        let log = File::create(directory.join("log"))?;
        let mut process = Process::start(&stage.host, self.name(), &mut command, log)?;
        let mut sync = None;
        if self == Self::Steppe {
            let socket = directory.join("dns.sock");
            let mut opened = process.ready(|| Sync::open(Agent::Dns, &socket).ok())?;
            opened.snapshot(&resources(names))?;
            sync = Some(opened);
        }
        let address = self.address();
        process.ready(|| stage.client.enter(|| answers(names, address)))?;
        Ok(Contender { who: self, address, process, _sync: sync })
    }

    fn configure(
        self,
        directory: &Path,
        text: &str,
        names: Names,
        line: impl Fn(usize) -> String,
    ) -> Result<PathBuf> {
        let lines: Vec<String> = (0..names.all).map(line).collect();
        let address = self.address();
        let text = text
            .replace("@DIRECTORY@", &directory.to_string_lossy())
            .replace("@IP@", &address.ip().to_string())
            .replace("@PORT@", &address.port().to_string())
            .replace("@NAMES@", &lines.join("\n"));
        let file = directory.join("conf");
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// An address, as they write it.
fn at(address: SocketAddrV4, between: &str) -> String {
    format!("{}{between}{}", address.ip(), address.port())
}

/// Whether it answers the first asker.
fn answers(names: Names, address: SocketAddrV4) -> Option<()> {
    let question = super::message::Questions::Address.of(names).into_iter().next()?;
    let socket = UdpSocket::bind((question.source, 0)).ok()?;
    socket.set_read_timeout(Some(Duration::from_millis(50))).ok()?;
    socket.send_to(&question.packet, address).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    question.is_answered_by(&answer[..length]).then_some(())
}

fn resources(names: Names) -> Vec<Resource> {
    let name = |number| AskedName {
        name: Names::name(number).parse().expect("a name"),
        vip: Names::address(number),
        ports: vec![],
    };
    let asker = |(nth, ip): (usize, _)| {
        let mut names: Vec<AskedName> = names.of(nth).map(name).collect();
        names.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        Resource::Asker(Asker {
            ip,
            workload: format!("asker-{nth}").into(),
            user: None,
            network: None,
            names,
        })
    };
    names.sources().enumerate().map(asker).collect()
}
