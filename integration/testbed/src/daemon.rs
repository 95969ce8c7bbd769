//! A long-running program in a host, which a test can kill, stop, freeze and start again.

use crate::home::Home;
use crate::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// One daemon of one host. All methods take `&self`, so that several parts of a test can use it.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    home: Home,
    log: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    command: Vec<String>,
    env: Vec<(String, String)>,
    child: Option<Child>,
    /// Where in the log the present run begins.
    mark: usize,
}

impl Daemon {
    /// Describes a daemon and starts nothing. stdout and stderr are appended to `NAME.log` in its home.
    pub(crate) fn new(name: &str, home: &Home, command: Vec<String>) -> Self {
        let state = State { command, env: Vec::new(), child: None, mark: 0 };
        let log = home.logs.join(format!("{name}.log"));
        Self { name: name.to_owned(), home: home.clone(), log, state: Mutex::new(state) }
    }

    /// Puts another program in the place of the one that it was described with.
    pub(crate) fn program(&self, path: &str) {
        path.clone_into(&mut self.state().command[0]);
    }

    /// Puts a program in front that becomes the one that it was described with, such as setpriv(1).
    pub(crate) fn through(&self, words: Vec<String>) {
        self.state().command.splice(0..0, words);
    }

    /// Adds an argument for this and all later starts.
    pub fn arg(&self, argument: impl Into<String>) -> &Self {
        self.state().command.push(argument.into());
        self
    }

    /// Sets an environment variable for this and all later starts.
    pub fn env(&self, name: impl Into<String>, value: impl Into<String>) -> &Self {
        self.state().env.push((name.into(), value.into()));
        self
    }

    /// Starts it. Returns at once: what "ready" means is for the caller to await.
    ///
    /// # Panics
    /// When it runs already or can't be started.
    pub fn start(&self) {
        let mut state = self.state();
        let name = &self.name;
        assert!(state.child.is_none(), "{name} runs already");
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.unwrap_or_else(|e| panic!("{}: {e}", self.log.display()));
        state.mark = usize::try_from(log.metadata().map_or(0, |m| m.len())).unwrap_or(0);
        let mut command = Command::new(&state.command[0]);
        command.args(&state.command[1..]).envs(state.env.iter().cloned()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file descriptor is left")).stderr(log);
        let child = self.home.namespaces.enter(|| command.spawn());
        state.child = Some(child.unwrap_or_else(|e| panic!("{name}: {}: {e}", state.command[0])));
    }

    /// SIGKILL, and waits until it is gone. Nothing happens if it isn't running.
    pub fn kill(&self) {
        if let Some(mut child) = self.state().child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM, and waits until it is gone.
    ///
    /// # Panics
    /// When it isn't running, or is still there after `deadline`.
    pub fn terminate(&self, deadline: Duration) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_exit(deadline)
    }

    /// Waits until it ends by itself.
    ///
    /// # Panics
    /// When it is still there after `deadline`.
    pub fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        let name = &self.name;
        let status = eventually(deadline, &format!("{name} exits"), || {
            let mut state = self.state();
            let child = state.child.as_mut().unwrap_or_else(|| panic!("{name} isn't running"));
            child.try_wait().expect("waitpid").ok_or("it still runs")
        });
        self.state().child = None;
        status
    }

    /// SIGKILL, then starts it again.
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// SIGSTOP: it is there, and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT, the end of [`Daemon::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends any signal.
    ///
    /// # Panics
    /// When it isn't running.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().unwrap_or_else(|| panic!("{} isn't running", self.name));
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap_or_else(|e| panic!("{signal}: {e}"));
    }

    /// Its pid as seen from outside the host; none when it isn't running (any more).
    pub fn pid(&self) -> Option<u32> {
        let mut state = self.state();
        let child = state.child.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| child.id())
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// What its memory holds at present, in KiB (VmRSS of proc(5)).
    ///
    /// # Panics
    /// When it isn't running.
    pub fn resident_kib(&self) -> u64 {
        let pid = self.pid().unwrap_or_else(|| panic!("{} isn't running", self.name));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_else(|_| panic!("no VmRSS in {status}"))
    }

    /// What it has written since its present (or last) start.
    pub fn log(&self) -> String {
        let mark = self.state().mark;
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(mark..).unwrap_or_default()).into_owned()
    }

    /// Waits until a line of [`Daemon::log`] contains `text`, and returns the line.
    ///
    /// # Panics
    /// After `deadline`, with the log's end.
    #[track_caller]
    pub fn wait_log(&self, text: &str, deadline: Duration) -> String {
        eventually(deadline, &format!("`{text}` in the log of {}", self.name), || {
            let log = self.log();
            log.lines().find(|line| line.contains(text)).map(str::to_owned).ok_or_else(|| tail(&log, 20))
        })
    }

    /// The file with everything that it ever wrote.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Its name, as in the log file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a look as long as the daemon does: for awaiting that it is ready.
    #[track_caller]
    pub(crate) fn ready<T>(&self, deadline: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
        eventually(deadline, &format!("{} is ready", self.name), || {
            look().map_err(|saw| {
                let log = tail(&self.log(), 20);
                assert!(self.is_running(), "{} ended:\n{log}", self.name);
                format!("{saw}; its log ends:\n{log}")
            })
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that panics elsewhere must still be able to dump and clean up.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Daemon {
    // Its host can't end before it is reaped: a pid namespace's init waits for the children that others
    // put into it.
    fn drop(&mut self) {
        if !self.home.is_kept() {
            self.kill();
        }
    }
}

/// The last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
