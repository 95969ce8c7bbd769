//! Containers: what can be asked of one that runs.

use crate::docker::{Api, SOCKET};
use crate::http;
use crate::lines::Lines;
use crate::namespaces::Namespaces;
use crate::output::Output;
use crate::run::Run;
use crate::runsc;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use steppe_probe::Attempt;

/// Time-out of [`Container::connect`]: a dropped SYN is sent again after 1 s, and that one must count.
const CONNECT: Duration = Duration::from_secs(2);

/// For the time from a server's start to its listen(2), which takes milliseconds.
const LISTEN: Duration = Duration::from_secs(10);

/// A container that was started. Dropping the handle leaves it alone; it goes with its host.
#[derive(Debug, Clone)]
pub struct Container {
    /// Docker's id, 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    api: Api,
    inspected: Value,
}

impl Container {
    #[track_caller]
    pub(crate) fn start(api: Api, run: Run) -> Self {
        let create = format!("/containers/create?name={}", run.name);
        let created = api.call("POST", &create, &run.body()).unwrap_or_else(|e| panic!("docker: {e}"));
        let id = created["Id"].as_str().expect("Docker answers with the id").to_owned();
        let mut container = Self { id, name: run.name, api, inspected: Value::Null };
        container.start_again();
        if run.listens {
            // Docker's answer means that the program was executed, not that it has got anywhere.
            container
                .lines()
                .until(LISTEN, "it listens", |line| line.starts_with("listening ").then_some(()));
        }
        container
    }

    #[track_caller]
    pub(crate) fn find(api: Api, name: &str) -> Self {
        let path = format!("/containers/{name}/json");
        let inspected = api.call("GET", &path, &Value::Null).unwrap_or_else(|e| panic!("docker: {e}"));
        let id = inspected["Id"].as_str().expect("Docker answers with the id").to_owned();
        Self { id, name: name.to_owned(), api, inspected }
    }

    /// Starts it after it has ended.
    pub fn start_again(&mut self) {
        self.post("start");
        self.inspected = self.inspect();
    }

    /// Its address on its first network, as of its start.
    ///
    /// # Panics
    /// When it has none.
    #[track_caller]
    pub fn address(&self) -> Ipv4Addr {
        let text = self.endpoint()["IPAddress"].as_str().unwrap_or_default();
        text.parse().unwrap_or_else(|_| panic!("{} has no IPv4 address, but `{text}`", self.name))
    }

    /// Its IPv6 address there, which it has on the default bridge of a cluster [with IPv6](crate::Spec::ipv6).
    pub fn address6(&self) -> Option<Ipv6Addr> {
        self.endpoint()["GlobalIPv6Address"].as_str()?.parse().ok()
    }

    /// Its MAC on its first network, as of its start.
    pub fn mac(&self) -> String {
        self.endpoint()["MacAddress"].as_str().unwrap_or_default().to_owned()
    }

    /// The host port that leads to a published port.
    ///
    /// # Panics
    /// When it isn't published.
    #[track_caller]
    pub fn published(&self, port: u16) -> u16 {
        let bindings = &self.inspected["NetworkSettings"]["Ports"][format!("{port}/tcp")];
        let text = bindings[0]["HostPort"].as_str().unwrap_or_default();
        text.parse().unwrap_or_else(|_| panic!("{} doesn't publish {port}", self.name))
    }

    /// What Docker tells about it now.
    pub fn inspect(&self) -> Value {
        let path = format!("/containers/{}/json", self.id);
        self.api.call("GET", &path, &Value::Null).unwrap_or_else(|e| panic!("docker: {e}"))
    }

    /// What it prints on stdout, from its beginning and as it goes on.
    pub fn lines(&self) -> Lines {
        let stream = self.api.follow(&format!("/containers/{}/logs?follow=1&stdout=1", self.id));
        Lines::demultiplex(&self.name, stream)
    }

    /// Connects once from inside its network, and reads the server's name. Costs a process under runsc alone.
    pub fn connect(&self, to: impl Into<SocketAddr>) -> Attempt {
        let to = to.into();
        if self.is_runsc() {
            let timeout = CONNECT.as_millis().to_string();
            let line = self.exec(&["probe", "connect", &to.to_string(), "--timeout-ms", &timeout]).ok();
            return line.trim_end().parse().unwrap_or_else(|e| panic!("{}: {e}", self.name));
        }
        self.enter(|| Attempt::make(to, CONNECT))
    }

    /// Whether it runs under runsc.
    pub fn is_runsc(&self) -> bool {
        self.inspected["HostConfig"]["Runtime"] == runsc::NAME
    }

    /// Its pid as the host sees it; under runsc its sandbox's.
    pub fn pid(&self) -> u64 {
        self.inspected["State"]["Pid"].as_u64().expect("Docker tells the pid")
    }

    /// Runs `work` inside its network namespace (its files and processes stay outside). Under runsc that is a namespace
    /// without addresses: gVisor has taken them to itself.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = PathBuf::from(format!("/proc/{}/ns/net", self.pid()));
        // Docker tells the pid as the host sees it, so it is looked up in the host.
        self.api.0.enter(|| Namespaces::net(&path)).enter(work)
    }

    /// Runs a command in it to its end.
    ///
    /// # Panics
    /// When Docker can't start it.
    #[track_caller]
    pub fn exec(&self, command: &[&str]) -> Output {
        self.try_exec(command).unwrap_or_else(|e| panic!("docker exec in {}: {e}", self.name))
    }

    /// Lets [`Run::serve_http`] answer 503 from now on.
    pub fn fail(&self) {
        self.exec(&["touch", "/fail"]).ok();
    }

    /// Ends [`Container::fail`].
    pub fn recover(&self) {
        self.exec(&["rm", "/fail"]).ok();
    }

    /// `docker stop`.
    pub fn stop(&self) {
        self.post("stop");
    }

    /// `docker kill`: SIGKILL.
    pub fn kill(&self) {
        self.post("kill");
    }

    /// `docker rm --force`.
    pub fn remove(self) {
        let path = format!("/containers/{}?force=1", self.id);
        self.api.call("DELETE", &path, &Value::Null).unwrap_or_else(|e| panic!("docker: {e}"));
    }

    fn try_exec(&self, command: &[&str]) -> Result<Output, String> {
        let body = json!({ "AttachStdout": true, "AttachStderr": true, "Cmd": command });
        let created = self.api.call("POST", &format!("/containers/{}/exec", self.id), &body)?;
        let exec = created["Id"].as_str().ok_or("no id")?;
        let start = format!("/exec/{exec}/start");
        let stream = self.api.0.enter(|| {
            let socket = http::unix(Path::new(SOCKET))?;
            http::request(socket, "POST", &start, "application/json", b"{\"Detach\":false}")?.bytes()
        })?;
        let (stdout, stderr) = crate::lines::split(&stream);
        let code = &self.api.call("GET", &format!("/exec/{exec}/json"), &Value::Null)?["ExitCode"];
        let code = code.as_i64().and_then(|code| i32::try_from(code).ok());
        Ok(Output { code: code.ok_or("no exit code")?, stdout, stderr })
    }

    fn endpoint(&self) -> &Value {
        let networks = self.inspected["NetworkSettings"]["Networks"].as_object();
        networks.and_then(|networks| networks.values().next()).unwrap_or(&Value::Null)
    }

    fn post(&self, verb: &str) {
        let path = format!("/containers/{}/{verb}", self.id);
        self.api.call("POST", &path, &Value::Null).unwrap_or_else(|e| panic!("docker: {e}"));
    }
}
