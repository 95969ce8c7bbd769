//! Programs that tests start themselves.

use std::path::PathBuf;

/// A program of the workspace: where the testbed takes its own from.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("STEPPE_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    beside(name).unwrap_or_else(|| panic!("{name}: run `make build`"))
}

/// The grpcurl that `make install-needs` has installed.
pub fn grpcurl() -> PathBuf {
    beside("needs/grpcurl").expect("grpcurl: run `make install-needs`")
}

/// In the running program's folder or one above it.
fn beside(name: &str) -> Option<PathBuf> {
    let program = std::env::current_exe().expect("/proc/self/exe");
    program.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file())
}
