//! One host: its namespaces, its Docker, its Consul agent and its copy of Steppe.

use crate::consul::Consul;
use crate::daemon::{Daemon, tail};
use crate::docker::Docker;
use crate::holder::Holder;
use crate::home::Home;
use crate::lan::ROUTER6;
use crate::nomad::Nomad;
use crate::output::{self, Output};
use crate::stamped::Stamped;
use crate::suite::{self, Identity, Suite};
use crate::tools;
use crate::wait::eventually;
use serde_json::Value;
use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use steppe_probe::{Attempt, now_ns};

/// How many lines of Steppe's logs a dump shows, and of Docker's and Consul's, which are wordy.
const TAIL: usize = 60;
const SHORT_TAIL: usize = 12;
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module's head.
#[derive(Debug)]
pub struct Host {
    /// Its name, and its Consul node's: `a`, `b`, …
    pub name: String,
    /// Its address on the hosts' network.
    pub address: Ipv4Addr,
    /// Its Docker daemon.
    pub docker: Docker,
    /// Its Consul agent; not running in a cluster without Consul.
    pub consul: Consul,
    /// Its Nomad agent; see [`Host::start_nomad`].
    pub nomad: Nomad,
    /// Its Steppe; not running until the test starts it.
    pub suite: Suite,
    home: Home,
    // Last: fields are dropped in this order, and the init can end only after the daemons.
    holder: Mutex<Option<Holder>>,
}

impl Host {
    /// `first` is the address of the cluster's first host.
    pub(crate) fn new(name: &str, address: Ipv4Addr, first: Ipv4Addr, holder: Holder, cluster: &str) -> Self {
        let home = holder.home();
        tools::install(&home.namespaces);
        Self {
            docker: Docker::new(home, cluster),
            consul: Consul::client(name, address, home),
            nomad: Nomad::new(name, address, first, home),
            suite: Suite::new(home),
            name: name.to_owned(),
            address,
            home: home.clone(),
            holder: Mutex::new(Some(holder)),
        }
    }

    /// Starts Nomad, whose jobs can use the image `steppe-probe:1`, and waits until it is ready. The first host's must be
    /// started first: it is the server. Steppe's control has it as a source from its next start on.
    ///
    /// # Panics
    /// When there is no Nomad, or it doesn't get ready.
    pub fn start_nomad(&self) {
        self.docker.tag_image();
        self.suite.control.env("NOMAD_ADDR", "http://127.0.0.1:4646");
        self.nomad.start();
    }

    /// Its IPv6 address in a cluster [with IPv6](crate::Spec::ipv6): `fd77::11` where the other is 10.77.0.11.
    pub fn address6(&self) -> Ipv6Addr {
        let [.., last] = self.address.octets();
        format!("fd77::{last}").parse().expect("decimal digits are hexadecimal ones too")
    }

    /// Gives it [`Host::address6`], before its Docker starts.
    pub(crate) fn ipv6(&self) {
        let address = self.address6();
        let script = "ip addr add $0/64 dev eth0 nodad && ip -6 route add default via $1 dev eth0";
        self.exec("bash", &["-c", script, &address.to_string(), ROUTER6]).ok();
        self.docker.ipv6(address);
    }

    /// Runs a shell script in the host.
    #[track_caller]
    pub fn sh(&self, script: &str) -> Output {
        output::sh(&self.home.namespaces, script)
    }

    /// Runs a program in the host.
    #[track_caller]
    pub fn exec(&self, program: impl AsRef<Path>, arguments: &[&str]) -> Output {
        let mut command = Command::new(program.as_ref());
        command.args(arguments);
        output::run(&self.home.namespaces, command, "")
    }

    /// Runs a program in the host under the identity of one of Steppe's processes.
    #[track_caller]
    pub fn exec_as(&self, identity: Identity, program: &str, arguments: &[&str]) -> Output {
        let mut words = identity.command();
        words.push(program.to_owned());
        words.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        output::run(&self.home.namespaces, command, "")
    }

    /// Runs the probe in the host to its end, as a user without any privilege unless `uid` is 0.
    #[track_caller]
    pub fn probe(&self, uid: u32, arguments: &[&str]) -> Output {
        tools::probe(&self.home.namespaces, uid, arguments)
    }

    /// Describes a long-running program of the test's own, and starts nothing. Its log is `NAME.log`. It must be
    /// dropped before the cluster.
    pub fn daemon(&self, name: &str, identity: Identity, command: &[&str]) -> Daemon {
        let mut words = identity.command();
        words.extend(command.iter().map(|&word| word.to_owned()));
        Daemon::new(name, &self.home, words)
    }

    /// Runs the command line tool, `steppe`.
    #[track_caller]
    pub fn steppe(&self, arguments: &[&str]) -> Output {
        suite::assert_built("steppe");
        self.exec(suite::binary("steppe"), arguments)
    }

