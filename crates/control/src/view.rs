//! What the core knows, as answers to people.

mod pair;
mod service;
mod status;
mod workload;

pub use pair::pair;
pub use service::services;
pub use status::status;
pub use workload::workloads;

use std::time::Duration;

/// Whole milliseconds, as the interface has them.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
