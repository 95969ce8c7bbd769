//! What Docker says of itself, and what its daemon was told.

use std::{env, fs, path::Path};

use serde_json::Value;

use super::http::Server;
use crate::doctor::facts::{Docker, Known};

const SOCKET: &str = "/var/run/docker.sock";
/// The daemon's defaults (dockerd's `--pidfile` and `--config-file`).
const PID_FILE: &str = "/var/run/docker.pid";
const CONFIG_FILE: &str = "/etc/docker/daemon.json";

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
    let containers = format!("{}/containers", info["DockerRootDir"].as_str().unwrap_or("/var/lib/docker"));
    let security = info["SecurityOptions"].as_array().into_iter().flatten();
    Ok(Docker {
        version: version["Version"].as_str().unwrap_or_default().to_owned(),
        security: security.filter_map(|option| option.as_str()).map(str::to_owned).collect(),
        firewall: info["FirewallBackend"]["Driver"].as_str().map(str::to_owned),
        iptables: makes_rules(&command_line(), |file| fs::read_to_string(file).unwrap_or_default()),
        containers_unread: fs::read_dir(&containers).err().map(|error| error.to_string()),
        containers,
    })
}

/// How the daemon was started; empty when that is not known.
fn command_line() -> Vec<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let words = read(&format!("/proc/{}/cmdline", read(PID_FILE).trim()));
    words.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// What `iptables` is set to, by the command line or by the file: Docker refuses to start when both say something.
fn makes_rules(command_line: &[String], read: impl Fn(&str) -> String) -> bool {
    let flag = |name: &str| {
        command_line.iter().enumerate().find_map(|(at, word)| {
            let rest = word.strip_prefix("--").unwrap_or(word).strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value.to_owned()),
                None if rest.is_empty() => command_line.get(at + 1).cloned(),
                None => None,
            }
        })
    };
    if flag("iptables").as_deref() == Some("false") {
        return false;
    }
    let file = flag("config-file").unwrap_or_else(|| CONFIG_FILE.to_owned());
    let config: Value = serde_json::from_str(&read(&file)).unwrap_or_default();
    config["iptables"] != false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_was_told_is_read_from_both_places() {
        let told = |words: &str, file: &'static str| {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            makes_rules(
                &words,
                move |path| if path.ends_with("mine.json") { file.to_owned() } else { String::new() },
            )
        };
        assert!(told("", "") && told("dockerd --iptables", "") && told("dockerd --iptables=true", ""));
        assert!(!told("dockerd --iptables=false", ""));
        assert!(!told("dockerd --config-file mine.json", r#"{ "iptables": false }"#));
        assert!(told("dockerd --config-file=mine.json", r#"{ "iptables": true }"#));
        assert!(told("dockerd --config-file=mine.json", "no JSON"));
    }
}
