//! One GET, and its JSON.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, Client, ClientBuilder, Identity};
use serde_json::Value;

/// A person waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server, and who asks.
pub(super) struct Server {
    client: Client,
    base: String,
    token: Option<String>,
}

/// Why there is no answer.
pub(super) enum Failure {
    /// The server said so.
    Status(u16, String),
    /// It was not reached, or said nothing that can be read.
    Other(String),
}

impl From<Failure> for String {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Status(status, line) => format!("{status} {line}"),
            Failure::Other(text) => text,
        }
    }
}

fn builder() -> ClientBuilder {
    // Fails only if one is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().timeout(PATIENCE).no_proxy()
}

impl Server {
    /// Behind a unix socket.
    pub(super) fn unix(path: &Path) -> Result<Self, String> {
        let client = builder().unix_socket(path).build().map_err(|error| error.to_string())?;
        Ok(Self { client, base: "http://localhost".into(), token: None })
    }

    /// Nomad, as its own command line finds it (NOMAD_ADDR, NOMAD_TOKEN, NOMAD_CACERT, NOMAD_CLIENT_CERT, NOMAD_CLIENT_KEY,
    /// NOMAD_SKIP_VERIFY).
    pub(super) fn nomad(address: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let mut builder = builder();
        if let Some(path) = lookup("NOMAD_CACERT") {
            let certificates =
                Certificate::from_pem_bundle(&read(&path)?).map_err(|e| format!("{path}: {e}"))?;
            builder = builder.tls_certs_only(certificates);
        }
        if let Some((certificate, key)) = lookup("NOMAD_CLIENT_CERT").zip(lookup("NOMAD_CLIENT_KEY")) {
            let pem = [read(&certificate)?, b"\n".to_vec(), read(&key)?].concat();
            builder = builder.identity(Identity::from_pem(&pem).map_err(|e| format!("{certificate}: {e}"))?);
        }
        let unverified =
            lookup("NOMAD_SKIP_VERIFY").is_some_and(|value| matches!(value.as_str(), "1" | "t" | "true"));
        let client = builder.tls_danger_accept_invalid_certs(unverified).build();
        let client = client.map_err(|error| error.to_string())?;
        Ok(Self { client, base: address.trim_end_matches('/').to_owned(), token: lookup("NOMAD_TOKEN") })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut request = self.client.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("X-Nomad-Token", token);
        }
        let other = |error: reqwest::Error| Failure::Other(innermost(&error));
        let response = request.send().await.map_err(other)?;
        let status = response.status().as_u16();
        let body = response.bytes().await.map_err(other)?;
        if status != 200 {
            let text = String::from_utf8_lossy(&body);
            return Err(Failure::Status(status, text.lines().next().unwrap_or_default().to_owned()));
        }
        serde_json::from_slice(&body).map_err(|error| Failure::Other(format!("{path}: {error}")))
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{path}: {error}"))
}

/// The cause: reqwest's own words only say that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), innermost)
}
