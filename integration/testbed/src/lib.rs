//! The testbed: clusters of hosts on one machine, for tests of Steppe on real parts.
//!
//! A *host* is a set of namespaces (network, mounts, processes, …) with its own Docker daemon, Consul agent and
//! copy of Steppe, in which `/run/steppe`, `/run/docker.sock` and the like have their usual paths. The hosts
//! `a`, `b`, … have the addresses 10.77.0.11, 10.77.0.12, … and a default route to the [`Lan`], which counts
//! every packet for a virtual address that leaves a host. Nothing of the machine's own network, Docker or
//! firewall is touched, and everything is gone when the [`Cluster`] is dropped or its process killed.
//!
//! ```no_run
//! use std::time::Duration;
//! use steppe_testbed::{Cluster, Run, Service};
//! # fn vip() -> std::net::SocketAddr { unimplemented!() }
//!
//! let cluster = Cluster::hosts(2).start(); // Docker and Consul run, Steppe doesn't yet
//! let [a, b] = cluster.all();
//! a.suite.start(); // netfilter-agent, proxy, control; each waits for its socket
//! b.suite.control.arg("--log-format").arg("json").env("RUST_LOG", "debug");
//! b.suite.start();
//!
//! let web = b.docker.run(Run::serve("web", 80).publish(80));
//! let at = (b.address, web.published(80));
//! b.consul.register(&Service::new("web").at(at.0, at.1).tcp_check(at.into()));
//! a.consul.wait_passing("web", 1, Duration::from_secs(5));
//!
//! let api = a.docker.run(Run::connect("api", vip(), Duration::from_millis(5)).label("k", "v"));
//! a.consul.register(&Service::new("api").at(api.address(), 1).tag("connect_to=web:80"));
//! let (_before, first) = api.lines().attempts_until(Duration::from_secs(1), "web answers", |t| t.outcome.is_ok());
//! println!("granted at {} ns by {:?}", first.end_ns, first.outcome.name());
//! println!("{}", a.steppe(&["explain", "api", "web:80"]).ok());
//!
//! a.suite.proxy.kill(); // SIGKILL
//! a.suite.restart(&a.suite.control);
//! cluster.lan.cut("b"); // pull the cable
//! ```
//!
//! Everything here panics when it can't do what it says: in a test that is the failure's message. A failing
//! test dumps the rules, addresses and logs of each host, and with `KEEP=1` leaves them up.
#![forbid(unsafe_code)]

mod cluster;
mod consul;
mod container;
mod daemon;
mod docker;
mod holder;
mod home;
mod host;
mod http;
mod image;
mod lan;
mod leftovers;
mod lines;
mod namespaces;
mod nomad;
mod output;
mod run;
mod runsc;
mod stamped;
mod suite;
mod tools;
mod wait;

pub mod machine;

pub use cluster::{Cluster, Spec};
pub use consul::{Consul, Service};
pub use container::Container;
pub use daemon::Daemon;
pub use docker::Docker;
pub use host::Host;
pub use lan::{Lan, OUTSIDE, OUTSIDE6, ROUTER};
pub use lines::Lines;
pub use namespaces::Namespaces;
pub use nix::sys::signal::Signal;
pub use nomad::Nomad;
pub use output::Output;
pub use run::Run;
pub use stamped::Stamped;
pub use steppe_probe::{Attempt, Outcome, frame, greet, message, now_ns, read_name};
pub use suite::{GROUP, Identity, RUN_DIR, Suite, programs};
pub use wait::{eventually, throughout, within};
