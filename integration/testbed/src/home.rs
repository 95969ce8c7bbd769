//! Where a host's processes live, and what becomes of them when the test ends.

use crate::namespaces::Namespaces;
use std::path::PathBuf;
use std::sync::Arc;

/// A host's namespaces, the directory of its logs, and the file that means "stay when the test ends".
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) logs: PathBuf,
    pub(crate) keep: PathBuf,
}

impl Home {
    /// Whether everything is to be left as it is.
    pub(crate) fn is_kept(&self) -> bool {
        self.keep.exists()
    }
}
