//! What to run in a container.

use crate::image;
use crate::runsc;
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// What to run. Made by [`Run::serve`] and the like, refined by the methods.
#[derive(Debug, Clone)]
pub struct Run {
    pub(crate) name: String,
    command: Vec<String>,
    pub(crate) listens: bool,
    labels: Map<String, Value>,
    publish: Vec<Published>,
    network: Option<String>,
    address: Option<Ipv4Addr>,
    host_config: Map<String, Value>,
}

impl Run {
    /// A container that runs a command of the image `steppe-probe`.
    pub fn new(name: &str, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            listens: false,
            labels: Map::new(),
            publish: Vec::new(),
            network: None,
            address: None,
            host_config: Map::new(),
        }
    }

    /// A TCP server that tells its container's name. It listens when [`Docker::run`](crate::Docker::run) returns.
    pub fn serve(name: &str, port: u16) -> Self {
        Self::server("serve", name, port)
    }

    /// An HTTP server that tells its container's name; see [`Container::fail`].
    pub fn serve_http(name: &str, port: u16) -> Self {
        Self::server("serve-http", name, port)
    }

    /// A server for TCP and UDP, IPv4 and IPv6, that tells its container's name and prints who comes.
    pub fn serve_all(name: &str, port: u16) -> Self {
        Self::server("serve-all", name, port)
    }

    fn server(kind: &str, name: &str, port: u16) -> Self {
        let run = Self::new(name, &["probe", kind, "--port", &port.to_string(), "--name", name]);
        Self { listens: true, ..run }
    }

    /// A client that connects again and again; its lines are read by [`Lines::attempt`].
    pub fn connect(name: &str, to: SocketAddr, interval: Duration) -> Self {
        let interval = interval.as_millis().to_string();
        Self::new(name, &["probe", "connect", &to.to_string(), "--forever", "--interval-ms", &interval])
    }

    /// The same without a pause to speak of, for measuring: it connects each millisecond, and prints only the attempts
    /// on both sides of each change of outcome.
    pub fn connect_tightly(name: &str, to: SocketAddr) -> Self {
        let mut run = Self::connect(name, to, Duration::from_millis(1));
        run.command.push("--changes".to_owned());
        run
    }

    /// A client that holds one connection: it prints `NS open NAME` and, once cut, `NS closed OUTCOME`.
    pub fn hold(name: &str, to: SocketAddr) -> Self {
        Self::new(name, &["probe", "hold", &to.to_string()])
    }

    /// A container that hears every frame that reaches it; it prints `NS HEX` for each.
    pub fn hear(name: &str) -> Self {
        Self { listens: true, ..Self::new(name, &["probe", "hear", "--dev", "eth0"]) }
    }

    /// A container that does nothing.
    pub fn idle(name: &str) -> Self {
        Self::new(name, &["probe", "wait"])
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.into());
        self
    }

    /// Publishes a TCP port on a host port that Docker picks; [`Container::published`] tells which.
    #[must_use]
    pub fn publish(self, port: u16) -> Self {
        self.publish_at(port, "")
    }

    /// Publishes a TCP port on a given host port.
    #[must_use]
    pub fn publish_at(mut self, port: u16, host_port: &str) -> Self {
        self.publish.push(Published { port, protocol: "tcp", host: None, host_port: host_port.to_owned() });
        self
    }

    /// Publishes a port for TCP and UDP on the same port of the host: of one of its addresses, as Nomad does, or of all.
    #[must_use]
    pub fn publish_both(mut self, port: u16, host: Option<Ipv4Addr>, host_port: u16) -> Self {
        let both = ["tcp", "udp"];
        let both = both.map(|protocol| Published { port, protocol, host, host_port: host_port.to_string() });
        self.publish.extend(both);
        self
    }

    /// Puts it on another network than Docker's default bridge; `host` and `none` are networks too.
    #[must_use]
    pub fn network(mut self, name: &str) -> Self {
        self.network = Some(name.to_owned());
        self
    }

    /// Gives it a certain address (on a network other than the default bridge).
    #[must_use]
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.address = Some(address);
        self
    }

    /// Runs it under gVisor's runsc, whose own network stack it has then.
    ///
    /// # Panics
    /// When there is no runsc.
    #[must_use]
    #[track_caller]
    pub fn runsc(self) -> Self {
        runsc::assert_installed();
        self.host_config("Runtime", runsc::NAME.into())
    }

    /// Adds a capability, such as `NET_RAW`; may be called more than once.
    #[must_use]
    pub fn capability(mut self, name: &str) -> Self {
        let added = self.host_config.entry("CapAdd").or_insert_with(|| json!([]));
        added.as_array_mut().expect("it is a list").push(name.into());
        self
    }

    /// Sets any member of `HostConfig` in Docker's API.
    #[must_use]
    pub fn host_config(mut self, name: &str, value: Value) -> Self {
        self.host_config.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn body(&self) -> Value {
        let exposed: Map<_, _> = self.publish.iter().map(|one| (one.key(), json!({}))).collect();
        let bound: Map<_, _> = self.publish.iter().map(|one| (one.key(), json!([one.binding()]))).collect();
        let mut host_config = self.host_config.clone();
        host_config.insert("PortBindings".into(), bound.into());
        let mut networking = json!({});
        if let Some(network) = &self.network {
            host_config.insert("NetworkMode".into(), network.as_str().into());
            if let Some(address) = self.address {
                let ipam = json!({ "IPAMConfig": { "IPv4Address": address.to_string() } });
                networking = json!({ "EndpointsConfig": { network: ipam } });
            }
        }
        json!({
            "Image": image::NAME, "Cmd": self.command, "Labels": self.labels, "ExposedPorts": exposed,
            // pid 1 ignores SIGTERM unless it asks for it, and Docker would wait for ten seconds.
            "StopSignal": "SIGKILL",
            "HostConfig": host_config, "NetworkingConfig": networking,
        })
    }
}

/// One published port.
#[derive(Debug, Clone)]
struct Published {
    port: u16,
    protocol: &'static str,
    /// Of the host; none for all.
    host: Option<Ipv4Addr>,
    /// Empty for one that Docker picks.
    host_port: String,
}

impl Published {
    fn key(&self) -> String {
        format!("{}/{}", self.port, self.protocol)
    }

    fn binding(&self) -> Value {
        let host = self.host.map(|host| host.to_string()).unwrap_or_default();
        json!({ "HostIp": host, "HostPort": self.host_port })
    }
}
