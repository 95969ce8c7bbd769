//! Consul: one server beside the router, and a client agent on each host, as in production.

use crate::daemon::Daemon;
use crate::home::Home;
use crate::http;
use crate::lan::ROUTER;
use crate::namespaces::Namespaces;
use crate::stamped::Stamped;
use crate::wait::eventually;
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use steppe_probe::now_ns;

/// Inside each host.
pub(crate) const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);
/// Of a host's agent, in the host's own memory.
const DATA_DIR: &str = "/run/consul";
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a blocking query may wait; less than [`http`]'s patience.
const WATCH_SECONDS: u64 = 10;

/// What all agents have in common. Gossip finds a dead node in some seconds, without declaring a busy one
/// dead; nothing is fetched from anywhere.
const SETTINGS: &str = r#"
disable_update_check = true
leave_on_terminate = false
skip_leave_on_interrupt = true
gossip_lan { gossip_interval = "50ms" probe_interval = "500ms" probe_timeout = "300ms" suspicion_mult = 2 }
"#;

/// A Consul agent and its HTTP API.
#[derive(Debug)]
pub struct Consul {
    /// The `consul` process.
    pub daemon: Daemon,
    namespaces: Arc<Namespaces>,
}

/// A service to register. Made by [`Service::new`], refined by the methods.
#[derive(Debug, Clone)]
pub struct Service {
    id: String,
    body: Map<String, Value>,
}

impl Service {
    /// A service whose id is its name.
    pub fn new(name: &str) -> Self {
        let service = Self { id: String::new(), body: Map::new() };
        service.with("Name", name.into()).id(name)
    }

    /// Sets the id, for several instances on one host.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self.with("ID", id.into())
    }

    /// Where an instance is dialled.
    #[must_use]
    pub fn at(self, address: Ipv4Addr, port: u16) -> Self {
        self.with("Address", address.to_string().into()).with("Port", port.into())
    }

    /// Adds a tag.
    #[must_use]
    pub fn tag(self, tag: &str) -> Self {
        self.push("Tags", tag.into())
    }

    /// Adds meta.
    #[must_use]
    pub fn meta(mut self, name: &str, value: &str) -> Self {
        self.body.entry("Meta").or_insert_with(|| json!({}))[name] = value.into();
        self
    }

    /// A check that the test sets by [`Consul::pass`] and [`Consul::fail`]; it starts passing.
    #[must_use]
    pub fn ttl_check(self) -> Self {
        let check = format!("check:{}", self.id);
        self.push("Checks", json!({ "CheckID": check, "TTL": "1h", "Status": "passing" }))
    }

    /// A check by HTTP GET, each second (Consul's shortest interval); it starts passing.
    #[must_use]
    pub fn http_check(self, to: SocketAddr) -> Self {
        let url = format!("http://{to}/");
        self.push("Checks", json!({ "HTTP": url, "Interval": "1s", "Timeout": "1s", "Status": "passing" }))
    }

    /// A check by connecting, each second; it starts passing.
    #[must_use]
    pub fn tcp_check(self, to: SocketAddr) -> Self {
        let to = to.to_string();
        self.push("Checks", json!({ "TCP": to, "Interval": "1s", "Timeout": "1s", "Status": "passing" }))
    }

    /// Sets any member of the API's service definition.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.body.insert(name.to_owned(), value);
        self
    }

    fn push(mut self, name: &str, value: Value) -> Self {
        let list = self.body.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().expect("a list").push(value);
        self
    }
}

impl Consul {
    /// The cluster's only server. Its catalog is in memory: after a kill it is filled anew by the agents.
    pub(crate) fn server(home: &Home, hosts: &[Ipv4Addr]) -> Self {
        let mut command = agent("server", ROUTER);
        command.push("-dev".into());
        command.extend(hosts.iter().flat_map(|host| join(*host)));
        Self::new("consul-server", home, command)
    }

    /// A host's agent.
    pub(crate) fn client(node: &str, address: Ipv4Addr, home: &Home) -> Self {
        let mut command = agent(node, address);
        command.push(format!("-data-dir={DATA_DIR}"));
        command.extend(join(ROUTER));
        Self::new("consul", home, command)
    }

    fn new(name: &str, home: &Home, command: Vec<String>) -> Self {
        let daemon = Daemon::new(name, home, command);
        // Consul's snapshots and checks need few threads; a test machine has few cores.
        daemon.env("GOMAXPROCS", "2");
        Self { daemon, namespaces: Arc::clone(&home.namespaces) }
    }

    /// Lets the agent run under a uid of its own from its next start on.
    pub(crate) fn run_as(&self, uid: u32) {
        let made = self.namespaces.enter(|| {
            std::fs::create_dir_all(DATA_DIR)?;
            std::os::unix::fs::chown(DATA_DIR, Some(uid), Some(uid))
        });
        made.unwrap_or_else(|e| panic!("{DATA_DIR}: {e}"));
        let [user, group] = ["reuid", "regid"].map(|kind| format!("--{kind}={uid}"));
        self.daemon.through(vec!["setpriv".into(), user, group, "--clear-groups".into()]);
    }

