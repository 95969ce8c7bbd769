//! gVisor's runsc, as a runtime of a host's Docker daemon.

use crate::tools::program;
use std::fs::{copy, create_dir_all};
use std::io::Result;
use std::path::Path;

/// The runtime's name in Docker.
pub(crate) const NAME: &str = "runsc";
/// Inside each host.
pub(crate) const WRAPPER: &str = "/run/testbed/runsc/runsc";
const SYS: &str = "/run/testbed/runsc/sys";
const PROGRAM: &str = "/usr/bin/runsc";
const SCRIPT: &str = include_str!("runsc.sh");
/// What runsc's `start` reads below /proc/sys.
const SETTINGS: [&str; 4] =
    ["vm/mmap_min_addr", "vm/overcommit_memory", "kernel/cap_last_cap", "kernel/pid_max"];

/// Puts the wrapper, which the head of runsc.sh explains, into the host that the calling thread is in.
pub(crate) fn install() -> Result<()> {
    for setting in SETTINGS {
        let to = Path::new(SYS).join(setting);
        create_dir_all(to.parent().expect("it is in a directory"))?;
        copy(Path::new("/proc/sys").join(setting), to)?;
    }
    program(Path::new(WRAPPER), SCRIPT.as_bytes())
}

/// # Panics
/// When there is no runsc, and so before a test waits for what can't come.
#[track_caller]
pub(crate) fn assert_installed() {
    assert!(Path::new(PROGRAM).exists(), "{PROGRAM} is missing: `make install-needs` installs it");
}
