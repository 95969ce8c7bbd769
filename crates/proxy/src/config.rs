//! The proxy's flags.

use std::{num::NonZeroUsize, thread, time::Duration};

use clap::Parser;
use steppe_daemon::{CONTROL_UID, Logging, RunDir};

/// More workers than this bring nothing: the kernel's TCP is the wall long before.
const MAX_WORKERS: usize = 64;
/// Four cores carry some 100,000 new connections a second; a host has other things to do as well.
const DEFAULT_WORKERS: usize = 4;

/// Steppe's proxy: listens for each service and balances connections over its endpoints.
///
/// It needs no privilege. What it serves comes from steppe-control, through RUN_DIR/proxy.sock; look at it there with
/// `grpcurl -unix -plaintext RUN_DIR/proxy.sock list`. SIGTERM makes it drain: it goes on for at most two seconds, until
/// steppe-control has led new connections past it, takes no more, waits for the open ones as long as --drain-timeout says, and
/// ends; a second SIGTERM ends it at once.
#[derive(Debug, Clone, Parser)]
#[command(name = "steppe-proxy", version, max_term_width = 100)]
pub struct Config {
    /// Where the sockets of the suite are.
    #[command(flatten)]
    pub run_dir: RunDir,

    /// The uid that steppe-control runs as; Sync is taken from nobody else
    #[arg(long, env = "STEPPE_CONTROL_UID", default_value_t = CONTROL_UID, value_name = "UID")]
    pub control_uid: u32,

    /// Threads that carry connections, 1 to 64; by default one a CPU, but at most 4
    #[arg(long, env = "STEPPE_PROXY_WORKERS", value_name = "N", value_parser = parse_workers)]
    pub workers: Option<NonZeroUsize>,

    /// How long a connect to one endpoint may take before the next one is tried, such as 500ms or 2s
    #[arg(long, env = "STEPPE_CONNECT_TIMEOUT", default_value = "1s", value_name = "TIME", value_parser = parse_timeout)]
    pub connect_timeout: Duration,

    /// How long open connections may go on after SIGTERM, such as 30s or 5m; then they are reset
    #[arg(long, env = "STEPPE_DRAIN_TIMEOUT", default_value = "30s", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub drain_timeout: Duration,

    /// How long a UDP flow, what one client's address sends and is sent, is remembered after its last datagram, such as 2m
    #[arg(long, env = "STEPPE_UDP_IDLE_TIMEOUT", default_value = "2m", value_name = "TIME", value_parser = parse_idle)]
    pub udp_idle_timeout: Duration,

    /// How it logs.
    #[command(flatten)]
    pub logging: Logging,
}

impl Config {
    /// The number of workers to start.
    #[must_use]
    pub fn workers(&self) -> usize {
        let cpus = || thread::available_parallelism().map_or(1, NonZeroUsize::get).min(DEFAULT_WORKERS);
        self.workers.map_or_else(cpus, NonZeroUsize::get)
    }
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .ok()
        .filter(|workers: &NonZeroUsize| workers.get() <= MAX_WORKERS)
        .ok_or_else(|| format!("a number from 1 to {MAX_WORKERS} is expected"))
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    parse_within(text, Duration::from_secs(60))
}

fn parse_idle(text: &str) -> Result<Duration, String> {
    parse_within(text, Duration::from_secs(60 * 60))
}

fn parse_within(text: &str, most: Duration) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let sensible = Duration::from_millis(1)..=most;
    if sensible.contains(&timeout) {
        return Ok(timeout);
    }
    Err(format!("1ms to {} is expected", humantime::format_duration(most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(flags: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from([&["steppe-proxy"], flags].concat())
    }

    #[test]
    fn flags_are_read() {
        let config =
            parsed(&["--workers", "3", "--connect-timeout", "250ms", "--drain-timeout", "0s"]).unwrap();
        assert_eq!(config.workers(), 3);
        assert_eq!(config.connect_timeout, Duration::from_millis(250));
        assert_eq!(config.drain_timeout, Duration::ZERO);
        assert!((1..=DEFAULT_WORKERS).contains(&parsed(&[]).unwrap().workers()));
    }

    #[test]
    fn nonsense_is_refused() {
        for flags in [
            ["--workers", "0"],
            ["--workers", "65"],
            ["--connect-timeout", "0s"],
            ["--connect-timeout", "5"],
            ["--udp-idle-timeout", "0s"],
            ["--udp-idle-timeout", "2h"],
            ["--drain-timeout", "-1s"],
            ["--control-uid", "root"],
        ] {
            assert_eq!(parsed(&flags).unwrap_err().exit_code(), 2, "{flags:?}");
        }
    }
}