    /// Runs `nft` and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn nft(&self, arguments: &[&str]) -> String {
        self.exec("nft", arguments).ok()
    }

    /// Every change of the kernel's rules from now on, in nft's words (`nft monitor`), a line each. It ends with the
    /// host.
    ///
    /// # Panics
    /// When nft can't be started.
    pub fn watch_rules(&self) -> Stamped<String> {
        let sign = "add table inet testbed_mark; delete table inet testbed_mark";
        self.watch(&["nft", "monitor"], || drop(self.nft(&[sign])))
    }

    /// Every change of the host's network interfaces from now on, in ip's words (`ip -oneline monitor link`).
    ///
    /// # Panics
    /// When ip can't be started.
    pub fn watch_links(&self) -> Stamped<String> {
        let sign = "ip link add testbed_mark type bridge && ip link del testbed_mark";
        self.watch(&["ip", "-oneline", "monitor", "link"], || drop(self.sh(sign).ok()))
    }

    /// Follows what a program prints. `sign` makes it print a line with `testbed_mark`: it doesn't tell itself when
    /// it is ready.
    fn watch(&self, words: &[&str], sign: impl Fn()) -> Stamped<String> {
        let name = words.join(" ");
        let (sender, stamped) = Stamped::channel(&name);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = self.enter(|| command.spawn()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                sender.send((now_ns(), line)).ok();
            }
            // The host can't end before its processes are reaped.
            child.wait().ok();
        });
        eventually(PATIENCE, &format!("`{name}` sees a change"), || {
            sign();
            stamped.next().filter(|line| line.contains("testbed_mark")).ok_or("nothing")
        });
        stamped
    }

    /// Runs `grpcurl -unix -plaintext OPTIONS SOCKET WORDS` on a process's socket, such as `&host.suite.proxy`;
    /// the options are those of grpcurl (`["-d", "{}"]`), the words `["list"]`, `["describe", "steppe.v1.Proxy"]`
    /// or a method's name.
    #[track_caller]
    pub fn grpcurl(&self, daemon: &Daemon, options: &[&str], words: &[&str]) -> Output {
        let program = suite::target_dir().join("needs/grpcurl");
        assert!(program.exists(), "{} is missing: run `make install-needs`", program.display());
        let socket = suite::socket(daemon);
        let socket = socket.to_str().expect("the run directory's name is text");
        self.exec(program, &[&["-unix", "-plaintext"], options, &[socket], words].concat())
    }

    /// Connects once from the host itself, and reads the server's name.
    pub fn connect(&self, to: impl Into<SocketAddr>, timeout: Duration) -> Attempt {
        let to = to.into();
        self.enter(|| Attempt::make(to, timeout))
    }

    /// Runs `work` inside the host, on a thread of its own; see [`Namespaces::enter`](crate::Namespaces::enter).
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.home.namespaces.enter(work)
    }

    /// Asks an HTTP server from inside the host, such as the metrics.
    ///
    /// # Errors
    /// When it can't be reached or answers with an error.
    pub fn http_get(&self, to: SocketAddr, path: &str) -> Result<String, String> {
        self.enter(|| {
            let response = crate::http::request(crate::http::tcp(to)?, "GET", path, "text/plain", &[])?;
            if response.status == 200 { response.text() } else { Err(format!("status {}", response.status)) }
        })
    }

    /// A power failure: all its processes are gone at once, and its network with them.
    pub fn crash(&self) {
        let daemons = [&self.docker.daemon, &self.consul.daemon, &self.nomad.daemon];
        self.suite.all().iter().chain(&daemons).for_each(|daemon| daemon.kill());
        drop(self.holder.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Its init's pid as seen from outside: `nsenter -t PID -a` enters. None after [`Host::crash`].
    pub fn pid(&self) -> Option<u32> {
        let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        holder.as_ref().map(Holder::pid)
    }

    /// Everything that may explain a failure: rules, addresses, routes, containers, the ends of all logs.
    pub fn dump(&self) -> String {
        let mut text = format!("==== host {} ({})\n", self.name, self.address);
        if self.pid().is_none() {
            text.push_str("crashed\n");
            return text;
        }
        for script in ["nft list ruleset", "ip -br addr", "ip route show table all", "ls -ln /run/steppe"] {
            let out = self.sh(script);
            writeln!(text, "---- {script}\n{}{}", out.stdout, out.stderr).ok();
        }
        if self.docker.daemon.is_running() {
            let list = self.docker.try_call("GET", "/containers/json?all=1", &Value::Null);
            let list = list.unwrap_or_else(Value::String);
            writeln!(text, "---- containers").ok();
            for container in list.as_array().into_iter().flatten() {
                let networks = &container["NetworkSettings"]["Networks"];
                let (names, status, labels) =
                    (&container["Names"], &container["Status"], &container["Labels"]);
                writeln!(text, "{names} {status} {labels} {networks}").ok();
            }
        }
        let suite = self.suite.all().map(|daemon| (daemon, TAIL));
        let others =
            [&self.docker.daemon, &self.consul.daemon, &self.nomad.daemon].map(|daemon| (daemon, SHORT_TAIL));
        for (daemon, lines) in suite.into_iter().chain(others) {
            let log = daemon.log();
            if !log.is_empty() {
                let state = if daemon.is_running() { "running" } else { "not running" };
                writeln!(text, "---- {} ({state}), all in {}", daemon.name(), daemon.log_path().display())
                    .ok();
                writeln!(text, "{}", tail(&log, lines)).ok();
            }
        }
        text
    }
}
