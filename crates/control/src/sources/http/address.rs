//! Where an agent is, as its own command line tool takes it.

use std::path::PathBuf;

use reqwest::Url;

use super::Dialect;
use crate::sources::SourceError;

/// How to reach an HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sources) enum Address {
    /// By TCP, with TLS if the scheme says so.
    Url(Url),
    /// By a unix socket.
    Unix(PathBuf),
}

/// Where an agent listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On a TCP port.
    Tcp {
        /// The host's name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// On a unix socket.
    Unix(PathBuf),
}

impl Address {
    pub(in crate::sources) fn place(&self) -> Place {
        match self {
            Self::Unix(path) => Place::Unix(path.clone()),
            Self::Url(url) => Place::Tcp {
                host: url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                port: url.port_or_known_default().unwrap_or_default(),
            },
        }
    }

    /// `ssl` is for an address without a scheme.
    pub(super) fn parse(text: &str, ssl: bool, dialect: &Dialect) -> Result<Self, SourceError> {
        let wrong = |problem: &str| SourceError::Variable {
            variable: dialect.address,
            problem: format!("`{}` {problem}", crate::sources::text::first_line(text)),
            write: dialect.write_address,
        };
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(wrong("has no absolute path")),
            };
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
            Some(_) => return Err(wrong("has a scheme that the HTTP API does not have")),
            None if ssl => ("https", text),
            None => ("http", text),
        };
        let url =
            Url::parse(&format!("{scheme}://{rest}")).map_err(|e| wrong(&format!("is no address: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("has a user or a password, which the HTTP API does not take"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has more than an address and a path"));
        }
        // Port 80 and 443 vanish from a parsed URL; without a port one has most likely been forgotten.
        let authority = rest.split('/').next().unwrap_or_default();
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match port {
            Some(Ok(1..)) => Ok(Self::Url(url)),
            _ if text.contains("://") && url.port_or_known_default() != Some(0) => Ok(Self::Url(url)),
            _ => Err(wrong("has no port")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::consul::CONSUL;

    fn url(text: &str, ssl: bool) -> String {
        match Address::parse(text, ssl, &CONSUL).unwrap() {
            Address::Url(url) => url.to_string(),
            Address::Unix(path) => panic!("{path:?}"),
        }
    }

    #[test]
    fn addresses_are_read_as_consul_does() {
        assert_eq!(url("127.0.0.1:8500", false), "http://127.0.0.1:8500/");
        assert_eq!(url("127.0.0.1:8501", true), "https://127.0.0.1:8501/");
        assert_eq!(url("http://consul:8500", true), "http://consul:8500/");
        assert_eq!(url("https://consul.example/prefix", false), "https://consul.example/prefix");
        assert_eq!(url("[::1]:8500", false), "http://[::1]:8500/");
        assert_eq!(url("localhost:80", false), "http://localhost/");
        let unix = Address::parse("unix:///run/consul.sock", false, &CONSUL).unwrap();
        assert_eq!(unix, Address::Unix("/run/consul.sock".into()));
    }

    #[test]
    fn an_address_is_a_place() {
        let place = |text: &str| Address::parse(text, false, &CONSUL).unwrap().place();
        let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
        assert_eq!(place("[::1]:8500"), tcp("::1", 8500));
        assert_eq!(place("https://consul.example/prefix"), tcp("consul.example", 443));
        assert_eq!(place("unix:///run/consul.sock"), Place::Unix("/run/consul.sock".into()));
    }

    #[test]
    fn nonsense_is_named() {
        for text in [
            "localhost",
            "[::1]",
            ":8500",
            "127.0.0.1:0",
            "127.0.0.1:99999",
            "http://",
            "tcp://h:1",
            "unix://x",
            "http://u:p@h:1",
            "http://h:1/?x=y",
            "a b:1",
            "http://h:0",
        ] {
            let message = Address::parse(text, false, &CONSUL).expect_err(text).to_string();
            assert!(
                message.starts_with("CONSUL_HTTP_ADDR: `") && message.contains("127.0.0.1:8500"),
                "{message}"
            );
        }
    }
}
