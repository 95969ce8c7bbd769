//! A host's copy of Steppe: each process under the identity that it has in production.

use crate::daemon::Daemon;
use crate::home::Home;
use crate::namespaces::Namespaces;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The group that owns the run directory and may ask the sockets.
pub const GROUP: u32 = 60_700;
/// Inside each host; root and [`GROUP`] own it, mode 1770.
pub const RUN_DIR: &str = "/run/steppe";
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom a process runs as, always with the group [`GROUP`] and no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its user id.
    pub uid: u32,
    /// The one capability that it keeps, as setpriv(1) calls it.
    pub capability: Option<&'static str>,
}

impl Identity {
    /// control: root without any capability.
    pub const CONTROL: Self = Self { uid: 0, capability: None };
    /// proxy: no privilege.
    pub const PROXY: Self = Self { uid: 60_701, capability: None };
    /// netfilter-agent: CAP_NET_ADMIN.
    pub const NETFILTER_AGENT: Self = Self { uid: 60_702, capability: Some("net_admin") };
    /// dns: CAP_NET_BIND_SERVICE.
    pub const DNS: Self = Self { uid: 60_703, capability: Some("net_bind_service") };

    /// The command line that gives up everything else and then becomes the program that follows. An empty
    /// bounding set leaves root without capabilities as well (capabilities(7)).
    pub fn command(self) -> Vec<String> {
        let only = self.capability.map_or_else(|| "-all".to_owned(), |name| format!("-all,+{name}"));
        vec![
            "setpriv".into(),
            format!("--reuid={}", self.uid),
            format!("--regid={GROUP}"),
            "--clear-groups".into(),
            format!("--inh-caps={only}"),
            format!("--ambient-caps={only}"),
            format!("--bounding-set={only}"),
        ]
    }
}

/// The processes of Steppe on one host. Each can be started, killed and restarted alone.
#[derive(Debug)]
pub struct Suite {
    /// `steppe-control`: uid 0, no capability.
    pub control: Daemon,
    /// `steppe-proxy`: no capability.
    pub proxy: Daemon,
    /// `steppe-netfilter-agent`: CAP_NET_ADMIN alone.
    pub netfilter_agent: Daemon,
    /// `steppe-dns`: CAP_NET_BIND_SERVICE alone.
    pub dns: Daemon,
    namespaces: Arc<Namespaces>,
}

impl Suite {
    pub(crate) fn new(home: &Home) -> Self {
        let daemon = |name: &str, identity: Identity| {
            let mut command = identity.command();
            command.push(binary(&format!("steppe-{name}")).to_string_lossy().into_owned());
            Daemon::new(name, home, command)
        };
        Self {
            control: daemon("control", Identity::CONTROL),
            proxy: daemon("proxy", Identity::PROXY),
            netfilter_agent: daemon("netfilter-agent", Identity::NETFILTER_AGENT),
            dns: daemon("dns", Identity::DNS),
            namespaces: Arc::clone(&home.namespaces),
        }
    }

    /// Starts netfilter-agent, proxy, dns and control, but for the one that `STEPPE_WITHOUT` names, as an earlier release had
    /// none, and waits until each listens on its socket.
    pub fn start(&self) {
        let without = std::env::var_os("STEPPE_WITHOUT").unwrap_or_default();
        let mut daemons = vec![&self.netfilter_agent, &self.proxy, &self.dns, &self.control];
        daemons.retain(|daemon| without != daemon.name());
        daemons.iter().for_each(|daemon| assert_built(&format!("steppe-{}", daemon.name())));
        daemons.iter().for_each(|daemon| daemon.start());
        daemons.iter().for_each(|daemon| self.wait_socket(daemon));
    }

    /// Waits until a process accepts connections on its socket.
    ///
    /// # Panics
    /// When it ends or takes too long, with the end of its log.
    #[track_caller]
    pub fn wait_socket(&self, daemon: &Daemon) {
        let socket = socket(daemon);
        daemon.ready(PATIENCE, || {
            self.namespaces
                .enter(|| UnixStream::connect(&socket))
                .map_err(|e| format!("{}: {e}", socket.display()))
        });
    }

    /// SIGKILL and start, and waits until it listens again.
    #[track_caller]
    pub fn restart(&self, daemon: &Daemon) {
        daemon.restart();
        self.wait_socket(daemon);
    }

    /// All four, whether they run or not.
    pub fn all(&self) -> [&Daemon; 4] {
        [&self.control, &self.proxy, &self.netfilter_agent, &self.dns]
    }
}

/// A process's socket.
pub(crate) fn socket(daemon: &Daemon) -> PathBuf {
    Path::new(RUN_DIR).join(format!("{}.sock", daemon.name()))
}

/// A program of the workspace: beside the running test or demo, or in `STEPPE_BIN_DIR`.
pub(crate) fn binary(name: &str) -> PathBuf {
    bin_dir().join(name)
}

fn bin_dir() -> PathBuf {
    std::env::var_os("STEPPE_BIN_DIR").map_or_else(profile_dir, PathBuf::from)
}

/// Cargo's `target/debug` or `target/release` that the running program is from.
pub(crate) fn profile_dir() -> PathBuf {
    let program = std::env::current_exe().expect("/proc/self/exe");
    let dir = program.parent().expect("a program is in a directory");
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
}

/// Cargo's `target`.
pub(crate) fn target_dir() -> PathBuf {
    let profile = profile_dir();
    profile.parent().unwrap_or(&profile).to_owned()
}

/// Where Steppe's programs and grpcurl are, as a beginning for `PATH`.
pub fn programs() -> String {
    let needs = target_dir().join("needs");
    format!("{}:{}", bin_dir().display(), needs.display())
}

/// Fails at once, and clearly, if the suite hasn't been built.
pub(crate) fn assert_built(program: &str) {
    let path = binary(program);
    assert!(path.exists(), "{} is missing: `make build` builds it", path.display());
}
