//! The directory with the suite's sockets.

use std::{
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::PathBuf,
};

use clap::Args;
use thiserror::Error;

use crate::GROUP_GID;

/// A process of the suite that serves a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// Observes, plans and pushes.
    Control,
    /// The data plane.
    Proxy,
    /// The firewall.
    NetfilterAgent,
    /// Names, where one process answers for them.
    Dns,
    /// Names, the first of two processes side by side.
    DnsA,
    /// Names, the second of two.
    DnsB,
}

impl Process {
    /// Its name, in messages and file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Proxy => "proxy",
            Self::NetfilterAgent => "netfilter-agent",
            Self::Dns => "dns",
            Self::DnsA => "dns-a",
            Self::DnsB => "dns-b",
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

/// Members of the group put their sockets there, and nobody removes another's.
const DIR_MODE: u32 = 0o1770;
/// What Docker gives to a directory that it makes for a mount.
const DOCKERS_MODE: u32 = 0o755;

/// The directory could not be made ready.
#[derive(Debug, Error)]
#[error(
    "{path}: {source}: it must belong to root and to the group {GROUP_GID}, mode 1770: install -d -o root -g {GROUP_GID} -m 1770 {path}",
    path = path.display()
)]
pub struct RunDirError {
    path: PathBuf,
    source: io::Error,
}

impl RunDir {
    /// Makes the directory where it is missing, for root. One that is empty and as Docker makes it for a mount (after each boot,
    /// if an agent's container comes first) is given to the group; any other is left as it is. No capability is needed
    /// by who runs as root with the group [`GROUP_GID`].
    ///
    /// # Errors
    /// [`RunDirError`], with the command that does it by hand.
    pub fn prepare(&self) -> Result<(), RunDirError> {
        let failed = |source| RunDirError { path: self.run_dir.clone(), source };
        let made = match DirBuilder::new().mode(DOCKERS_MODE).create(&self.run_dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            made => made.map(|()| true).map_err(failed)?,
        };
        let found = fs::metadata(&self.run_dir).map_err(failed)?;
        let as_docker_made_it = || {
            let dockers = (found.gid(), found.mode() & 0o7777) == (0, DOCKERS_MODE);
            Ok(dockers && fs::read_dir(&self.run_dir)?.next().is_none())
        };
        if found.uid() == 0 && (made || as_docker_made_it().map_err(failed)?) {
            chown(&self.run_dir, None, Some(GROUP_GID)).map_err(failed)?;
            fs::set_permissions(&self.run_dir, Permissions::from_mode(DIR_MODE)).map_err(failed)?;
        }
        Ok(())
    }

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

    /// As root: who else runs this sees that nothing of another's is touched.
    #[test]
    fn it_is_made_and_given_to_the_group_unless_it_is_somebody_elses() {
        let home = tempfile::tempdir().unwrap();
        let of = |name: &str| RunDir { run_dir: home.path().join(name) };
        let (fresh, dockers, full, own) = (of("fresh"), of("dockers"), of("full"), of("own"));
        for dir in [&dockers, &full] {
            DirBuilder::new().mode(DOCKERS_MODE).create(&dir.run_dir).unwrap();
            fs::set_permissions(&dir.run_dir, Permissions::from_mode(DOCKERS_MODE)).unwrap();
        }
        fs::write(full.run_dir.join("file"), "").unwrap();
        DirBuilder::new().mode(0o700).create(&own.run_dir).unwrap();
        for dir in [&fresh, &dockers, &full, &own] {
            dir.prepare().unwrap();
        }

        let seen = |dir: &RunDir| {
            let found = fs::metadata(&dir.run_dir).unwrap();
            (found.gid(), found.mode() & 0o7777)
        };
        let home = fs::metadata(home.path()).unwrap();
        if home.uid() == 0 {
            assert_eq!(seen(&fresh), (GROUP_GID, DIR_MODE));
            assert_eq!(seen(&dockers), (GROUP_GID, DIR_MODE));
        }
        assert_eq!(seen(&full), (home.gid(), DOCKERS_MODE));
        assert_eq!(seen(&own), (home.gid(), 0o700));
        let missing = RunDir { run_dir: "/proc/no/such".into() }.prepare().unwrap_err().to_string();
        assert!(missing.contains("install -d -o root -g 60700 -m 1770 /proc/no/such"), "{missing}");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        assert!(parse_dir("").is_err());
        assert!(parse_dir(&"x".repeat(87)).is_err());
        let longest = RunDir { run_dir: parse_dir(&"x".repeat(86)).unwrap() };
        assert_eq!(longest.socket(Process::NetfilterAgent).as_os_str().len(), PATH_BYTES);
    }
}