    /// Starts the agent and waits until it answers and knows a leader.
    pub fn start(&self) {
        self.daemon.start();
        self.wait_ready();
    }

    pub(crate) fn wait_ready(&self) {
        self.daemon.ready(PATIENCE, || self.leader());
    }

    /// The leader's address as this agent knows it.
    ///
    /// # Errors
    /// When there is none, or the agent doesn't answer.
    pub fn leader(&self) -> Result<String, String> {
        let leader = self.api("GET", "/v1/status/leader", &Value::Null)?;
        match leader.as_str() {
            Some(address) if !address.is_empty() => Ok(address.to_owned()),
            _ => Err("no leader".to_owned()),
        }
    }

    /// The nodes in the catalog, sorted.
    pub fn nodes(&self) -> Vec<String> {
        let nodes = self.call("GET", "/v1/catalog/nodes", &Value::Null);
        let nodes = nodes.as_array().into_iter().flatten();
        let mut nodes: Vec<_> = nodes.filter_map(|node| node["Node"].as_str().map(str::to_owned)).collect();
        nodes.sort();
        nodes
    }

    /// Registers a service on this agent, or changes it.
    pub fn register(&self, service: &Service) {
        self.call("PUT", "/v1/agent/service/register", &service.body.clone().into());
    }

    /// Removes a service by its id.
    pub fn deregister(&self, id: &str) {
        self.call("PUT", &format!("/v1/agent/service/deregister/{id}"), &Value::Null);
    }

    /// Lets a service's [`Service::ttl_check`] pass.
    pub fn pass(&self, id: &str) {
        self.call("PUT", &format!("/v1/agent/check/pass/check:{id}"), &Value::Null);
    }

    /// Lets a service's [`Service::ttl_check`] fail.
    pub fn fail(&self, id: &str) {
        self.call("PUT", &format!("/v1/agent/check/fail/check:{id}"), &Value::Null);
    }

    /// Waits until the catalog, as this agent sees it, has this many passing instances.
    #[track_caller]
    pub fn wait_passing(&self, service: &str, count: usize, deadline: Duration) {
        let what = format!("{count} passing instances of {service} in Consul's catalog");
        eventually(deadline, &what, || {
            let path = format!("/v1/health/service/{service}?passing=1");
            let list = self.api("GET", &path, &Value::Null)?;
            let seen = list.as_array().map_or(0, Vec::len);
            if seen == count { Ok(()) } else { Err(format!("{seen}: {list}")) }
        });
    }

    /// Follows a part of the catalog by blocking queries of the test's own, as control does by its own: each answer
    /// with the time at which it was there. It ends with Consul.
    pub fn watch(&self, path: &str) -> Stamped<Value> {
        let (sender, stamped) = Stamped::channel(&format!("consul's {path}"));
        let (namespaces, path) = (Arc::clone(&self.namespaces), path.to_owned());
        std::thread::spawn(move || {
            let mut index = "0".to_owned();
            while let Ok((at, next, body)) = blocking_query(&namespaces, &path, &index) {
                index = next;
                let Ok(value) = serde_json::from_str(&body) else { return };
                if sender.send((at, value)).is_err() {
                    return;
                }
            }
        });
        stamped
    }

    /// Calls any part of Consul's API.
    ///
    /// # Panics
    /// When the answer isn't a success.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.api(method, path, body).unwrap_or_else(|e| panic!("consul: {e}"))
    }

    fn api(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.namespaces.enter(|| http::json(http::tcp(ADDRESS)?, method, path, body))
    }
}

/// The answer's time, index and body.
fn blocking_query(namespaces: &Namespaces, path: &str, index: &str) -> Result<(u64, String, String), String> {
    let socket = namespaces.enter(|| http::tcp(ADDRESS))?;
    let path = format!("{path}?stale&index={index}&wait={WATCH_SECONDS}s");
    let response = http::request(socket, "GET", &path, "application/json", &[])?;
    let index = response.header("X-Consul-Index").ok_or("no index")?.to_owned();
    let body = response.text()?;
    Ok((now_ns(), index, body))
}

fn agent(node: &str, address: Ipv4Addr) -> Vec<String> {
    let fixed = ["consul", "agent", "-client=127.0.0.1", "-log-level=info"];
    let mut command: Vec<String> = fixed.map(str::to_owned).into();
    command.extend([format!("-node={node}"), format!("-bind={address}"), format!("-hcl={SETTINGS}")]);
    command
}

/// After a loss of contact the agents seek each other at once.
fn join(address: Ipv4Addr) -> [String; 2] {
    [format!("-retry-join={address}"), "-retry-interval=200ms".to_owned()]
}
