//! Consul's own variables: <https://developer.hashicorp.com/consul/commands#environment-variables>.

use std::{path::PathBuf, sync::Arc};

use super::{address::Address, client::Client};
use crate::sources::{SourceError, text::first_line};

/// How to ask Consul; every file that it names has been read and found good.
#[derive(Clone)]
pub struct ConsulConfig {
    pub(super) client: Arc<Client>,
    settings: Settings,
}

/// What the variables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) address: Address,
    pub(super) token: Token,
    pub(super) ca_cert: Option<PathBuf>,
    /// The certificate and its key.
    pub(super) client_cert: Option<(PathBuf, PathBuf)>,
    pub(super) verify: bool,
    pub(super) server_name: Option<String>,
}

/// The ACL token that goes with each request.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Token {
    None,
    Given(String),
    /// Read for each request: such files are rewritten when a token is renewed.
    File(PathBuf),
}

impl std::fmt::Debug for ConsulConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// A secret is never shown.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Given(_) => f.write_str("given, not shown"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl ConsulConfig {
    /// From the variables that Consul's own tools take; `lookup` gives a variable's value. None when
    /// `CONSUL_HTTP_ADDR` is not given: then Consul is not a source.
    ///
    /// # Errors
    /// The variable that makes no sense, or whose file can't be used, and what to write.
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SourceError> {
        let Some(settings) = Settings::from_env(lookup)? else { return Ok(None) };
        Ok(Some(Self { client: Arc::new(Client::new(&settings)?), settings }))
    }
}

impl Settings {
    fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SourceError> {
        let get = |name: &str| lookup(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let Some(address) = get("CONSUL_HTTP_ADDR") else { return Ok(None) };
        let flag = |variable: &'static str, default| match get(variable) {
            None => Ok(default),
            Some(text) => boolean(variable, &text),
        };
        let ssl = flag("CONSUL_HTTP_SSL", false)?;
        let token = match (get("CONSUL_HTTP_TOKEN"), get("CONSUL_HTTP_TOKEN_FILE")) {
            (Some(token), _) if !token.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(SourceError::Variable {
                    variable: "CONSUL_HTTP_TOKEN",
                    problem: "it has characters that no token has".into(),
                    write: "write the token's SecretID",
                });
            }
            (Some(token), _) => Token::Given(token),
            (None, Some(path)) => Token::File(path.into()),
            (None, None) => Token::None,
        };
        let client_cert = match (get("CONSUL_CLIENT_CERT"), get("CONSUL_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(alone("CONSUL_CLIENT_CERT", "write the path of its key to CONSUL_CLIENT_KEY"));
            }
            (None, Some(_)) => {
                return Err(alone(
                    "CONSUL_CLIENT_KEY",
                    "write the path of its certificate to CONSUL_CLIENT_CERT",
                ));
            }
        };
        Ok(Some(Self {
            address: Address::parse(&address, ssl)?,
            token,
            ca_cert: get("CONSUL_CACERT").map(Into::into),
            client_cert,
            verify: flag("CONSUL_HTTP_SSL_VERIFY", true)?,
            server_name: get("CONSUL_TLS_SERVER_NAME"),
        }))
    }
}

fn alone(variable: &'static str, write: &'static str) -> SourceError {
    SourceError::Variable { variable, problem: "it is given alone".into(), write }
}

/// What Go's strconv.ParseBool takes, as Consul's tools do.
fn boolean(variable: &'static str, text: &str) -> Result<bool, SourceError> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(SourceError::Variable {
            variable,
            problem: format!("`{}` is neither true nor false", first_line(text)),
            write: "write true or false",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Result<Option<Settings>, SourceError> {
        Settings::from_env(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
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
