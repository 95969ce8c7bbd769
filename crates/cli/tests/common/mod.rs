//! Processes of the suite, played on unix sockets in a run directory of the test's own.

#![allow(clippy::unwrap_used, reason = "a test's helpers may assume what they set up")]

mod control;
mod dns;
mod netfilter;
mod proxy;

use std::{
    os::unix::{fs::PermissionsExt, process::CommandExt as _},
    path::Path,
    process::{Command, Output},
};

use steppe_api::{serve::serve, uds, v1::*};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

pub use control::Control;
use dns::Names;
pub use netfilter::Netfilter;
use proxy::TheProxy;

type Reply<T> = Result<Response<T>, Status>;
type Stream<T> = ReceiverStream<Result<T, Status>>;

/// A run directory, and the runtime that plays the processes in it.
pub struct Suite {
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Suite {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Another user's `steppe` has to get as far as the sockets.
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { dir, runtime }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn listen(&self, name: &str) -> tokio::net::UnixListener {
        let _inside = self.runtime.enter();
        uds::bind(&self.path().join(name)).unwrap()
    }

    pub fn control(self, control: Control) -> Self {
        let listener = self.listen("control.sock");
        self.runtime.spawn(serve(
            listener,
            control_server::ControlServer::new(control),
            std::future::pending(),
        ));
        self
    }

    pub fn netfilter(self) -> Self {
        self.netfilter_agent(Netfilter::default())
    }

    /// The netfilter-agent, as it is.
    pub fn netfilter_agent(self, agent: Netfilter) -> Self {
        let listener = self.listen("netfilter-agent.sock");
        let server = netfilter_agent_server::NetfilterAgentServer::new(agent);
        self.runtime.spawn(serve(listener, server, std::future::pending()));
        self
    }

    pub fn proxy(self) -> Self {
        let listener = self.listen("proxy.sock");
        self.runtime.spawn(serve(listener, proxy_server::ProxyServer::new(TheProxy), std::future::pending()));
        self
    }

    /// One of the processes that answer for names, by the name of its socket.
    pub fn dns(self, name: &str) -> Self {
        let listener = self.listen(name);
        self.runtime.spawn(serve(listener, dns_server::DnsServer::new(Names), std::future::pending()));
        self
    }

    /// A process that takes connections and never says a word.
    pub fn hanging(self, name: &str) -> Self {
        let listener = self.listen(name);
        self.runtime.spawn(async move {
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.push(stream);
            }
        });
        self
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_steppe"));
        command.env_clear().arg("--run-dir").arg(self.path()).args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::new(self.command(args).output().unwrap())
    }

    /// Runs as somebody who may not open the sockets.
    pub fn run_as_stranger(&self, args: &[&str]) -> Ran {
        for socket in std::fs::read_dir(self.path()).unwrap() {
            std::fs::set_permissions(socket.unwrap().path(), PermissionsExt::from_mode(0o000)).unwrap();
        }
        let binary = self.path().join("steppe");
        // Not by this process: a child that another test starts meanwhile would have the file open for writing, and it could not be run.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_steppe")).arg(&binary).status().unwrap();
        assert!(copied.success());
        std::fs::set_permissions(&binary, PermissionsExt::from_mode(0o755)).unwrap();
        let mut command = Command::new(&binary);
        command.env_clear().arg("--run-dir").arg(self.path()).args(args);
        // Root opens whatever it likes.
        if is_root() {
            const STRANGER: u32 = 60_799;
            command.uid(STRANGER).gid(STRANGER);
        }
        Ran::new(command.output().unwrap())
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// What a run of `steppe` left.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    fn new(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

fn about() -> Option<About> {
    Some(About { version: "1.2.0".into(), uptime_seconds: 60, in_force_version: 7, synced: true })
}

pub fn web() -> ServiceKey {
    ServiceKey { user: String::new(), name: "web".into(), tag: String::new() }
}

fn at(ip: &str, port: u32) -> Option<SocketAddress> {
    Some(SocketAddress { ip: ip.into(), port })
}

const ID: &str = "0123456789ab@docker0:7";
const IP: &str = "172.17.0.5";
const VIP: &str = "247.12.8.41";

/// A stream that is at its end.
fn nothing<T>() -> Stream<T> {
    let (_, receiver) = mpsc::channel(1);
    ReceiverStream::new(receiver)
}
