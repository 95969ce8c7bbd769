//! Commands and looks that several steps need.

use steppe_integration::ask::{SOON, service};
use steppe_testbed::{Host, eventually};

use crate::attempts::Attempts;
use crate::stage::{Stage, Stop};

/// Registers a container as a Consul service of the same name, or changes its tag.
pub fn register(name: &str, address: &str, tag: Option<&str>) -> String {
    let tag = tag.map(|tag| format!(" -tag={tag}")).unwrap_or_default();
    format!("consul services register -name={name} -address={address} -port=8080{tag}")
}

/// Asks one of Steppe's processes by gRPC.
pub fn grpcurl(process: &str, words: &str) -> String {
    format!("grpcurl -unix -plaintext /run/steppe/{process}.sock {words}")
}

/// Counts how the connections of a container ended that connects again and again.
pub fn outcomes(name: &str) -> String {
    format!("docker exec {name} cat /calls | cut -d' ' -f3- | sort | uniq -c")
}

/// The same connections, for checking.
pub fn calls(host: &Host, name: &str) -> Attempts {
    Attempts::read(&host.exec("docker", &["exec", name, "cat", "/calls"]).stdout)
}

/// Waits for a line about the connection that a container holds open, and returns it.
pub fn held(host: &Host, name: &str, what: &str) -> String {
    eventually(SOON, &format!("the connection that {name} holds is{what}"), || {
        let lines = host.exec("docker", &["exec", name, "cat", "/held"]).stdout;
        let line = lines.lines().find(|line| line.contains(what)).map(str::to_owned);
        line.ok_or(lines)
    })
}

/// A container's address.
pub fn address(stage: &Stage, host: &Host, name: &str) -> Result<String, Stop> {
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let text = stage.must(host, &format!("docker inspect --format '{format}' {name}"))?;
    Ok(text.trim().to_owned())
}

/// Waits until so many of `web`'s three instances are in use on a host.
pub fn wait_up(host: &Host, instances: usize) {
    eventually(SOON, &format!("{instances} instances of web are up"), || {
        let web = service(host, "web");
        if web["up"] == instances { Ok(()) } else { Err(web.to_string()) }
    });
}

/// Waits until `steppe status` has no complaint: a process that was started has yet to hear from the others.
pub fn wait_well(host: &Host) {
    eventually(SOON, &format!("Steppe is well on host {}", host.name), || {
        let status = host.steppe(&["status"]);
        if status.code == 0 { Ok(()) } else { Err(status.stdout) }
    });
}
