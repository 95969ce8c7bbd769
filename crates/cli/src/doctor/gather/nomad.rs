//! What the Nomad agent of this host says.

use std::{env, ops::RangeInclusive};

use serde_json::Value;

use super::{
    acl,
    http::{Failure, Server},
};
use crate::doctor::facts::{Acl, Known, Nomad};

/// Nomad's default for `client.min_dynamic_port` and `max_dynamic_port`; older versions have no other.
const DYNAMIC_PORTS: RangeInclusive<u16> = 20_000..=32_000;
/// Where a client's agent listens by default.
const ADDRESS: &str = "http://127.0.0.1:4646";

/// `None`: NOMAD_ADDR is not set, and nobody is where Nomad listens by default (which is asked before an installation alone).
pub(super) async fn ask(default_too: bool) -> Option<Known<Nomad>> {
    let lookup = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    match lookup("NOMAD_ADDR") {
        Some(address) => Some(about(&address, lookup).await),
        None if default_too => match about(ADDRESS, lookup).await {
            Err(error) if error.contains("refused") => None,
            known => Some(known),
        },
        None => None,
    }
}

async fn about(address: &str, lookup: impl Fn(&str) -> Option<String>) -> Known<Nomad> {
    let failed = |error: String| format!("Nomad does not answer at {address}: {error}");
    let server = Server::nomad(address, lookup).map_err(failed)?;
    let agent = match server.get("/v1/agent/self").await {
        Ok(agent) => agent,
        Err(Failure::Status(403, _)) => {
            return Err("the token may not ask the agent: agent { policy = \"read\" }".into());
        }
        Err(error) => return Err(failed(error.into())),
    };
    let acl = if agent["config"]["ACL"]["Enabled"] == true { acl::ask(&server).await } else { Acl::Off };
    Ok(Nomad { acl, ..read(&agent) })
}

/// `/v1/agent/self`. Until 1.5 or so a plugin's configuration is as the file has it, where a block is a list of one.
fn read(agent: &Value) -> Nomad {
    let config = &agent["config"];
    let plugins = config["Plugins"].as_array().into_iter().flatten();
    let docker =
        plugins.filter(|plugin| plugin["Name"] == "docker").map(|plugin| &plugin["Config"]).next_back();
    let docker = docker.map(single).unwrap_or(&Value::Null);
    let volumes = &single(&docker["volumes"])["enabled"];
    let caps = docker["allow_caps"].as_array().map(|caps| {
        let names = caps.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase);
        names.map(|name| name.trim_start_matches("cap_").to_owned()).collect()
    });
    let port = |name: &str, default: u16| {
        let port = config["Client"][name].as_u64().and_then(|port| u16::try_from(port).ok());
        port.filter(|port| *port != 0).unwrap_or(default)
    };
    let version = &config["Version"];
    let version = version["Version"].as_str().or(version.as_str()).unwrap_or_default().to_owned();
    Nomad {
        version,
        client: config["Client"]["Enabled"] == true,
        allow_caps: caps,
        volumes: volumes == true || volumes == "true",
        dynamic_ports: port("MinDynamicPort", *DYNAMIC_PORTS.start())
            ..=port("MaxDynamicPort", *DYNAMIC_PORTS.end()),
        acl: Acl::Off,
    }
}

fn single(value: &Value) -> &Value {
    value.as_array().and_then(|list| list.first()).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_plugins_configuration_is_read_in_both_shapes() {
        let plugin = |config: Value| {
            read(&json!({ "config": {
                "Version": { "Version": "1.1.18" }, "Client": { "Enabled": true, "MinDynamicPort": 21000 },
                "Plugins": [{ "Name": "raw_exec", "Config": null }, { "Name": "docker", "Config": config }],
            }}))
        };
        for config in [
            json!({ "volumes": [{ "enabled": true }], "allow_caps": ["CAP_NET_ADMIN", "chown"] }),
            json!({ "volumes": { "enabled": true }, "allow_caps": ["net_admin", "chown"] }),
        ] {
            let nomad = plugin(config);
            assert!(nomad.volumes && nomad.client);
            assert_eq!(nomad.allow_caps.unwrap(), ["net_admin", "chown"]);
            assert_eq!((nomad.version.as_str(), nomad.dynamic_ports), ("1.1.18", 21_000..=32_000));
        }
        let nomad = plugin(Value::Null);
        assert!(!nomad.volumes && nomad.allow_caps.is_none());
    }
}
