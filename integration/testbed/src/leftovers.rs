//! What doesn't vanish with a host's processes: Docker's cgroups and the directory of logs.

use crate::suite::target_dir;
use std::fs::{create_dir_all, read_dir, read_to_string, remove_dir, remove_dir_all};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

const CGROUPS: &str = "/sys/fs/cgroup";
const PREFIX: &str = "steppe-test-";
/// Nomad's cgroups, in every hierarchy; it takes no other name for them.
const NOMADS: &str = "nomad";

/// A cluster's unique name and its directory; dropping it removes both from the machine, unless kept.
#[derive(Debug)]
pub(crate) struct Leftovers {
    pub(crate) id: String,
    pub(crate) directory: PathBuf,
    /// Whether this machine has a Nomad of its own, whose cgroups are left alone.
    has_nomad: bool,
}

impl Leftovers {
    /// Finds a name that carries this process's pid, so that a later run can tell whether we still live.
    pub(crate) fn claim() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        sweep();
        let id = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = clusters().join(&id);
        create_dir_all(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        Self { id, directory, has_nomad: !nomads().is_empty() }
    }

    /// Whether a host of it ran a Nomad; another cluster's may run still.
    fn ran_nomad(&self) -> bool {
        let mut hosts = read_dir(&self.directory).into_iter().flatten().flatten();
        hosts.any(|host| host.path().join("nomad.log").exists())
    }

    /// While this file exists, nothing is removed.
    pub(crate) fn keep(&self) -> PathBuf {
        self.directory.join("keep")
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if !self.keep().exists() {
            let ran_nomad = self.ran_nomad();
            remove(&self.id);
            if ran_nomad && !self.has_nomad {
                nomads().iter().for_each(|cgroup| remove_cgroup(cgroup));
            }
        }
    }
}

fn nomads() -> Vec<PathBuf> {
    let hierarchies = read_dir(CGROUPS).into_iter().flatten().flatten();
    let all = hierarchies.map(|entry| entry.path().join(NOMADS)).chain([Path::new(CGROUPS).join(NOMADS)]);
    all.filter(|path| path.is_dir()).collect()
}

/// The cgroups of this machine that belong to the testbed: every hierarchy's, or the unified one's.
pub(crate) fn cgroups() -> Vec<PathBuf> {
    let entries = |dir: &Path| -> Vec<PathBuf> {
        read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let top = entries(Path::new(CGROUPS));
    let below: Vec<_> = top.iter().filter(|path| path.is_dir()).flat_map(|path| entries(path)).collect();
    let ours = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
    };
    top.into_iter().chain(below).filter(ours).collect()
}

/// Removes what a test process left that was killed before it could, or that a person has looked at enough.
pub(crate) fn sweep() {
    let cgroups = cgroups();
    let directories = read_dir(clusters()).into_iter().flatten().flatten().map(|entry| entry.path());
    for path in directories.chain(cgroups) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if is_orphan(&path) && !is_in_use(name) {
            remove(name);
        }
    }
}

/// Whether a cluster was kept, and one of its inits, whose pids stand in the keep file, still runs.
fn is_in_use(id: &str) -> bool {
    let pids = read_to_string(clusters().join(id).join("keep")).unwrap_or_default();
    pids.split_whitespace().any(|pid| Path::new("/proc").join(pid).exists())
}

/// Whether the test process that made it is gone.
pub(crate) fn is_orphan(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
    pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

fn remove(id: &str) {
    for cgroup in cgroups().iter().filter(|path| path.ends_with(id)) {
        remove_cgroup(cgroup);
    }
    remove_dir_all(clusters().join(id)).ok();
}

/// A cgroup is removed by rmdir(2), its children first; one that still holds a process refuses.
fn remove_cgroup(path: &Path) {
    for entry in read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    remove_dir(path).ok();
}

fn clusters() -> PathBuf {
    target_dir().join("testbed")
}
