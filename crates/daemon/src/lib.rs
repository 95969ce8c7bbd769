//! What every process of Steppe does alike: its run directory, its logs, its signals, its way to fail.

#![forbid(unsafe_code)]

mod exit;
mod identity;
mod logging;
mod resolv_conf;
mod run_dir;
mod shutdown;

pub use exit::{Failure, exit};
pub use identity::{CONTROL_UID, DNS_UID, GROUP_GID, NETFILTER_AGENT_UID, PROXY_UID};
pub use logging::{LogFormat, Logging};
pub use resolv_conf::{ResolvConf, read_bounded};
pub use run_dir::{Process, RunDir, RunDirError};
pub use shutdown::shutdown_signal;
