//! The agent as a process in a host's namespace.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Instant,
};

use crate::net::{DEADLINE, Host};

const BINARY: &str = env!("CARGO_BIN_EXE_steppe-netfilter-agent");

/// A directory that goes with the value.
pub struct RunDir(pub PathBuf);

impl RunDir {
    pub fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("steppe-nft-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Agent {
    child: Child,
    lines: Receiver<String>,
    pub dir: RunDir,
}

impl Agent {
    /// Starts one and waits until it serves.
    pub fn start(host: &Host, flags: &[&str]) -> Self {
        Self::start_in(host, flags, RunDir::new())
    }

    pub fn start_in(host: &Host, flags: &[&str], dir: RunDir) -> Self {
        let mut command = command(flags, &dir);
        let mut child = host.net.run(|| command.stderr(Stdio::piped()).spawn().unwrap());
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                eprintln!("agent: {line}");
                let _ = sender.send(line);
            }
        });
        let agent = Self { child, lines, dir };
        agent.wait_for("ready");
        agent
    }

    /// Waits for a line of the log that has this in it.
    pub fn wait_for(&self, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left).unwrap_or_else(|_| panic!("no log line with `{part}`"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.0.join("netfilter-agent.sock")
    }

    /// SIGKILL; gives the run directory for the next life.
    pub fn kill(mut self) -> RunDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.dir, RunDir::new())
    }

    /// SIGTERM.
    pub fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(flags: &[&str], dir: &RunDir) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("--run-dir").arg(&dir.0).args(flags).env("RUST_LOG", "debug,h2=info").stdin(Stdio::null());
    command
}

/// Runs one that ends by itself.
pub fn run(host: &Host, flags: &[&str]) -> Output {
    let dir = RunDir::new();
    let mut command = command(flags, &dir);
    host.net.run(|| command.output().unwrap())
}

/// Runs one without any privilege.
pub fn run_unprivileged(host: &Host) -> Output {
    let dir = RunDir::new();
    std::os::unix::fs::chown(&dir.0, Some(65_533), Some(65_533)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65533", "--regid=65533", "--clear-groups", "--inh-caps=-all"]);
    // The build directory need not be readable for others: the binary is handed over by its path in a readable place.
    let binary = dir.0.join("agent");
    std::fs::copy(BINARY, &binary).unwrap();
    command.arg(binary).arg("--run-dir").arg(&dir.0);
    host.net.run(|| command.output().unwrap())
}
