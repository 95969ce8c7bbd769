//! Where Docker is.

use std::path::PathBuf;

use crate::sources::SourceError;

/// Docker's own default (dockerd(8)).
const DEFAULT: &str = "/var/run/docker.sock";

/// Which Docker daemon to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The daemon's unix socket.
    pub socket: PathBuf,
}

impl DockerConfig {
    /// From Docker's own variable `DOCKER_HOST`; `lookup` gives a variable's value.
    ///
    /// # Errors
    /// When it names anything but a unix socket: the addresses of another host's containers mean nothing here.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SourceError> {
        let host = lookup("DOCKER_HOST").filter(|host| !host.trim().is_empty());
        let path = match &host {
            None => DEFAULT,
            Some(host) => {
                let path = host.trim().strip_prefix("unix://").filter(|path| path.starts_with('/'));
                path.ok_or_else(|| SourceError::Variable {
                    variable: "DOCKER_HOST",
                    problem: format!(
                        "`{}` is not a unix socket of this host",
                        crate::sources::text::first_line(host)
                    ),
                    write: "write unix:// and the path of the socket, such as unix:///var/run/docker.sock",
                })?
            }
        };
        Ok(Self { socket: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(host: &str) -> Result<DockerConfig, SourceError> {
        DockerConfig::from_env(|name| (name == "DOCKER_HOST").then(|| host.to_owned()))
    }

    #[test]
    fn unix_sockets_only() {
        assert_eq!(DockerConfig::from_env(|_| None).unwrap().socket.to_str(), Some(DEFAULT));
        assert_eq!(with("").unwrap().socket.to_str(), Some(DEFAULT));
        assert_eq!(with("unix:///run/d.sock").unwrap().socket.to_str(), Some("/run/d.sock"));
        for host in ["tcp://10.0.0.1:2375", "unix://", "unix://relative", "ssh://x", "/run/docker.sock"] {
            let message = with(host).unwrap_err().to_string();
            assert!(message.starts_with("DOCKER_HOST: `") && message.contains("unix:///"), "{message}");
        }
    }
}
