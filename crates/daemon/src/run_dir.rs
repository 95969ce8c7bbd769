//! The directory with the suite's sockets.

use std::path::PathBuf;

use clap::Args;

/// A process of the suite that serves a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Observes, plans and pushes.
    Control,
    /// The data plane.
    Proxy,
    /// The firewall.
    NetfilterAgent,
}

impl Process {
    /// Its name, in messages and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Proxy => "proxy",
            Self::NetfilterAgent => "netfilter-agent",
        }
    }
}

/// Where the sockets are.
#[derive(Debug, Clone, Args)]
pub struct RunDir {
    /// Directory of the suite's sockets, the same for all its processes
    #[arg(long, env = "STEPPE_RUN_DIR", default_value = "/run/steppe", value_name = "DIR")]
    pub run_dir: PathBuf,
}

impl RunDir {
    /// The socket of a process.
    #[must_use]
    pub fn socket(&self, process: Process) -> PathBuf {
        self.run_dir.join(process.name()).with_extension("sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_their_documented_names() {
        let dir = RunDir { run_dir: "/run/steppe".into() };
        assert_eq!(dir.socket(Process::NetfilterAgent), PathBuf::from("/run/steppe/netfilter-agent.sock"));
    }
}
