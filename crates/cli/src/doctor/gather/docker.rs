//! What Docker says of itself.

use std::{env, path::Path};

use super::http::Server;
use crate::doctor::facts::{Docker, Known};

const SOCKET: &str = "/var/run/docker.sock";

pub(super) async fn ask() -> Known<Docker> {
    let host = env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let path = match host.as_deref() {
        None => SOCKET,
        Some(host) => {
            host.strip_prefix("unix://").ok_or("DOCKER_HOST: control speaks to a unix:// socket alone")?
        }
    };
    let failed = |error: String| format!("Docker does not answer on {path}: {error}");
    let server = Server::unix(Path::new(path)).map_err(failed)?;
    let version = server.get("/version").await.map_err(|error| failed(error.into()))?;
    let info = server.get("/info").await.map_err(|error| failed(error.into()))?;
    let security = info["SecurityOptions"].as_array().into_iter().flatten();
    Ok(Docker {
        version: version["Version"].as_str().unwrap_or_default().to_owned(),
        security: security.filter_map(|option| option.as_str()).map(str::to_owned).collect(),
        firewall: info["FirewallBackend"]["Driver"].as_str().map(str::to_owned),
    })
}
