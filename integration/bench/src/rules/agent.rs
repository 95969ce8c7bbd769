//! A netfilter-agent on the stage's host, and what it is told.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use steppe_model::{
    Endpoint, Grant, Protocol, Resource, ServiceKey, ServicePort, VirtualIp, VirtualPort, Workload,
    WorkloadId,
};
use tempfile::TempDir;

use crate::{
    load::PORT,
    peers::program,
    process::Process,
    stage::{CLIENT, Stage},
    sync::{self, Sync},
};

/// Where endpoints are: [`Stage::backend`].
const CONTENDER: u8 = 1;
const WORKLOAD: &str = "client@br0";

/// The agent, and its end of Sync.
#[derive(Debug)]
pub struct Agent {
    directory: TempDir,
    // Before the process: its stream ends first.
    sync: Option<Sync>,
    process: Option<Process>,
    workload: Workload,
}

/// The nth virtual IP.
pub fn vip(nth: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xf700_0001 + nth)
}

fn port() -> VirtualPort {
    VirtualPort::new(Protocol::Tcp, PORT)
}

/// The client may dial a virtual IP.
pub fn grant(vip: Ipv4Addr) -> Resource {
    Resource::Grant(Grant { workload: WorkloadId::new(WORKLOAD), vip, port: port() })
}

/// A service on the kernel path, with endpoints on the stage's server by their numbers.
pub fn service(vip: Ipv4Addr, endpoints: &[u8]) -> [Resource; 2] {
    let name = format!("s{}", vip.to_bits());
    let service = ServiceKey { user: None, name: name.parse().expect("a name"), tag: None };
    let endpoint = |nth: &u8| Endpoint {
        address: SocketAddrV4::new(Stage::backend(CONTENDER, *nth), PORT),
        weight: 1,
        node: "server".into(),
    };
    let endpoints = endpoints.iter().map(endpoint).collect();
    let rule = ServicePort { service: service.clone(), vip, port: port(), listener: None, endpoints };
    [Resource::VirtualIp(VirtualIp { service, vip }), Resource::ServicePort(rule)]
}

impl Agent {
    /// Starts it on a stage.
    ///
    /// # Errors
    /// When it is not built, or does not answer.
    pub fn start(stage: &Stage) -> Result<Self> {
        let (port_ifindex, mac) = stage.client_port()?;
        let workload = Workload {
            id: WorkloadId::new(WORKLOAD),
            ip: CLIENT,
            mac,
            bridge: "br0".into(),
            port_ifindex,
            name: "client".into(),
            user: None,
            guarded: false,
        };
        let mut agent = Self { directory: tempfile::tempdir()?, sync: None, process: None, workload };
        agent.restart(stage)?;
        Ok(agent)
    }

    /// Kills it, where it runs, and starts it again; what is in force stays.
    ///
    /// # Errors
    /// As [`Agent::start`].
    pub fn restart(&mut self, stage: &Stage) -> Result<()> {
        (self.sync, self.process) = (None, None);
        let run_dir = self.directory.path();
        let log = OpenOptions::new().create(true).append(true).open(run_dir.join("log"))?;
        let process = self.process.insert(Process::start(&stage.host, "agent", &mut command(run_dir), log)?);
        let socket = run_dir.join("netfilter-agent.sock");
        self.sync = Some(process.ready(|| Sync::open(sync::Agent::Netfilter, &socket).ok())?);
        Ok(())
    }

    /// The client, bound to its bridge port.
    pub fn workload(&self) -> Resource {
        Resource::Workload(self.workload.clone())
    }

    /// control's end.
    ///
    /// # Errors
    /// When it has none.
    pub fn sync(&mut self) -> Result<&mut Sync> {
        self.sync.as_mut().context("a stream")
    }
}

fn command(run_dir: &Path) -> Command {
    let mut command = Command::new(program("steppe-netfilter-agent"));
    command.arg("--run-dir").arg(run_dir);
    command
}

/// Removes what an agent left on a stage.
///
/// # Errors
/// When it can't.
pub fn purge(stage: &Stage) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let log = File::create(directory.path().join("log"))?;
    let mut purge = command(directory.path());
    purge.arg("--purge").stdout(log.try_clone()?).stderr(log);
    ensure!(stage.host.spawn(&mut purge)?.wait()?.success(), "--purge failed");
    Ok(())
}
