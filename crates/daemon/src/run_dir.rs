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
    #[arg(long, env = "STEPPE_RUN_DIR", default_value = "/run/steppe", value_name = "DIR", value_parser = parse_dir)]
    pub run_dir: PathBuf,
}

/// A socket's path may have so many bytes (`sun_path` of unix(7), less its closing zero).
const PATH_BYTES: usize = 107;
/// The longest of the names in the directory.
const LONGEST_NAME: &str = "/netfilter-agent.sock";

fn parse_dir(text: &str) -> Result<PathBuf, String> {
    let most = PATH_BYTES - LONGEST_NAME.len();
    if text.is_empty() || text.len() > most {
        return Err(format!(
            "write a path of 1 to {most} bytes, such as /run/steppe: a socket's may have {PATH_BYTES}"
        ));
    }
    Ok(text.into())
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

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        assert!(parse_dir("").is_err());
        assert!(parse_dir(&"x".repeat(87)).is_err());
        let longest = RunDir { run_dir: parse_dir(&"x".repeat(86)).unwrap() };
        assert_eq!(longest.socket(Process::NetfilterAgent).as_os_str().len(), PATH_BYTES);
    }
}
