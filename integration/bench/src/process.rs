//! A process under test, with its children: what it costs.

use std::{
    fs,
    net::{SocketAddrV4, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::stage::Room;

/// For a program to listen.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(10);

/// Processor time that a process has used, in nanoseconds; 0 when it has ended.
pub fn cpu_ns_of(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let used = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    used.sum()
}

/// Resident memory that is a process's alone, in bytes (Private_* of smaps_rollup in proc(5)).
pub fn private_bytes_of(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("Private_"));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum::<u64>() * 1024
}

/// A running program; killed at the end.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts it in a namespace. What it says goes to `log`.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(room: &Room, name: &str, command: &mut Command, log: fs::File) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: room.spawn(command)?, name: name.to_owned() })
    }

    /// Waits until `look` succeeds.
    ///
    /// # Errors
    /// When the program ends, or takes too long.
    pub fn ready<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Result<T> {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(seen) = look() {
                return Ok(seen);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            sleep(PAUSE);
        }
        bail!("{} is not ready after {PATIENCE:?}", self.name)
    }

    /// Waits until it accepts connections at `address`.
    ///
    /// # Errors
    /// When it doesn't.
    pub fn listening(&mut self, room: &Room, address: SocketAddrV4) -> Result<()> {
        self.ready(|| room.enter(|| TcpStream::connect(address).ok().map(drop)))
    }

    /// Processor time that it and its children have used, in nanoseconds (the first field of schedstat in proc(5)).
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_ns(&self) -> Result<u64> {
        let sum = self.tree().into_iter().map(cpu_ns_of).sum();
        (sum > 0).then_some(sum).with_context(|| format!("{} has ended", self.name))
    }

    /// Resident memory of it and its children that is theirs alone, in bytes.
    pub fn private_bytes(&self) -> u64 {
        self.tree().into_iter().map(private_bytes_of).sum()
    }

    /// It, and its children's children.
    fn tree(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        let mut next = 0;
        while let Some(pid) = all.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        all
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.tree().into_iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
        {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}
