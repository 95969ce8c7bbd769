//! What the testbed puts into each host, into its own memory: the probe and the wrapper of runsc.

use crate::image::PROBE;
use crate::namespaces::Namespaces;
use crate::output::{Output, run};
use crate::runsc;
use std::fs::{Permissions, create_dir_all, set_permissions, write};
use std::io::Result;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const DIRECTORY: &str = "/run/testbed";
/// The probe in each host, which every user may run.
const PROBE_PATH: &str = "/run/testbed/probe";

/// # Panics
/// When the host's files can't be written.
pub(crate) fn install(host: &Namespaces) {
    host.enter(|| {
        create_dir_all(DIRECTORY)?;
        program(Path::new(PROBE_PATH), PROBE)?;
        runsc::install()
    })
    .unwrap_or_else(|e| panic!("{DIRECTORY}: {e}"));
}

/// Writes a file that can be run.
pub(crate) fn program(path: &Path, bytes: &[u8]) -> Result<()> {
    write(path, bytes)?;
    set_permissions(path, Permissions::from_mode(0o755))
}

/// Runs the probe in a host, as a user without any privilege unless it is 0.
#[track_caller]
pub(crate) fn probe(host: &Namespaces, uid: u32, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
    command.args([&user, &group, "--clear-groups", "--", PROBE_PATH]).args(arguments);
    run(host, command, "")
}
