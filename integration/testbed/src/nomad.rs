//! A host's Nomad agent, for tests that need a real one: a client, and on the first host the cluster's only server too.

use crate::daemon::Daemon;
use crate::home::Home;
use crate::http;
use crate::image::TAGGED as IMAGE;
use crate::namespaces::Namespaces;
use crate::output::{self, Output};
use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// Inside the host.
const HTTP: SocketAddr = SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 4646));
/// It looks for its surroundings first, and elects itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where Debian puts what Nomad's bridge mode needs.
const CNI: &str = "/usr/lib/cni";

/// What CNI's plugins keep goes with the host; and Nomad before 1.8 takes a kernel for one that can make bridges only if a list of
/// modules says so, which a kernel without modules has not.
const PREPARE: &str = r#"
set -e
over() { # over DIR: what is written there from now on is this host's own
    mkdir -p "/run/over$1/upper" "/run/over$1/work"
    mount -t overlay -o "lowerdir=$1,upperdir=/run/over$1/upper,workdir=/run/over$1/work" overlay "$1"
}
if [ ! -e /run/over ]; then
    over /var/lib
    over /usr/lib
    modules=/usr/lib/modules/$(uname -r)
    mkdir -p "$modules"
    echo kernel/net/bridge/bridge.ko >>"$modules/modules.builtin"
fi
"#;

/// See the module's head.
#[derive(Debug)]
pub struct Nomad {
    /// The agent's process.
    pub daemon: Daemon,
    namespaces: Arc<Namespaces>,
    config: String,
}

impl Nomad {
    /// Describes the agent of a host and starts nothing. `server` is the address of the cluster's first host.
    pub(crate) fn new(node: &str, address: Ipv4Addr, server: Ipv4Addr, home: &Home) -> Self {
        let command = vec!["nomad".into(), "agent".into(), "-config=/run/nomad.hcl".into()];
        let daemon = Daemon::new("nomad", home, command);
        daemon.env("GOMAXPROCS", "2");
        let config = config(node, address, server);
        Self { daemon, namespaces: Arc::clone(&home.namespaces), config }
    }

    /// Starts the agent and waits until its node is ready.
    pub(crate) fn start(&self) {
        let needs = "run `make install-needs` with the argument `nomad`";
        assert!(std::path::Path::new(CNI).exists(), "{CNI} is missing: {needs}");
        output::sh(&self.namespaces, PREPARE).ok();
        self.namespaces
            .enter(|| std::fs::write("/run/nomad.hcl", &self.config))
            .expect("a host's /run can be written");
        self.daemon.program(&binary().to_string_lossy());
        self.daemon.start();
        self.daemon.ready(PATIENCE, || {
            let node = self.api("GET", &format!("/v1/node/{}", self.node_id()?), &Value::Null)?;
            if node["Status"] == "ready" { Ok(()) } else { Err(node["Status"].to_string()) }
        });
    }

    /// The id of the host's own node.
    ///
    /// # Errors
    /// When the agent doesn't answer.
    pub fn node_id(&self) -> Result<String, String> {
        let own = self.api("GET", "/v1/agent/self", &Value::Null)?;
        let id = own["stats"]["client"]["node_id"].as_str().unwrap_or_default();
        if id.is_empty() { Err("no node yet".to_owned()) } else { Ok(id.to_owned()) }
    }

    /// Asks the agent's HTTP API.
    ///
    /// # Panics
    /// When it refuses.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.api(method, path, body).unwrap_or_else(|e| panic!("nomad: {method} {path}: {e}"))
    }

    /// Runs `nomad WORDS` in the host, with `input` as its stdin (a job, say).
    #[track_caller]
    pub fn cli(&self, words: &[&str], input: &str) -> Output {
        let mut command = Command::new(binary());
        command.args(words);
        output::run(&self.namespaces, command, input)
    }

    /// Runs a job, given as HCL, and does not wait for it.
    ///
    /// # Panics
    /// When Nomad refuses it.
    #[track_caller]
    pub fn run(&self, job: &str) {
        self.cli(&["job", "run", "-detach", "-"], job).ok();
    }

    /// The newest allocation of a job's group on any node that runs.
    ///
    /// # Errors
    /// What there is instead.
    pub fn running(&self, job: &str, group: &str) -> Result<Value, String> {
        let path = format!("/v1/job/{job}/allocations");
        let allocs = self.api("GET", &path, &Value::Null)?;
        let mut running: Vec<_> = allocs
            .as_array()
            .into_iter()
            .flatten()
            .filter(|alloc| alloc["TaskGroup"] == group && alloc["ClientStatus"] == "running")
            .collect();
        running.sort_by_key(|alloc| alloc["CreateIndex"].as_u64());
        running.pop().cloned().ok_or_else(|| allocs.to_string())
    }

    fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.namespaces.enter(|| http::json(http::tcp(HTTP)?, method, path, body))
    }
}

/// The Nomad to test with: `NOMAD_BIN`, or else the one in `PATH`.
fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("NOMAD_BIN") {
        return binary.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|dir| dir.join("nomad")).find(|file| file.exists());
    found.expect("no Nomad: set NOMAD_BIN to its program, or put it into PATH")
}

fn config(node: &str, address: Ipv4Addr, server: Ipv4Addr) -> String {
    let role = if address == server { "server {\n  enabled = true\n  bootstrap_expect = 1\n}\n" } else { "" };
    format!(
        r#"name = "{node}"
data_dir = "/run/nomad"
bind_addr = "0.0.0.0"
disable_update_check = true
advertise {{
  http = "{address}"
  rpc = "{address}"
  serf = "{address}"
}}
{role}client {{
  enabled = true
  servers = ["{server}:4647"]
  cni_path = "{CNI}"
  options = {{
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }}
}}
consul {{
  address = "127.0.0.1:8500"
}}
plugin "raw_exec" {{
  config {{
    enabled = true
  }}
}}
plugin "docker" {{
  config {{
    allow_caps = ["audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod", "net_bind_service",
                  "setfcap", "setgid", "setpcap", "setuid", "sys_chroot", "net_admin"]
    infra_image = "{IMAGE}"
    gc {{
      image = false
    }}
    volumes {{
      enabled = true
    }}
  }}
}}
"#
    )
}
