//! The process.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::{
    control::Control,
    net::{DEADLINE, Namespace},
};

const BINARY: &str = env!("CARGO_BIN_EXE_steppe-dns");

/// A running dns, killed at the end.
#[derive(Debug)]
pub(crate) struct Dns {
    child: Child,
    pub(crate) socket: PathBuf,
    log: Arc<Log>,
}

/// What it logged, shown if a test fails.
#[derive(Debug, Default)]
struct Log {
    text: Mutex<String>,
    more: Condvar,
}

impl Dns {
    /// Started, and not yet told anything.
    pub(crate) fn start(net: &Namespace, dir: &tempfile::TempDir, flags: &[&str]) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("--run-dir").arg(dir.path()).args(["--control-uid", &getuid().as_raw().to_string()]);
        if !flags.iter().any(|flag| flag.starts_with("--resolv-conf")) && !flags.contains(&"--upstream") {
            command.args(["--upstream", "10.0.1.1"]);
        }
        command.args(flags).env("RUST_LOG", "debug,h2=info").stderr(Stdio::piped());
        let mut child = net.run(|| command.spawn().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Log::default());
        let copy = log.clone();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *copy.text.lock().unwrap() += &format!("{line}\n");
                copy.more.notify_all();
            }
        });
        let name = match flags {
            [.., "--instance", "a"] => "dns-a.sock",
            [.., "--instance", "b"] => "dns-b.sock",
            _ => "dns.sock",
        };
        let dns = Self { child, socket: dir.path().join(name), log };
        dns.until_logged("serving");
        dns
    }

    /// Waits for a line.
    pub(crate) fn until_logged(&self, what: &str) {
        let start = Instant::now();
        let mut text = self.log.text.lock().unwrap();
        while !text.contains(what) {
            let left =
                DEADLINE.checked_sub(start.elapsed()).unwrap_or_else(|| panic!("no `{what}` in\n{text}"));
            text = self.log.more.wait_timeout(text, left).unwrap().0;
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) async fn control(&self) -> Control {
        Control::connect(&self.socket).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the log of dns\n{}---", self.log());
        }
    }
}
