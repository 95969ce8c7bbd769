//! What carries datagrams, each started with its own configuration.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::Result;
use steppe_model::Protocol;

use super::load::Load;
use crate::{
    peers::{listener, nginx, steppe},
    process::Process,
    stage::{HOST, Stage},
    sync::{Agent, Sync},
};

/// Backends of each contender.
const BACKENDS: u8 = 4;
/// Where they answer.
const PORT: u16 = 5_300;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// No proxy: the host routes.
    Direct,
    Nginx,
    Steppe,
}

/// One of them, running.
#[derive(Debug)]
pub struct Contender {
    /// Where clients send.
    pub targets: Vec<SocketAddrV4>,
    /// None for [`Who::Direct`].
    pub process: Option<Process>,
    _sync: Option<Sync>,
}

impl Who {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Nginx, Self::Steppe];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx stream",
            Self::Steppe => "steppe-proxy",
        }
    }

    /// Where its servers are.
    pub fn backends(self) -> impl Iterator<Item = SocketAddrV4> {
        (1..=BACKENDS).map(move |nth| SocketAddrV4::new(Stage::backend(self as u8 + 1, nth), PORT))
    }

    fn address(self) -> SocketAddrV4 {
        SocketAddrV4::new(HOST, 5_301 + self as u16)
    }

    /// Starts it on the host; its files are in `directory`. `new`: for clients that ask once, of which nginx is told.
    ///
    /// # Errors
    /// When it is not installed, or does not answer.
    pub fn start(
        self,
        stage: &Stage,
        directory: &Path,
        sources: &[Ipv4Addr],
        new: bool,
    ) -> Result<Contender> {
        let directory = directory.join(format!("udp-{}-{new}-{}", self as u8, next_name(directory)?));
        fs::create_dir_all(&directory)?;
        let mut command = match self {
            Self::Direct => {
                return Ok(Contender { targets: self.backends().collect(), process: None, _sync: None });
            }
            Self::Nginx => self.nginx(&directory, new)?,
            Self::Steppe => steppe(&directory, 1)?,
        };
        let log = File::create(directory.join("log"))?;
        let mut process = Process::start(&stage.host, self.name(), &mut command, log)?;
        let mut sync = None;
        if self == Self::Steppe {
            let socket = directory.join("proxy.sock");
            let mut opened = process.ready(|| Sync::open(Agent::Proxy, &socket).ok())?;
            opened.snapshot(&listener(Protocol::Udp, self.address(), self.backends(), sources))?;
            sync = Some(opened);
        }
        let targets = vec![self.address()];
        let (time, sources) = (Duration::from_millis(50), sources.to_vec());
        let ask = Load { targets: targets.clone(), sources, clients: 1, bytes: 1, new: true, time };
        // One that does not listen yet refuses.
        process.ready(|| stage.client.enter(|| ask.run()).ok().filter(|found| !found.micros.is_empty()))?;
        Ok(Contender { targets, process: Some(process), _sync: sync })
    }

    fn nginx(self, directory: &Path, new: bool) -> Result<Command> {
        let servers: Vec<_> = self.backends().map(|address| format!("    server {address};")).collect();
        let text = include_str!("../../peers/nginx-udp.conf")
            .replace("@SERVERS@", &servers.join("\n"))
            .replace("@ADDRESS@", &self.address().to_string())
            .replace("@RESPONSES@", if new { "proxy_responses 1;" } else { "" });
        let file = directory.join("nginx.conf");
        fs::write(&file, text)?;
        Ok(nginx(directory, &file))
    }
}

/// A name that no earlier case has taken.
fn next_name(directory: &Path) -> Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}
