//! How the story begins: two hosts, a service with three instances, and a container that may connect to it.

use std::net::SocketAddr;

use steppe_integration::ask::{SOON, vip};
use steppe_testbed::Host;

use crate::props::{address, register, wait_up, wait_well};
use crate::stage::{Stage, Stop};

/// The three instances of `web`: the host that each is on, its container's name and its published port.
pub const INSTANCES: [(usize, &str, u16); 3] = [(0, "web-1", 8001), (1, "web-2", 8002), (1, "web-3", 8003)];

/// Steppe is started on the hosts, which are up.
pub fn hosts(stage: &mut Stage, a: &Host, b: &Host) -> Result<(), Stop> {
    let nodes = stage.run_ok(a, "consul members")?;
    stage.check("two hosts and a server are members", nodes.matches(" alive ").count() == 3)?;
    a.suite.start();
    b.suite.start();
    [a, b].into_iter().for_each(wait_well);
    let status = stage.run(a, "steppe status")?;
    stage.check("Steppe is well on both hosts", status.code == 0)
}

/// `web` is registered.
pub fn provider(stage: &mut Stage, a: &Host, b: &Host) -> Result<(), Stop> {
    stage.step(
        "A service `web` gets three instances, one on host a and two on b: containers with a published port.",
    )?;
    for (nth, (on, name, port)) in INSTANCES.into_iter().enumerate() {
        let host = [a, b][on];
        let address = host.address;
        stage.run_ok(
            host,
            &format!(
                "docker run -d --name {name} -p {port}:80 steppe-probe probe serve --port 80 --name {name}"
            ),
        )?;
        let definition = format!(
            r#"{{ "service": {{ "name": "web", "id": "{name}", "address": "{address}", "port": {port},
               "check": {{ "tcp": "{address}:{port}", "interval": "1s", "status": "passing" }} }} }}"#
        );
        stage.must(host, &format!("cat >{name}.json <<'END'\n{definition}\nEND"))?;
        if nth == 0 {
            stage.run_ok(host, &format!("cat {name}.json"))?;
        }
        stage.run_ok(host, &format!("consul services register {name}.json"))?;
    }
    a.consul.wait_passing("web", INSTANCES.len(), SOON);
    stage.check("Consul has three healthy instances of web", true)
}

/// `api` is granted `web`; returned are `api`'s address and `web`'s virtual IP, with its port.
pub fn consumer(stage: &mut Stage, a: &Host) -> Result<(String, SocketAddr), Stop> {
    stage.step("A container `api` asks for `web` by one tag in Consul, and `web` gets a virtual IP.")?;
    stage.run_ok(a, "docker run -d --name api steppe-probe probe wait")?;
    let api = address(stage, a, "api")?;
    stage.run_ok(a, &register("api", &api, Some("connect_to=web:80")))?;
    wait_up(a, INSTANCES.len());
    stage.run_ok(a, "steppe services")?;
    let web = vip(a, "web", 80);
    stage.check(&format!("web is {} for api, with all three instances", web.ip()), true)?;
    Ok((api, web))
}
