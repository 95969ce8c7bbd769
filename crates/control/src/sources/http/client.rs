//! One GET to an HTTP API: bounded in size and time, and never an empty answer where there was none.

use std::{fs, net::SocketAddr, path::Path, time::Duration};

use reqwest::{
    Certificate, Identity, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderValue},
};

use super::{Address, Dialect, Settings, Token};
use crate::sources::{SourceError, text::first_line};

/// Ten thousand instances of one service take some 12 MiB.
const LARGEST_MIB: usize = 32;
/// The beginning of an error's body is enough.
const ERROR_BYTES: usize = 4096;
const CONNECT: Duration = Duration::from_secs(5);

/// A connection pool to one agent.
#[derive(Debug)]
pub(in crate::sources) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Token,
    dialect: &'static Dialect,
}

/// A successful answer.
#[derive(Debug)]
pub(in crate::sources) struct Answer {
    /// The index that its state has, if it comes from the catalogue.
    pub(in crate::sources) index: Option<u64>,
    /// The server kept something back that the token may not see.
    pub(in crate::sources) filtered: bool,
    pub(in crate::sources) body: Vec<u8>,
}

impl Client {
    pub(in crate::sources) fn new(config: &Settings) -> Result<Self, SourceError> {
        // Fails only if one is installed already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let dialect = config.dialect;
        let failed = |error| SourceError::Client(dialect, error);
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_danger_accept_invalid_certs(!config.verify);
        let mut authorities = Vec::new();
        for path in &config.ca_certs {
            let pem = read(dialect.ca_cert, path)?;
            let certificates = Certificate::from_pem_bundle(&pem).map_err(failed)?;
            if certificates.is_empty() {
                return Err(file(dialect.ca_cert, path, "no certificate in PEM form is in it"));
            }
            authorities.extend(certificates);
        }
        if !authorities.is_empty() {
            builder = builder.tls_certs_only(authorities);
        }
        if let Some((certificate, key)) = &config.client_cert {
            let mut pem = read(dialect.client_cert, certificate)?;
            pem.push(b'\n');
            pem.extend(read(dialect.client_key, key)?);
            builder = builder.identity(Identity::from_pem(&pem).map_err(failed)?);
        }
        if let Token::File(path) = &config.token {
            token(dialect, &read(dialect.token_file, path)?, path)?;
        }
        let base = match &config.address {
            Address::Unix(path) => {
                builder = builder.unix_socket(path.as_path());
                Url::parse("http://localhost")
                    .map_err(|e| server_name(dialect, "localhost", &e.to_string()))?
            }
            Address::Url(url) => {
                let mut url = url.clone();
                if let Some(name) = &config.server_name {
                    let real = Dialled::new(&url);
                    let named =
                        url.set_host(Some(name)).map_err(|e| server_name(dialect, name, &e.to_string()));
                    named?;
                    if url.domain().is_none() {
                        return Err(server_name(dialect, name, "it is an address"));
                    }
                    builder = builder.dns_resolver(real);
                }
                url
            }
        };
        let http = builder.build().map_err(failed)?;
        Ok(Self { http, base, token: config.token.clone(), dialect })
    }

    /// Asks for `/v1/` and these segments.
    pub(in crate::sources) async fn get(
        &self,
        segments: &[&str],
        query: &str,
        within: Duration,
    ) -> Result<Answer, SourceError> {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push("v1").extend(segments);
        }
        url.set_query((!query.is_empty()).then_some(query));
        let mut request = self.http.get(url).timeout(within);
        if let Some(token) = self.token().await? {
            request = request.header(self.dialect.token_header, token);
        }
        let read = async {
            let response = request.send().await.map_err(|e| self.http_error(e))?;
            let status = response.status().as_u16();
            let headers = response.headers().clone();
            let largest = if status == 200 { LARGEST_MIB << 20 } else { ERROR_BYTES };
            let body = match body(response, largest).await {
                // What it says about the error may be as long as it likes.
                Ok(Body::Cut(beginning)) if status != 200 => beginning,
                Ok(Body::Cut(_)) => return Err(SourceError::TooLarge(LARGEST_MIB)),
                Ok(Body::Whole(body)) => body,
                Err(error) => return Err(self.http_error(error)),
            };
            answer(self.dialect, status, &headers, body)
        };
        read.await.map_err(|error| match error {
            SourceError::Http(_, error) if error.is_timeout() => SourceError::Timeout(within.as_secs()),
            other => other,
        })
    }

    /// The address is known, and the path is ours: they would only hide the cause.
    fn http_error(&self, error: reqwest::Error) -> SourceError {
        SourceError::Http(self.dialect, error.without_url())
    }

    async fn token(&self) -> Result<Option<HeaderValue>, SourceError> {
        match &self.token {
            Token::None => Ok(None),
            Token::Given(text) => token(self.dialect, text.as_bytes(), Path::new("")).map(Some),
            Token::File(path) => {
                let bytes = tokio::fs::read(path).await;
                let bytes = bytes.map_err(|e| file(self.dialect.token_file, path, &e.to_string()))?;
                token(self.dialect, &bytes, path).map(Some)
            }
        }
    }
}

enum Body {
    Whole(Vec<u8>),
    Cut(Vec<u8>),
}

async fn body(mut response: reqwest::Response, largest: usize) -> Result<Body, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = largest - body.len();
        if chunk.len() > room {
            body.extend_from_slice(&chunk[..room]);
            return Ok(Body::Cut(body));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Body::Whole(body))
}

fn answer(
    dialect: &'static Dialect,
    status: u16,
    headers: &HeaderMap,
    body: Vec<u8>,
) -> Result<Answer, SourceError> {
    if status != 200 {
        return Err(SourceError::Status { status, line: first_line(&String::from_utf8_lossy(&body)) });
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // A stale answer of a server without a leader may come from one that has lost or not yet loaded its state.
    if header(dialect.leader_header) == Some("false") {
        return Err(SourceError::NoLeader(dialect));
    }
    let index = header(dialect.index_header).and_then(|index| index.parse().ok());
    let filtered = header(dialect.filtered_header) == Some("true");
    Ok(Answer { index, filtered, body })
}

/// Resolves whatever it is asked for as the host that was given, so that TLS can expect another name.
#[derive(Debug, Clone)]
struct Dialled(String);

impl Dialled {
    fn new(url: &Url) -> Self {
        let host = url.host_str().unwrap_or_default();
        // The port is of no account: that of the URL is dialled.
        Self(format!("{host}:0"))
    }
}

impl Resolve for Dialled {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host(host).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

fn token(dialect: &'static Dialect, bytes: &[u8], path: &Path) -> Result<HeaderValue, SourceError> {
    let text = bytes.trim_ascii();
    let mut value = HeaderValue::from_bytes(text)
        .ok()
        .filter(|_| !text.is_empty())
        .ok_or_else(|| file(dialect.token_file, path, "it does not hold a token alone"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(variable: &'static str, path: &Path) -> Result<Vec<u8>, SourceError> {
    fs::read(path).map_err(|error| file(variable, path, &error.to_string()))
}

fn file(variable: &'static str, path: &Path, problem: &str) -> SourceError {
    SourceError::File { variable, path: path.to_owned(), problem: problem.to_owned() }
}

fn server_name(dialect: &'static Dialect, name: &str, problem: &str) -> SourceError {
    SourceError::Variable {
        variable: dialect.server_name,
        problem: format!("`{}`: {problem}", first_line(name)),
        write: "write the name in the server's certificate, such as server.dc1.consul or server.global.nomad",
    }
}
