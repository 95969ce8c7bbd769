//! Users' networks: those that Steppe made and nothing is attached to are removed, the others are named.

use std::{collections::BTreeSet, env, path::Path, time::Duration};

use reqwest::{Client, Method};
use serde_json::Value;

use super::steps::Step;

const SOCKET: &str = "/var/run/docker.sock";
/// Docker takes a fraction of a second to remove a network.
const PATIENCE: Duration = Duration::from_secs(20);
const WHAT: &str = "networks";

/// Removes what can be.
pub(super) async fn remove() -> Vec<Step> {
    let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let path = host.as_deref().map_or(SOCKET, |host| host.strip_prefix("unix://").unwrap_or(host));
    if !Path::new(path).exists() {
        return vec![Step::of(WHAT, Ok(format!("there is no {path}, so no Docker")))];
    }
    match remove_by(path).await {
        Ok(steps) if steps.is_empty() => vec![Step::of(WHAT, Ok("there is none".to_owned()))],
        Ok(steps) => steps,
        Err(error) => {
            let fix = "see docker network ls --filter label=steppe.user";
            vec![Step::failed(WHAT, &format!("Docker does not answer on {path}: {error}: {fix}"))]
        }
    }
}

async fn remove_by(path: &str) -> Result<Vec<Step>, String> {
    // Fails only if one is installed already, which is as good. It is never used, and reqwest insists on it.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = Client::builder().timeout(PATIENCE).no_proxy().unix_socket(Path::new(path)).build();
    let client = client.map_err(|error| error.to_string())?;
    let networks = call(&client, Method::GET, "/networks").await?;
    let containers = call(&client, Method::GET, "/containers/json?all=1").await?;
    let mut steps = Vec::new();
    for (id, name) in own(&networks) {
        let attached = attached(&containers, &id, &name);
        let what = format!("network {name}");
        steps.push(if attached.is_empty() {
            let removed = call(&client, Method::DELETE, &format!("/networks/{id}")).await;
            Step::of(&what, removed.map(|_| "removed".to_owned()))
        } else {
            let names = attached.into_iter().collect::<Vec<_>>().join(", ");
            Step::failed(&what, &format!("in use by {names}: remove them, then docker network rm {name}"))
        });
    }
    Ok(steps)
}

async fn call(client: &Client, method: Method, path: &str) -> Result<Value, String> {
    let failed = |error: reqwest::Error| error.without_url().to_string();
    let response = client.request(method, format!("http://docker{path}")).send().await.map_err(failed)?;
    let is_good = response.status().is_success();
    let body = response.bytes().await.map_err(failed)?;
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    if is_good { Ok(value) } else { Err(value["message"].as_str().unwrap_or("it says no").to_owned()) }
}

/// The ids and names of those that Steppe made: label, name and bridge say so.
fn own(networks: &Value) -> Vec<(String, String)> {
    let networks = networks.as_array().into_iter().flatten();
    let own = networks.filter_map(|network| {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let (id, name, user) =
            (text(&network["Id"])?, text(&network["Name"])?, text(&network["Labels"]["steppe.user"])?);
        let bridge = text(&network["Options"]["com.docker.network.bridge.name"])?;
        (name == format!("steppe-{user}") && bridge.starts_with("steppe-")).then_some((id, name))
    });
    own.collect()
}

/// The containers that name a network, running or not.
fn attached(containers: &Value, id: &str, name: &str) -> BTreeSet<String> {
    let containers = containers.as_array().into_iter().flatten();
    let attached = containers.filter(|container| {
        let networks = container["NetworkSettings"]["Networks"].as_object();
        let mode = container["HostConfig"]["NetworkMode"].as_str();
        networks.into_iter().flatten().any(|(key, on)| key == name || on["NetworkID"] == id)
            || mode.is_some_and(|mode| mode == name || mode == id)
    });
    let name = |container: &Value| {
        let name = container["Names"][0].as_str().or(container["Id"].as_str()).unwrap_or_default();
        name.trim_start_matches('/').to_owned()
    };
    attached.map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_steppe_made_goes_and_whoever_names_it_is_told() {
        let network = |name: &str, user: &str, bridge: &str| {
            json!({ "Id": name, "Name": name, "Labels": { "steppe.user": user },
                "Options": { "com.docker.network.bridge.name": bridge } })
        };
        let networks = json!([
            network("steppe-alice", "alice", "steppe-alice"),
            network("steppe-alice", "bob", "steppe-alice"),
            network("steppe-carol", "carol", "br-own"),
            { "Id": "b", "Name": "bridge", "Labels": {}, "Options": {} },
        ]);
        assert_eq!(own(&networks), [("steppe-alice".to_owned(), "steppe-alice".to_owned())]);
        let containers = json!([
            { "Names": ["/by-name"], "NetworkSettings": { "Networks": { "n": {} } } },
            { "Names": ["/by-id"], "NetworkSettings": { "Networks": { "x": { "NetworkID": "i" } } } },
            { "Names": ["/by-mode"], "HostConfig": { "NetworkMode": "n" } },
            { "Names": ["/else"], "NetworkSettings": { "Networks": { "bridge": {} } } },
        ]);
        let attached = attached(&containers, "i", "n").into_iter().collect::<Vec<_>>();
        assert_eq!(attached, ["by-id", "by-mode", "by-name"]);
    }
}
