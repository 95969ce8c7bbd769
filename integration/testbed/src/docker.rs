//! A host's Docker daemon, spoken to by its HTTP API: ten times as fast as the `docker` command.

use crate::container::Container;
use crate::daemon::Daemon;
use crate::home::Home;
use crate::http;
use crate::image;
use crate::lines::Lines;
use crate::namespaces::Namespaces;
use crate::run::Run;
use crate::runsc;
use serde_json::{Value, json};
use std::io::BufReader;
use std::net::Ipv6Addr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Inside the host.
pub(crate) const SOCKET: &str = "/run/docker.sock";
/// Its data are in the host's own memory and go with the host.
const DATA_ROOT: &str = "/run/docker-data";
/// `CMD ["probe", "wait"]`: what a container does whose creator names no command.
const COMMAND: &str = "CMD%20%5B%22probe%22%2C%22wait%22%5D";
/// The daemon takes 0.4 s on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's head.
#[derive(Debug)]
pub struct Docker {
    /// The `dockerd` process; it starts its own containerd.
    pub daemon: Daemon,
    api: Api,
}

/// Docker's API as seen by one host.
#[derive(Debug, Clone)]
pub(crate) struct Api(pub(crate) Arc<Namespaces>);

impl Docker {
    pub(crate) fn new(home: &Home, cgroup: &str) -> Self {
        let command = [
            "dockerd",
            "--host=unix:///run/docker.sock",
            "--exec-root=/run/docker",
            "--pidfile=/run/docker.pid",
            "--storage-driver=overlay2",
        ];
        let mut command: Vec<String> = command.map(str::to_owned).into();
        command.push(format!("--data-root={DATA_ROOT}"));
        command.push(format!("--cgroup-parent=/{cgroup}"));
        command.push(format!("--add-runtime={}={}", runsc::NAME, runsc::WRAPPER));
        let daemon = Daemon::new("dockerd", home, command);
        Self { daemon, api: Api(Arc::clone(&home.namespaces)) }
    }

    /// Gives containers on the default bridge IPv6 addresses: those of the network `fd77:d:N::/64` on the host `…::N`.
    pub(crate) fn ipv6(&self, host: Ipv6Addr) {
        let number = host.segments()[7];
        self.daemon.arg("--ipv6").arg(format!("--fixed-cidr-v6=fd77:d:{number:x}::/64"));
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&self) {
        self.daemon.start();
        self.wait_ready();
    }

    /// Ends the daemon in order, and with it all containers unless it runs with `--live-restore`.
    pub fn stop(&self) {
        self.daemon.terminate(PATIENCE);
    }

    pub(crate) fn wait_ready(&self) {
        self.daemon.ready(PATIENCE, || self.api.call("GET", "/_ping", &Value::Null));
    }

    /// Makes the one image, `steppe-probe`.
    pub(crate) fn load_image(&self) {
        let path = format!("/images/create?fromSrc=-&repo={}&tag=latest&changes={COMMAND}", image::NAME);
        let answer = self.api.0.enter(|| {
            http::request(http::unix(Path::new(SOCKET))?, "POST", &path, "application/x-tar", image::tar())?
                .text()
        });
        let answer = answer.unwrap_or_else(|e| panic!("docker import: {e}"));
        assert!(answer.contains("sha256:"), "docker import: {answer}");
    }

    /// Gives the image the name `steppe-probe:1` as well.
    pub(crate) fn tag_image(&self) {
        let (_, tag) = image::TAGGED.split_once(':').expect("it has a tag");
        self.tag(image::NAME, tag);
    }

    /// Creates and starts a container.
    ///
    /// # Panics
    /// When Docker refuses.
    #[track_caller]
    pub fn run(&self, run: Run) -> Container {
        Container::start(self.api.clone(), run)
    }

    /// Loads an image archive, as `docker load` does.
    ///
    /// # Panics
    /// When the file can't be read or Docker refuses.
    pub fn load(&self, archive: &Path) {
        let bytes = std::fs::read(archive).unwrap_or_else(|e| panic!("{}: {e}", archive.display()));
        let loaded = self.api.0.enter(|| {
            let socket = http::unix(Path::new(SOCKET))?;
            http::request(socket, "POST", "/images/load?quiet=1", "application/x-tar", &bytes)?.text()
        });
        let loaded = loaded.unwrap_or_else(|e| panic!("docker load: {e}"));
        assert!(loaded.contains("Loaded image"), "docker load: {loaded}");
    }

    /// Gives an image another tag too.
    pub fn tag(&self, image: &str, tag: &str) {
        let (repository, _) = image.rsplit_once(':').unwrap_or((image, ""));
        self.call("POST", &format!("/images/{image}/tag?repo={repository}&tag={tag}"), &Value::Null);
    }

    /// A container that somebody else started, by its name.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn container(&self, name: &str) -> Container {
        Container::find(self.api.clone(), name)
    }

    /// Creates a bridge network.
    pub fn create_network(&self, name: &str, subnet: &str) {
        let body = json!({
            "Name": name, "Driver": "bridge", "CheckDuplicate": true,
            "IPAM": { "Config": [{ "Subnet": subnet }] },
        });
        self.call("POST", "/networks/create", &body);
    }

    /// Removes a network.
    pub fn remove_network(&self, name: &str) {
        self.call("DELETE", &format!("/networks/{name}"), &Value::Null);
    }

    /// Docker's events from now on, each a line of JSON (API, "Monitor events").
    pub fn events(&self) -> Lines {
        Lines::plain("docker events", self.api.follow("/events"))
    }

    /// The names of all containers, running or not.
    pub fn containers(&self) -> Vec<String> {
        let list = self.call("GET", "/containers/json?all=1", &Value::Null);
        let names = list.as_array().into_iter().flatten().filter_map(|c| c["Names"][0].as_str());
        names.map(|name| name.trim_start_matches('/').to_owned()).collect()
    }

    /// Calls any part of Docker's API (the newest version that the daemon speaks).
    ///
    /// # Panics
    /// When the answer isn't a success.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_call(method, path, body).unwrap_or_else(|e| panic!("docker: {e}"))
    }

    pub(crate) fn try_call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.api.call(method, path, body)
    }
}

impl Api {
    /// A stream that goes on and on.
    pub(crate) fn follow(&self, path: &str) -> BufReader<UnixStream> {
        let response = self.0.enter(|| {
            let socket = http::unix(Path::new(SOCKET))?;
            // Silence is no sign of a hanging daemon here.
            socket.set_read_timeout(None).map_err(|e| e.to_string())?;
            http::request(socket, "GET", path, "application/json", &[])
        });
        response.unwrap_or_else(|e| panic!("docker: {e}")).stream()
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        self.0.enter(|| http::json(http::unix(Path::new(SOCKET))?, method, path, body))
    }
}
