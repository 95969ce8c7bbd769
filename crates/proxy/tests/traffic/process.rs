//! The proxy's process.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use rustix::process::{Pid, Signal, getuid, kill_process};
use tokio::sync::oneshot;

use crate::{control::Control, net::soon};

const BINARY: &str = env!("CARGO_BIN_EXE_steppe-proxy");

/// A run directory, removed at the end.
#[derive(Debug)]
pub(crate) struct RunDir(pub(crate) PathBuf);

impl RunDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("steppe-proxy-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("proxy.sock")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running proxy, killed at the end.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    socket: PathBuf,
    /// What it logged, shown if a test fails.
    log: Arc<Mutex<String>>,
}

impl Proxy {
    pub(crate) async fn start(dir: &RunDir, flags: &[&str]) -> Self {
        Self::start_as(dir, Command::new(BINARY), flags).await
    }

    /// With so many descriptors.
    pub(crate) async fn start_with_descriptors(dir: &RunDir, descriptors: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", r#"ulimit -n "$0" && exec "$@""#, &descriptors.to_string(), BINARY]);
        Self::start_as(dir, command, &[]).await
    }

    async fn start_as(dir: &RunDir, mut command: Command, flags: &[&str]) -> Self {
        let uid = getuid().as_raw().to_string();
        command.arg("--run-dir").arg(&dir.0).args(["--workers", "2"]);
        if !flags.contains(&"--control-uid") {
            command.args(["--control-uid", &uid]);
        }
        let mut child =
            command.args(flags).env("RUST_LOG", "debug,h2=info").stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let (serving, heard) = oneshot::channel();
        let mut serving = Some(serving);
        let copy = log.clone();
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if line.contains("serving")
                    && let Some(serving) = serving.take()
                {
                    let _ = serving.send(());
                }
                let mut log = copy.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let proxy = Self { child, socket: dir.socket(), log };
        soon(heard).await.expect("it serves");
        proxy
    }

    pub(crate) async fn control(&self) -> Control {
        Control::connect(&self.socket).await
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) async fn exit(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the proxy's log\n{}---", self.log());
        }
    }
}

/// Runs it to its end, which must come by itself.
pub(crate) fn run(dir: &Path, flags: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(BINARY).arg("--run-dir").arg(dir).args(flags).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}
