//! The process that keeps a set of namespaces alive.

use crate::home::Home;
use crate::namespaces::Namespaces;
use crate::wait::within;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const SCRIPT: &str = include_str!("holder.sh");

/// For the end of a host's processes, which takes some 20 ms.
const PATIENCE: Duration = Duration::from_secs(20);

/// A set of namespaces and their init; dropping it kills everything inside and waits for that.
#[derive(Debug)]
pub(crate) struct Holder {
    unshare: Child,
    pid: u32,
    home: Home,
}

impl Holder {
    /// Makes the namespaces. While the file `keep` exists they stay although the test process ends.
    ///
    /// # Panics
    /// Without root.
    pub(crate) fn start(name: &str, directory: &Path, keep: PathBuf) -> Self {
        let mut unshare = Command::new("unshare")
            .args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"])
            .args(["bash", "-c", SCRIPT, "holder", name])
            .arg(&keep)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Not the test's: unshare complains of its own death when its child is killed.
            .stderr(Stdio::piped())
            .spawn()
            .expect("`unshare` can be started; it is in Debian's util-linux");
        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the holder's stdout can be read");
        if line.trim() != "ready" {
            let output = unshare.wait_with_output().expect("unshare has ended");
            let stderr = String::from_utf8_lossy(&output.stderr);
            panic!("no namespaces for {name}: {stderr}this needs root; `make test-unit` doesn't");
        }
        let unshared = unshare.id();
        let children = format!("/proc/{unshared}/task/{unshared}/children");
        let children = std::fs::read_to_string(&children).unwrap_or_else(|e| panic!("{children}: {e}"));
        let pid = children.trim().parse().expect("unshare has one child");
        let logs = directory.join(name);
        std::fs::create_dir_all(&logs).unwrap_or_else(|e| panic!("{}: {e}", logs.display()));
        Self { unshare, pid, home: Home { namespaces: Arc::new(Namespaces::of_process(pid)), logs, keep } }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The init's pid, seen from outside: `nsenter -t PID -a` enters.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        if self.home.is_kept() {
            return;
        }
        // `--kill-child`: the init dies with unshare, and with the init everything in its pid namespace.
        // unshare itself can't be waited for in place of the init, so the init goes first.
        let init = nix::unistd::Pid::from_raw(self.pid.cast_signed());
        nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).ok();
        if within(PATIENCE, || self.unshare.try_wait().ok().flatten()).is_none() {
            eprintln!(
                "a host doesn't end; does a test still own one of its daemons? They must be dropped first"
            );
        }
    }
}
