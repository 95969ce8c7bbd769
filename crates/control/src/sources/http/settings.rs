//! What an agent's variables say: the same for Consul and Nomad but for their names.

use std::path::PathBuf;

use super::Address;
use crate::sources::{SourceError, text::first_line};

/// The names that one API has for what both have.
#[derive(Debug, PartialEq, Eq)]
pub struct Dialect {
    /// What people call it.
    pub(in crate::sources) title: &'static str,
    /// The variable of the address.
    pub(in crate::sources) address: &'static str,
    /// What to write there.
    pub(in crate::sources) write_address: &'static str,
    pub(in crate::sources) token: &'static str,
    pub(in crate::sources) token_file: &'static str,
    pub(in crate::sources) ca_cert: &'static str,
    pub(in crate::sources) client_cert: &'static str,
    pub(in crate::sources) client_key: &'static str,
    pub(in crate::sources) server_name: &'static str,
    pub(in crate::sources) token_header: &'static str,
    pub(in crate::sources) index_header: &'static str,
    pub(in crate::sources) leader_header: &'static str,
    pub(in crate::sources) filtered_header: &'static str,
}

/// What the variables say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sources) struct Settings {
    pub(in crate::sources) dialect: &'static Dialect,
    pub(in crate::sources) address: Address,
    pub(in crate::sources) token: Token,
    pub(in crate::sources) ca_certs: Vec<PathBuf>,
    /// The certificate and its key.
    pub(in crate::sources) client_cert: Option<(PathBuf, PathBuf)>,
    pub(in crate::sources) verify: bool,
    pub(in crate::sources) server_name: Option<String>,
}

/// The ACL token that goes with each request.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::sources) enum Token {
    None,
    Given(String),
    /// Read for each request: such files are rewritten when a token is renewed.
    File(PathBuf),
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

impl Settings {
    /// None when the address is not given. `ssl` is for an address without a scheme.
    pub(in crate::sources) fn from_env(
        lookup: &impl Fn(&str) -> Option<String>,
        dialect: &'static Dialect,
        ssl: bool,
        verify: bool,
    ) -> Result<Option<Self>, SourceError> {
        let get = |name: &str| variable(lookup, name);
        let Some(address) = get(dialect.address) else { return Ok(None) };
        let token = match (get(dialect.token), get(dialect.token_file)) {
            (Some(token), _) if !token.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err(SourceError::Variable {
                    variable: dialect.token,
                    problem: "it has characters that no token has".into(),
                    write: "write the token's SecretID",
                });
            }
            (Some(token), _) => Token::Given(token),
            (None, Some(path)) => Token::File(path.into()),
            (None, None) => Token::None,
        };
        let client_cert = match (get(dialect.client_cert), get(dialect.client_key)) {
            (Some(cert), Some(key)) => Some((cert.into(), key.into())),
            (None, None) => None,
            (Some(_), None) => {
                return Err(alone(dialect.client_cert, dialect.client_key));
            }
            (None, Some(_)) => {
                return Err(alone(dialect.client_key, dialect.client_cert));
            }
        };
        Ok(Some(Self {
            dialect,
            address: Address::parse(&address, ssl, dialect)?,
            token,
            ca_certs: get(dialect.ca_cert).map(Into::into).into_iter().collect(),
            client_cert,
            verify,
            server_name: get(dialect.server_name),
        }))
    }
}

fn alone(variable: &'static str, other: &'static str) -> SourceError {
    let problem = format!("it is given without {other}");
    SourceError::Variable { variable, problem, write: "write the paths of both" }
}

/// A variable's value, if it has one.
pub(in crate::sources) fn variable(lookup: &impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    lookup(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

/// A variable that is true or false: what Go's strconv.ParseBool takes, as the ecosystem's own tools do.
pub(in crate::sources) fn flag(
    lookup: &impl Fn(&str) -> Option<String>,
    name: &'static str,
    default: bool,
) -> Result<bool, SourceError> {
    variable(lookup, name).map_or(Ok(default), |text| boolean(name, &text))
}

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
