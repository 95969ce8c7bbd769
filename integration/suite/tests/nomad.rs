//! Tests on a real Nomad, which no package registry carries: `make test-nomad`. Each host has an agent, the first one is the
//! cluster's server as well.

mod endpoints;
mod grants;
mod jobs;
mod namespaces;
mod system_job;

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;
use steppe_testbed::{Container, Host, eventually};

use crate::common::{SOON, reach::vip_of};

/// Nomad plans, starts and registers within a second or two; a busy machine takes longer.
const PLACED: Duration = Duration::from_secs(90);

/// What this Nomad lacks for a test, in the report's words; see `integration/run-nomad-tests`.
fn not_run(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("\nnot run: {name}: {why}");
}

/// The major and minor version of the Nomad under test.
fn version(host: &Host) -> (u32, u32) {
    let own = host.nomad.call("GET", "/v1/agent/self", &Value::Null);
    let version = text(&own["config"]["Version"]["Version"]);
    let mut parts = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Waits until an allocation of the job's only group runs, and returns it.
#[track_caller]
fn running(host: &Host, job: &str) -> Value {
    eventually(PLACED, &format!("job {job} runs"), || host.nomad.running(job, job))
}

/// The container of a job's only task, which has the job's name.
#[track_caller]
fn container(host: &Host, job: &str, alloc: &Value) -> Container {
    host.docker.container(&format!("{job}-{}", text(&alloc["ID"])))
}

/// Waits until a job's only task, which is a server, listens: Consul lists it before, and who is sent there then is refused, and
/// passes it over for a while.
#[track_caller]
fn serving(host: &Host, job: &str) {
    let container = container(host, job, &running(host, job));
    container.lines().until(SOON, "it listens", |line| line.starts_with("listening ").then_some(()));
}

/// The address of a service of namespace `default`, which a job asks for.
fn web(host: &Host) -> SocketAddr {
    vip_of(host, "default", "web", 80)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
