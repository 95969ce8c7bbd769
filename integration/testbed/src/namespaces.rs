//! Running code inside a host: on a thread of its own that joins the host's namespaces.
//!
//! A thread, not a process: a closure can open sockets, read files and start programs in the host and hand
//! back what it got. setns(2) holds for the calling thread alone, so the test's other threads stay outside.

use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::panic::resume_unwind;
use std::path::Path;

/// Open handles on a set of namespaces.
#[derive(Debug)]
pub struct Namespaces(Vec<(CloneFlags, File)>);

impl Namespaces {
    /// All namespaces of a process that makes it a host.
    pub(crate) fn of_process(pid: u32) -> Self {
        let open = |(flag, name)| (flag, open(&Path::new("/proc").join(format!("{pid}/ns/{name}"))));
        Self(
            [
                (CloneFlags::CLONE_NEWIPC, "ipc"),
                (CloneFlags::CLONE_NEWUTS, "uts"),
                (CloneFlags::CLONE_NEWNET, "net"),
                (CloneFlags::CLONE_NEWPID, "pid"),
                (CloneFlags::CLONE_NEWNS, "mnt"),
            ]
            .map(open)
            .into(),
        )
    }

    /// The network namespace behind a path such as `/proc/PID/ns/net`, alone.
    pub fn net(path: &Path) -> Self {
        Self(vec![(CloneFlags::CLONE_NEWNET, open(path))])
    }

    /// Runs `work` inside, on a new thread, and returns its result; a panic inside goes on outside.
    ///
    /// What `work` opens or starts stays inside once it has returned. It can't start threads: the kernel
    /// refuses that to a thread whose children belong to another pid namespace.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                // A thread that shares its root directory with others may not change its mounts (setns(2)).
                unshare(CloneFlags::CLONE_FS).expect("unshare(CLONE_FS) needs no privilege");
                for (flag, file) in &self.0 {
                    setns(file, *flag).unwrap_or_else(|e| panic!("setns({flag:?}): {e}; is this root?"));
                }
                work()
            });
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

fn open(path: &Path) -> File {
    File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
