//! Consul's own variables: <https://developer.hashicorp.com/consul/commands#environment-variables>.

use std::sync::Arc;

use crate::sources::{
    Place, SourceError,
    http::{Client, Dialect, Settings, flag, variable},
};

/// Consul's names.
pub(in crate::sources) static CONSUL: Dialect = Dialect {
    title: "Consul",
    address: "CONSUL_HTTP_ADDR",
    write_address: "write host:port, http://host:port, https://host:port or unix:///path, such as 127.0.0.1:8500",
    token: "CONSUL_HTTP_TOKEN",
    token_file: "CONSUL_HTTP_TOKEN_FILE",
    ca_cert: "CONSUL_CACERT",
    client_cert: "CONSUL_CLIENT_CERT",
    client_key: "CONSUL_CLIENT_KEY",
    server_name: "CONSUL_TLS_SERVER_NAME",
    token_header: "X-Consul-Token",
    index_header: "X-Consul-Index",
    leader_header: "X-Consul-KnownLeader",
    filtered_header: "X-Consul-Results-Filtered-By-ACLs",
};

/// How to ask Consul; every file that it names has been read and found good.
#[derive(Clone)]
pub struct ConsulConfig {
    pub(super) client: Arc<Client>,
    settings: Settings,
}

impl std::fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

impl ConsulConfig {
    /// From the variables that Consul's own tools take; `lookup` gives a variable's value. None when
    /// `CONSUL_HTTP_ADDR` is not given: then Consul is not a source.
    ///
    /// # Errors
    /// The variable that makes no sense, or whose file can't be used, and what to write.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SourceError> {
        let Some(settings) = read(&lookup)? else { return Ok(None) };
        Ok(Some(Self { client: Arc::new(Client::new(&settings)?), settings }))
    }

    /// Where the agent listens.
    #[must_use]
    pub fn place(&self) -> Place {
        self.settings.address.place()
    }
}

fn read(lookup: &impl Fn(&str) -> Option<String>) -> Result<Option<Settings>, SourceError> {
    if variable(lookup, CONSUL.address).is_none() {
        return Ok(None);
    }
    let ssl = flag(lookup, "CONSUL_HTTP_SSL", false)?;
    let verify = flag(lookup, "CONSUL_HTTP_SSL_VERIFY", true)?;
    Settings::from_env(lookup, &CONSUL, ssl, verify)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Settings>, SourceError> {
        read(&|name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn consul_is_off_without_an_address() {
        assert_eq!(with(&[]).unwrap(), None);
        assert_eq!(with(&[("CONSUL_HTTP_ADDR", " "), ("CONSUL_HTTP_TOKEN", "t")]).unwrap(), None);
    }

    #[test]
    fn a_token_is_never_shown() {
        let config = with(&[("CONSUL_HTTP_ADDR", "h:1"), ("CONSUL_HTTP_TOKEN", "s3cr3t")]).unwrap().unwrap();
        assert!(!format!("{config:?}").contains("s3cr3t"));
    }

    #[test]
    fn nonsense_names_its_variable() {
        let address = ("CONSUL_HTTP_ADDR", "127.0.0.1:8500");
        for wrong in [
            ("CONSUL_HTTP_SSL", "maybe"),
            ("CONSUL_HTTP_SSL_VERIFY", "no"),
            ("CONSUL_HTTP_TOKEN", "a b"),
            ("CONSUL_CLIENT_CERT", "/c.pem"),
            ("CONSUL_CLIENT_KEY", "/k.pem"),
        ] {
            let message = with(&[address, wrong]).unwrap_err().to_string();
            assert!(message.starts_with(wrong.0) && message.contains("; write "), "{message}");
        }
    }
}
